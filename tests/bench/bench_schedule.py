"""How late schedules fire: from the slot to the commit of its run, beside the overshoot of `time.sleep` in the same run.

    python tests/bench/bench_schedule.py [--schedules 1,100,1000] [--rounds 3] [--postgres 10000] [--schedulers 1]

A real scheduler over a real store; only its clock is moved, so that the next whole minute is seconds away. All schedules are
minutely: every one is due at the same instant, which is the worst that can be asked for. `--postgres N` does it with N of them
on a PostgreSQL server of its own, which flushes each commit to the disk; `--schedulers` lets so many do it at once.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from optio.model.registry import Registry  # noqa: E402
from optio.processes.scheduler import Scheduler  # noqa: E402
from optio.settings import Settings  # noqa: E402
from optio.store.values import Firing  # noqa: E402
from optio.wiring import build  # noqa: E402
from tests.runs.test_schedule import timed  # noqa: E402
from tests.servers import PostgresServer  # noqa: E402

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
Results = list[list[str] | Exception]


class Watched:
    """The store, noting when each firing was durable that nobody had been quicker with."""

    def __init__(self, store: Any, times: dict[tuple[str, datetime], float], expected: int, done: threading.Event) -> None:
        self._store = store
        self._times, self._expected, self._done = times, expected, done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def ready(self, firings: Sequence[Firing]) -> Callable[[], Future[Results]]:
        ready = self._store.ready(firings)
        keys = [(firing.task_id, firing.verdicts[0].slot) for firing in firings]

        def fire() -> Future[Results]:
            future: Future[Results] = ready()
            future.add_done_callback(lambda done: self._note(keys, done))
            return future

        return fire

    def _note(self, keys: list[tuple[str, datetime]], done: Future[Results]) -> None:
        at = time.time()
        if done.exception() is None:
            self._times |= {
                key: at for key, result in zip(keys, done.result(), strict=True) if isinstance(result, list) and result
            }
            if len(self._times) == self._expected:
                self._done.set()


def lateness(count: int, url: str = "", schedulers: int = 1) -> list[float]:
    """Milliseconds from the slot to the commit, of each schedule."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        environ = {"OPTIO_DATA_DIR": name, **({"OPTIO_DATABASE_URL": url} if url else {})}
        opened = [stack.enter_context(contextlib.closing(build(Settings.load(environ)))) for _ in range(schedulers)]
        task = timed()
        opened[0].store.activate(Registry.of({f"t{n}": replace(task, id=f"t{n}") for n in range(count)}), None)
        times: dict[tuple[str, datetime], float] = {}
        done = threading.Event()
        # The scheduler takes the schedules up, and plans what will be due, before the minute is full.
        shift = datetime.now(UTC) - NOON + timedelta(seconds=2 + count * schedulers / 700)
        started = [
            Scheduler(
                replace(services, store=Watched(services.store, times, count, done)), clock=lambda: datetime.now(UTC) - shift
            )
            for services in opened
        ]
        for scheduler in started:
            scheduler.start()
        done.wait(90)
        for scheduler in started:
            scheduler.stop()
        due = (NOON + shift).timestamp()
        assert len(times) == count, f"{len(times)} of {count} fired"
        return [(at - due) * 1000 for at in times.values()]


def overshoot(times: int = 100) -> list[float]:
    """Milliseconds that `time.sleep` takes longer than asked."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        time.sleep(0.01)
        found.append((time.perf_counter() - start - 0.01) * 1000)
    return found


def row(name: str, values: list[float], peer: float | None = None) -> None:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    ratio = "" if peer is None else f"{p99 / peer:>10.0f}"
    print(f"{name:<28}{statistics.median(ordered):>10.2f}{p99:>10.2f}{ordered[-1]:>10.2f}{ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--schedules", default="1,100,1000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", type=int, metavar="N", help="N schedules on PostgreSQL, and nothing else")
    parser.add_argument("--schedulers", type=int, default=1, help="with --postgres: so many at once, in this process")
    args = parser.parse_args()
    print(f"{'ms late':<28}{'p50':>10}{'p99':>10}{'max':>10}{'p99/sleep':>11}")
    slept = overshoot()
    row("time.sleep", slept)
    peer = sorted(slept)[-2]
    if args.postgres is not None:
        with PostgresServer(fsync=True) as server:
            values = [late for _ in range(args.rounds) for late in lateness(args.postgres, server.schema(), args.schedulers)]
        row(f"PostgreSQL, {args.postgres:,} due at once", values, peer)
        return
    for count in map(int, args.schedules.split(",")):
        values = [late for _ in range(args.rounds) for late in lateness(count)]
        row(f"{count:,} due at once", values, peer)


if __name__ == "__main__":
    main()
