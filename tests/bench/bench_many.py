"""Many machines: runs a second from end to end on PostgreSQL and Redis, and the memory of each part with a full queue.

    python tests/bench/bench_many.py [--runs 600] [--workers 2] [--queued 10000] [--data /dev/shm]

The peer is a bare Dramatiq actor on the same Redis that runs `true` by `subprocess.run`, with as many processes and threads.
The workers' directories lie in `--data`: on a disk whose file system has no journal (ext4 then steps over every inode that was
freed lately) each attempt's six directories can cost more than everything else.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from optio.store.postgres import postgres_store  # noqa: E402
from optio.store.values import RunFilter  # noqa: E402
from tests.servers import PostgresServer, RedisServer  # noqa: E402
from tests.store.build import new_run, serve  # noqa: E402
from tests.support import Dev, command_task, eventually  # noqa: E402

AT_ONCE = 32
PEER = """
import os, subprocess, sys, time
import dramatiq, redis
from dramatiq.brokers.redis import RedisBroker
client = redis.Redis.from_url(sys.argv[1])
broker = RedisBroker(client=client, middleware=[])

@dramatiq.actor(broker=broker, queue_name="bench")
def run(number):
    subprocess.run(["/bin/true"], start_new_session=True)
    client.incr("done")

if len(sys.argv) > 3:
    for number in range(int(sys.argv[3])):
        run.send(number)
else:
    worker = dramatiq.Worker(broker, queues={"bench"}, worker_threads=int(sys.argv[2]), worker_timeout=20)
    worker.start()
    print("ready", flush=True)
    sys.stdin.read()
    worker.stop()
"""


def peer(redis_url: str, runs: int, workers: int) -> float:
    """Completed actors a second; they are queued before the processes start."""
    import redis

    client = redis.Redis.from_url(redis_url)
    client.flushdb()
    subprocess.run([sys.executable, "-c", PEER, redis_url, "0", str(runs)], check=True)
    command = [sys.executable, "-c", PEER, redis_url, str(AT_ONCE // workers)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(workers)]
    try:
        began = None
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
            began = began or time.monotonic()
        assert began is not None
        before = int(client.get("done") or 0)
        eventually(lambda: int(client.get("done") or 0) >= runs, within=120)
        return (runs - before) / (time.monotonic() - began)
    finally:
        for process in processes:
            process.communicate(b"")


def ours(environ: dict[str, str], runs: int, workers: int, data: str | None) -> float:
    """Completed runs a second, from the first to the last; they are queued before the workers start."""
    mine = command_task(["/bin/true"], extra=f"maxConcurrent: {AT_ONCE}\n")
    store = postgres_store.open_store(environ["OPTIO_DATABASE_URL"])
    serve(store, mine)
    for future in [store.accept(new_run(mine)) for _ in range(runs)]:
        future.result(60)
    ended = "SELECT COUNT(*) AS n, MIN(started_at) AS first, MAX(ended_at) AS last FROM runs WHERE ended_at IS NOT NULL"
    with tempfile.TemporaryDirectory(dir=data) as directory, contextlib.ExitStack() as stack:
        for number in range(workers):
            # Each has its own data directory, as on a machine of its own.
            worker = Dev(Path(directory) / str(number), environ=environ, command="worker")
            worker.start(ready=False)
            stack.callback(worker.stop)

        def all_done() -> object:
            time.sleep(0.1)
            row = store._engine.peek(lambda tx: tx.one(ended))
            return row if row["n"] >= runs else None

        row = eventually(all_done, within=120)
        store.close()
        return runs / ((row["last"] - row["first"]) / 1e6)  # type: ignore[index]


def memory(database: PostgresServer, redis: RedisServer, queued: int) -> None:
    """Private and proportional megabytes of each part, with an empty queue and with a full one."""
    environ = {
        "OPTIO_DATABASE_URL": database.schema(), "OPTIO_REDIS_URL": redis.url, "OPTIO_MAX_WORKFLOW_CONCURRENT": "1",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        parts = [Dev(Path(directory), environ=environ, command=command) for command in ("server", "worker", "scheduler")]
        for part in parts:
            part.port, part.url = parts[0].port, parts[0].url
        slow = 'type: standalone\nname: Slow\nagentRuntime: command\ncommand: "sleep 600"\npromptTemplate: "x"\n'
        parts[0].write("slow.yaml", slow)
        assert parts[0].cli("token", "create", "--role", "admin").returncode == 0
        for part in parts:
            part.start(ready=part.command == "server")
            stack.callback(part.stop)
        time.sleep(3)
        before = [_pss(part) for part in parts]
        store = postgres_store.open_store(environ["OPTIO_DATABASE_URL"])
        slow_task = store.definition(store.generation().tasks["slow"])  # type: ignore[union-attr]
        for future in [store.accept(new_run(slow_task)) for _ in range(queued)]:
            future.result(60)
        time.sleep(6)
        after = [_pss(part) for part in parts]
        print(f"\nMiB (PSS) of a part, {'nothing':>10} / {queued:,} runs queued")
        for part, low, high in zip(parts, before, after, strict=True):
            print(f"  {part.command:<22}{low:10.0f}   {high:10.0f}")
        (running,) = store.runs(RunFilter(state=None), limit=1).items
        store.cancel(running.id, "bench")
        store.close()


def _pss(part: Dev) -> float:
    assert part.process is not None
    return float(psutil.Process(part.process.pid).memory_full_info().pss) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", help="where the workers' directories lie")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, PostgreSQL with fsync, Redis, {args.workers} workers")
    with PostgresServer(fsync=True) as database, RedisServer() as redis:
        rates: list[tuple[float, float]] = []
        for _ in range(args.rounds):
            environ = {
                "OPTIO_DATABASE_URL": database.schema(), "OPTIO_REDIS_URL": redis.url,
                "OPTIO_MAX_WORKFLOW_CONCURRENT": str(AT_ONCE), "OPTIO_WORKER_CONCURRENT": str(AT_ONCE // args.workers),
            }  # fmt: skip
            rates.append((peer(redis.url, args.runs, args.workers), ours(environ, args.runs, args.workers, args.data)))
        theirs, mine = (statistics.median(each) for each in zip(*rates, strict=True))
        print(f"bare Dramatiq actor that runs `true`  {theirs:8.0f} /s")
        print(f"runs of `true` from end to end        {mine:8.0f} /s   ratio {mine / theirs:.2f} (aim: 0.3)")
        memory(database, redis, args.queued)


if __name__ == "__main__":
    main()
