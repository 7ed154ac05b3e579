"""Admission: what a claim costs when 100, 1,000 and 10,000 runs of 100 tasks wait, as ratios to the shortest queue.

    python tests/bench/bench_admission.py [--rounds 200] [--driver sqlite|postgres]

All queues are asked in turn, so that a noisy machine hits them alike. `why` reads the whole queue, for it says which place a
run has in it: that one is meant to grow.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from optio.runs import admission  # noqa: E402
from optio.store.postgres import postgres_store  # noqa: E402
from optio.store.sql.store import SqlStore  # noqa: E402
from optio.store.sqlite import sqlite_store  # noqa: E402
from optio.store.values import AdmissionView  # noqa: E402
from tests.servers import PostgresServer  # noqa: E402
from tests.store.build import LEASE, fresh, new_run, serve, task  # noqa: E402

SIZES = (100, 1_000, 10_000)
TASKS = 100
RUNNING = 20
EXTRAS = ("", "priority: 5\n", "startLimit: {count: 1000, per: 1h}\n", "dedupe: {key: K}\n")
Open = Callable[[str], SqlStore]


class Queue:
    """A store in which so many runs wait, and 20 are running."""

    def __init__(self, store: SqlStore, waiting: int) -> None:
        self.store = store
        self.tasks = [task(f"T{n}", f"maxConcurrent: 5\n{EXTRAS[n % len(EXTRAS)]}") for n in range(TASKS)]
        serve(store, *self.tasks)
        wanted = [new_run(self.tasks[n % TASKS], dedupe_key=fresh("key")) for n in range(waiting + RUNNING)]
        for future in [store.accept(run) for run in wanted]:
            future.result(60)
        self._room(RUNNING)
        assert len(store.claim("w", LEASE, self._admit, room=self._room)) == RUNNING
        store._engine.change(lambda tx: tx.run("ANALYZE"))

    def _room(self, running: int) -> int:
        return RUNNING - running

    def _admit(self, view: AdmissionView) -> list[str]:
        return admission.starts(view, max_running=RUNNING)

    def claim(self) -> object:
        """One slot is free, and given away."""
        claims = self.store.claim("w", LEASE, self._admit, room=self._room)
        assert len(claims) == 1
        return claims

    def free(self) -> None:
        """The slot is free again, and as many wait as before."""

        def back(tx: object) -> None:
            tx.run(  # type: ignore[attr-defined]
                "UPDATE runs SET state = 'queued', owner = NULL, lease_until = NULL WHERE seq = "
                "(SELECT MAX(seq) FROM runs WHERE state = 'running')"
            )

        self.store._engine.change(back)

    def nothing(self) -> object:
        """No slot is free."""
        return self.store.claim("w", LEASE, self._admit, room=self._room)

    def due(self) -> object:
        """When to look again."""
        return self.store.next_due()

    def why(self) -> object:
        """Why each of them waits."""
        return admission.decide(self.store.admission(), max_running=RUNNING)

    def joined(self) -> object:
        """A run whose key another stands for is asked for."""
        of = self.tasks[3]
        first = self.store.accept(new_run(of, dedupe_key="K")).result(60)
        assert first.run_id is not None
        return first


def timed(operation: Callable[[], object]) -> float:
    start = time.perf_counter()
    operation()
    return (time.perf_counter() - start) * 1000


def measure(queues: list[Queue], rounds: int) -> dict[str, list[float]]:
    """The median time in ms of each operation, for each queue."""
    taken: dict[str, list[list[float]]] = {}

    def note(name: str, place: int, ms: float) -> None:
        taken.setdefault(name, [[] for _ in queues])[place].append(ms)

    for queue in queues:
        queue.joined()
    for turn in range(rounds):
        for place, queue in enumerate(queues):
            note("no room", place, timed(queue.nothing))
            note("when to look again", place, timed(queue.due))
            note("a duplicate", place, timed(queue.joined))
            queue.free()
            note("claim of one", place, timed(queue.claim))
            if turn < 10:
                note("why all wait", place, timed(queue.why))
    for queue in queues:
        for each in queue.tasks:
            queue.store.pause(each.id, "", "bench")
        queue.free()
    for _ in range(rounds):
        for place, queue in enumerate(queues):
            note("all are paused", place, timed(queue.nothing))
    return {name: [statistics.median(each) for each in columns] for name, columns in taken.items()}


def report(driver: str, found: dict[str, list[float]]) -> None:
    heads = "".join(f"{f'{size:,} wait':>14}" for size in SIZES)
    ratios = "".join(f"{f'x {size // SIZES[0]}':>8}" for size in SIZES[1:])
    print(f"\n{driver + ', median ms':<24}{heads}{ratios}")
    for name, values in found.items():
        cells = "".join(f"{value:>14.3f}" for value in values)
        print(f"{name:<24}{cells}" + "".join(f"{value / values[0]:>8.2f}" for value in values[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--driver", choices=("sqlite", "postgres"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        drivers: dict[str, Open] = {"sqlite": lambda each: sqlite_store.open_store(Path(name) / f"{each}.db")}
        if args.driver != "sqlite":
            server = stack.enter_context(PostgresServer(fsync=True))
            drivers["postgres"] = lambda _: postgres_store.open_store(server.schema())
        for driver, opened in drivers.items():
            if args.driver in (None, driver):
                queues = [Queue(opened(str(size)), size) for size in SIZES]
                report(driver, measure(queues, args.rounds))
                for queue in queues:
                    queue.store.close()


if __name__ == "__main__":
    main()
