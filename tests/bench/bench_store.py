"""The SQLite store: accepted and claimed runs per second, and what a hundred thousand finished runs cost.

    python tests/bench/bench_store.py [--seconds 2] [--finished 100000]

Accepting is measured beside bare `sqlite3` commits of one row with the same durability (WAL, `synchronous=FULL`) on the same
disk, in alternating rounds, so that a noisy machine hits both alike.
"""

import argparse
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from optio.model.run import RunState  # noqa: E402
from optio.runs import admission  # noqa: E402
from optio.store.base import AdmissionView, RunFilter, Waiting  # noqa: E402
from optio.store.sqlite import open_store  # noqa: E402
from tests.store.build import LEASE, START, at_most, delivery, end, fresh, new_run, serve, task  # noqa: E402
from tests.store.test_costs import FINISHED  # noqa: E402

BODY = b"x" * 7000


def per_second(callers: int, seconds: float, one: Callable[[], object]) -> float:
    """How often all callers together get it done."""
    done = [0] * callers
    until = time.perf_counter() + seconds

    def work(place: int) -> None:
        while time.perf_counter() < until:
            one()
            done[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def bare(directory: Path) -> tuple[Callable[[], object], Callable[[], None]]:
    """One row a commit, as durable as ours."""
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b BLOB)")

    def one() -> None:
        connection.execute("INSERT INTO t (b) VALUES (?)", (BODY,))

    return one, connection.close


def accepting(directory: Path, seconds: float) -> None:
    store, mine = open_store(directory / "accept.db"), task()
    serve(store, mine)

    def accept() -> None:
        store.accept(new_run(mine), delivery=delivery(fresh("key"), BODY)).result(60)

    one, close = bare(directory)
    print(f"{'callers':>8}{'accepted/s':>14}{'bare commits/s':>18}{'ratio':>8}")
    for callers in (1, 8, 32):
        ours, theirs = [], []
        for _ in range(3):
            theirs.append(per_second(1, seconds / 3, one))
            ours.append(per_second(callers, seconds / 3, accept))
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"{callers:>8}{a:>14,.0f}{b:>18,.0f}{a / b:>8.2f}")
    close()
    store.close()


def claiming(directory: Path, seconds: float) -> None:
    store, mine = open_store(directory / "claim.db"), task(extra="maxConcurrent: 8\n")
    serve(store, mine)
    futures = [store.accept(new_run(mine)) for _ in range(5000)]
    for future in futures:
        future.result(60)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for claim in store.claim("w", LEASE, at_most(8)):
            end(store, claim)
            done += 1
    rate, left = done / (time.perf_counter() - start), 5000 - done
    print(f"\nclaimed and finished by one worker, {left:,} more waiting: {rate:,.0f} runs/s")
    store.close()


def median_ms(operation: Callable[[], object], times: int = 30) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        operation()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def flatness(directory: Path, many: int) -> None:
    found: dict[str, list[float]] = {}
    for count in (1000, many):
        store, mine = open_store(directory / f"{count}.db"), task()
        serve(store, mine)
        store._engine._writer.executescript(FINISHED.format(count=count))  # type: ignore[attr-defined]
        operations: dict[str, Callable[[], object]] = {
            "accept": lambda store=store, mine=mine: store.accept(new_run(mine)).result(60),
            "claim (limit reached)": lambda store=store: store.claim("w", LEASE, at_most(2)),
            "admission": lambda store=store: store.admission(),
            "next due": lambda store=store: store.next_due(),
            "all runs": lambda store=store: store.runs(RunFilter()),
            "failed runs of a task": lambda store=store: store.runs(RunFilter(state=RunState.FAILED, task_id="job")),
            "manual runs": lambda store=store: store.runs(RunFilter(trigger="manual")),
            "log of a run": lambda store=store: store.log("old-7"),
        }
        for name, operation in operations.items():
            found.setdefault(name, []).append(median_ms(operation))
        store.close()
    print(f"\n{'median ms':<24}{'1,000 finished':>16}{f'{many:,} finished':>20}{'ratio':>8}")
    for name, (few, more) in found.items():
        print(f"{name:<24}{few:>16.3f}{more:>20.3f}{more / few:>8.2f}")


def deciding() -> None:
    queue = [
        Waiting(run_id=f"r{n}", task_id=f"t{n % 100}", seq=n, queued_at=START, not_before=START, max_concurrent=2)
        for n in range(10_000)
    ]
    view = AdmissionView(now=START, waiting=queue)
    print(f"\nadmission of 10,000 runs of 100 tasks: {median_ms(lambda: admission.decide(view, max_running=50)):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--finished", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        accepting(directory, args.seconds)
        claiming(directory, args.seconds)
        flatness(directory, args.finished)
    deciding()


if __name__ == "__main__":
    main()
