"""A store: accepted and claimed runs per second, and what a hundred thousand finished runs cost.

    python tests/bench/bench_store.py [--seconds 2] [--finished 100000] [--postgres]

Accepting is measured beside bare commits of one row with the same durability (SQLite: WAL, `synchronous=FULL`; PostgreSQL:
`fsync` on) on the same disk, in alternating rounds, so that a noisy machine hits both alike.
"""

import argparse
import contextlib
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
from optio.store.postgres import postgres_store  # noqa: E402
from optio.store.sql import schema  # noqa: E402
from optio.store.sql.store import SqlStore  # noqa: E402
from optio.store.sqlite import sqlite_store  # noqa: E402
from optio.store.values import AdmissionView, Claim, QueuedRun, RunFilter  # noqa: E402
from tests.servers import PostgresServer  # noqa: E402
from tests.store.build import LEASE, START, at_most, delivery, end, fresh, new_run, serve, task  # noqa: E402
from tests.store.test_costs import FINISHED  # noqa: E402

BODY = b"x" * 7000
Open = Callable[[str], SqlStore]


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


def bare_postgres(url: str) -> tuple[Callable[[], object], Callable[[], None]]:
    """The same on PostgreSQL."""
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    connection.execute("CREATE TABLE IF NOT EXISTS t (a BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, b BYTEA)")
    return lambda: connection.execute("INSERT INTO t (b) VALUES (%s)", (BODY,)), connection.close


def bare(directory: Path) -> tuple[Callable[[], object], Callable[[], None]]:
    """One row a commit, as durable as ours."""
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b BLOB)")

    def one() -> None:
        connection.execute("INSERT INTO t (b) VALUES (?)", (BODY,))

    return one, connection.close


def accepting(opened: Open, peer: tuple[Callable[[], object], Callable[[], None]], seconds: float) -> None:
    store, mine = opened("accept"), task()
    serve(store, mine)

    def accept() -> None:
        store.accept(new_run(mine), delivery=delivery(fresh("key"), BODY)).result(60)

    one, close = peer
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


def claiming(opened: Open, seconds: float) -> None:
    store, mine = opened("claim"), task(extra="maxConcurrent: 8\n")
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


def fill(store: SqlStore, count: int) -> None:
    """So many runs that have ended, in pieces that fit into the time of a statement."""
    for statement in schema.statements(FINISHED.format(count=count), "postgres"):
        store._engine.change(
            lambda tx, statement=statement: (tx.run("SET LOCAL statement_timeout = 0") if tx.lateral else 0, tx.run(statement))
        )
    store._engine.change(lambda tx: tx.run("ANALYZE"))


def took_ms(operation: Callable[[], object]) -> float:
    start = time.perf_counter()
    operation()
    return (time.perf_counter() - start) * 1000


def operations(store: SqlStore, count: int) -> dict[str, Callable[[], object]]:
    """What people and workers do all day, in a store where so many runs have ended."""
    mine = task(extra="maxConcurrent: 1000\n")
    serve(store, mine)
    fill(store, count)
    page = store.runs(RunFilter())
    assert page.next is not None
    claims: list[Claim] = []

    def claim() -> None:
        claims.extend(store.claim("w", LEASE, at_most(1000)))

    def finish() -> None:
        while claims:
            end(store, claims.pop())

    return {
        "accept": lambda: store.accept(new_run(mine)).result(60),
        "accept a webhook": lambda: store.accept(new_run(mine), delivery=delivery(fresh("key"), BODY)).result(60),
        "claim two": claim,
        "claim, nothing waits": claim,
        "finish two": finish,
        "admission": store.admission,
        "next due": store.next_due,
        "depths": store.depths,
        "all runs": lambda: store.runs(RunFilter()),
        "all runs, second page": lambda: store.runs(RunFilter(), cursor=page.next),
        "runs of a task": lambda: store.runs(RunFilter(task_id="job")),
        "completed runs of a task": lambda: store.runs(RunFilter(state=RunState.COMPLETED, task_id="job")),
        "failed runs of a task": lambda: store.runs(RunFilter(state=RunState.FAILED, task_id="job")),
        "queued runs": lambda: store.runs(RunFilter(state=RunState.QUEUED)),
        "manual runs of a task": lambda: store.runs(RunFilter(trigger="manual", task_id="job")),
        "runs of a task without any": lambda: store.runs(RunFilter(task_id="nobody")),
        "one run": lambda: store.run("old-7"),
        "log of a run": lambda: store.log("old-7"),
        "deliveries": lambda: store.deliveries(),
        "a delivery that is known": lambda: store.known_delivery("job", "k-old-7"),
    }


def flatness(opened: Open, many: int, times: int = 30) -> None:
    """The same in a small and in a large store, in turn, so that a noisy machine hits both alike."""
    stores = {count: opened(f"n{count}") for count in (1000, many)}
    both = {count: operations(store, count) for count, store in stores.items()}
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(times):
        for count, mine in both.items():
            for name, operation in mine.items():
                found.setdefault((name, count), []).append(took_ms(operation))
    print(f"\n{'median ms':<28}{'1,000 finished':>16}{f'{many:,} finished':>20}{'ratio':>8}")
    for name in both[many]:
        few, more = (statistics.median(found[name, count]) for count in (1000, many))
        print(f"{name:<28}{few:>16.3f}{more:>20.3f}{more / few:>8.2f}")
    for store in stores.values():
        store.close()


def deciding() -> None:
    queue = [
        QueuedRun(run_id=f"r{n}", task_id=f"t{n % 100}", seq=n, queued_at=START, not_before=START, max_concurrent=2)
        for n in range(10_000)
    ]
    view = AdmissionView(now=START, waiting=queue)
    taken = statistics.median(took_ms(lambda: admission.decide(view, max_running=50)) for _ in range(30))
    print(f"\nadmission of 10,000 runs of 100 tasks: {taken:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--finished", type=int, default=100_000)
    parser.add_argument("--postgres", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        if args.postgres:
            server = stack.enter_context(PostgresServer(fsync=True))
            opened, peer = (lambda _: postgres_store.open_store(server.schema(), patience=600)), bare_postgres(server.url)
        else:
            opened, peer = (lambda name: sqlite_store.open_store(directory / f"{name}.db")), bare(directory)
        accepting(opened, peer, args.seconds)
        claiming(opened, args.seconds)
        flatness(opened, args.finished)
    deciding()


if __name__ == "__main__":
    main()
