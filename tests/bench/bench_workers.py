"""Runs a second of 1, 2 and 4 workers on PostgreSQL, beside an older checkout, Dramatiq and Procrastinate in the same run.

    python tests/bench/bench_workers.py [--peer CHECKOUT] [--peers PYTHON] [--workers 1,2,4] [--runs 300] [--rounds 3]

Every run is one of `agentRuntime: command` that starts `true`. All are queued before the workers start, and the rate is that
from the first start to the last end. `--peer` is another checkout with a `.venv` of its own. `--peers` is an interpreter with
dramatiq, redis and procrastinate: their jobs run `true` by `subprocess.run`, on as many threads. All take turns in each round,
and a ratio is the median of those of the rounds, because other programs change the speed of a machine. CPU is the time for a
run: of the workers and the database without supervisors and agents, or of the other queue's workers alone.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg
from redis import Redis

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from optio.store.postgres import postgres_store  # noqa: E402
from tests.servers import PostgresServer, RedisServer  # noqa: E402
from tests.store.build import new_run, serve  # noqa: E402
from tests.support import command_task, eventually  # noqa: E402

AT_ONCE = 32
DRAMATIQ = """
import subprocess, sys
import dramatiq, redis
from dramatiq.brokers.redis import RedisBroker
client = redis.Redis.from_url(sys.argv[1])
broker = RedisBroker(client=client, middleware=[])

@dramatiq.actor(broker=broker, queue_name="bench")
def run(number):
    subprocess.run(["/bin/true"], start_new_session=True)
    client.incr("done")

if int(sys.argv[3]):
    for number in range(int(sys.argv[3])):
        run.send(number)
else:
    worker = dramatiq.Worker(broker, queues={"bench"}, worker_threads=int(sys.argv[2]), worker_timeout=20)
    worker.start()
    print("ready", flush=True)
    sys.stdin.read()
    worker.stop()
"""
PROCRASTINATE = """
import asyncio, subprocess, sys
import procrastinate
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=sys.argv[1]))

@app.task(queue="bench", name="run")
def run(number):
    subprocess.run(["/bin/true"], start_new_session=True)

async def main():
    async with app.open_async():
        if int(sys.argv[3]):
            await app.schema_manager.apply_schema_async()
            await run.batch_defer_async(*({"number": number} for number in range(int(sys.argv[3]))))
        else:
            print("ready", flush=True)
            await app.run_worker_async(queues=["bench"], concurrency=int(sys.argv[2]), install_signal_handlers=False)

asyncio.run(main())
"""


class Turn(NamedTuple):
    """Runs a second, and milliseconds of CPU for each run."""

    per_second: float
    cpu_ms: float


def cpu_s(*roots: int) -> float:
    """The CPU time of processes and their living children."""
    total = 0.0
    for root in roots:
        for each in (psutil.Process(root), *psutil.Process(root).children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system
    return total


def ours(checkout: Path, database: PostgresServer, redis: RedisServer, runs: int, workers: int, data: str | None) -> Turn:
    """Queue runs, then start workers of a checkout in directories of their own, as on machines of their own."""
    mine = command_task(["/bin/true"], extra=f"maxConcurrent: {AT_ONCE}\n")
    url = database.schema()
    store = postgres_store.open_store(url)
    serve(store, mine)
    for future in [store.accept(new_run(mine)) for _ in range(runs)]:
        future.result(60)
    environ = {
        **os.environ, "OPTIO_DATABASE_URL": url, "OPTIO_REDIS_URL": redis.url, "OPTIO_METRICS_PORT": "0",
        "OPTIO_MAX_WORKFLOW_CONCURRENT": str(AT_ONCE), "OPTIO_WORKER_CONCURRENT": str(AT_ONCE // workers),
    }  # fmt: skip
    ended = "SELECT COUNT(*) AS n, MIN(started_at) AS first, MAX(ended_at) AS last FROM runs WHERE ended_at IS NOT NULL"
    with tempfile.TemporaryDirectory(dir=data) as directory, contextlib.ExitStack() as stack:
        stack.callback(store.close)
        assert database.process is not None
        servers, begun = [database.process.pid], cpu_s(database.process.pid)
        for number in range(workers):
            log = stack.enter_context((Path(directory) / f"{number}.log").open("wb"))
            worker = subprocess.Popen(
                [sys.executable, "-m", "optio", "worker"], cwd=checkout, stdout=log, stderr=log,
                env={**environ, "OPTIO_DATA_DIR": f"{directory}/{number}"},
            )  # fmt: skip
            stack.callback(worker.wait)
            stack.callback(worker.terminate)
            servers.append(worker.pid)

        def all_done() -> object:
            time.sleep(0.1)
            row = store._engine.peek(lambda tx: tx.one(ended))
            return row if row["n"] >= runs else None

        row = eventually(all_done, within=120)
        used = cpu_s(*servers) - begun
        return Turn(runs / ((row["last"] - row["first"]) / 1e6), used * 1000 / runs)  # type: ignore[index]


def jobs(program: str, python: str, url: str, count: Callable[[], int], runs: int, workers: int) -> Turn:
    """Queue jobs of another queue, then start its workers."""
    before = count()
    subprocess.run([python, "-c", program, url, "0", str(runs)], check=True)
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(workers):
            process = subprocess.Popen(
                [python, "-c", program, url, str(AT_ONCE // workers), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes[:1]:
            assert process.stdout is not None
            process.stdout.readline()
        began, already = time.monotonic(), count()
        eventually(lambda: count() - before >= runs, within=120)
        took = time.monotonic() - began
        return Turn((runs - (already - before)) / took, cpu_s(*[each.pid for each in processes]) * 1000 / runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", type=Path, help="another checkout")
    parser.add_argument("--peers", help="an interpreter with dramatiq, redis and procrastinate")
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", help="where the workers' directories lie")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, PostgreSQL with fsync, {args.runs} runs of `true`")
    with PostgresServer(fsync=True) as database, RedisServer() as redis:
        client = Redis.from_url(redis.url)
        for workers in map(int, args.workers.split(",")):
            turns: dict[str, list[Turn]] = {}
            for _ in range(args.rounds):
                if args.peer is not None:
                    turn = ours(args.peer, database, redis, args.runs, workers, args.data)
                    turns.setdefault("other checkout", []).append(turn)
                turns.setdefault("this checkout", []).append(ours(ROOT, database, redis, args.runs, workers, args.data))
                if args.peers is not None:
                    count = lambda: int(client.get("done") or 0)  # type: ignore[arg-type]  # noqa: E731
                    turn = jobs(DRAMATIQ, args.peers, redis.url, count, args.runs, workers)
                    turns.setdefault("Dramatiq", []).append(turn)
                    with psycopg.connect(url := database.schema(), autocommit=True) as connection:
                        turn = jobs(PROCRASTINATE, args.peers, url, partial(_succeeded, connection), args.runs, workers)
                    turns.setdefault("Procrastinate", []).append(turn)
            for name, found in turns.items():
                ratio = statistics.median(
                    a.per_second / b.per_second for a, b in zip(turns["this checkout"], found, strict=True)
                )
                rate, cpu = (statistics.median(each) for each in zip(*found, strict=True))
                print(
                    f"{workers} workers  {name:<16}{rate:6.0f} /s  {cpu:5.1f} ms CPU  this checkout / it {ratio:.2f}",
                    flush=True,
                )


def _succeeded(connection: psycopg.Connection) -> int:
    if connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone() == (None,):
        return 0
    row = connection.execute("SELECT COUNT(*) FROM procrastinate_jobs WHERE status = 'succeeded'").fetchone()
    return 0 if row is None else int(row[0])


if __name__ == "__main__":
    main()
