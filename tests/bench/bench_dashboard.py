"""Pages of the dashboard on a large store: the time of each page's HTML, beside an empty Litestar page.

    python -m tests.bench.bench_dashboard seed DIR [--tasks 10000] [--runs 1000000] [--lines 1000000] [--deliveries 300000]
        [--generations 30] [--database URL]
    python -m tests.bench.bench_dashboard serve DIR [--port 8765] [--database URL]
    python -m tests.bench.bench_dashboard measure DIR [--rounds 40] [--only /runs] [--database URL]
    python -m tests.bench.bench_dashboard postgres DIR

`seed` fills an empty directory (SQLite) or database; one million runs take minutes. `serve` starts `optio server` on it,
without a worker, and prints its address and a token of each role. `measure` does the same, and requests every page in turn
with an empty page of the same framework and server configuration, so that a busy machine hits both alike. `postgres` starts a
PostgreSQL whose data stay in DIR/postgres, and prints its URL. Create a schema in it and name it in the URL
(`?options=-csearch_path%3Dbig`).
"""

import argparse
import contextlib
import http.client
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.dashboard_seed import TOKEN, TOKENS, Seed, fill
from tests.servers import PostgresServer
from tests.support import eventually, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
# `{task}` is one of the tasks with the most runs; `{run}`, `{log}` and `{transcript}` are runs.
PAGES = (
    "/tasks",
    "/tasks?q=audit",
    "/tasks?after=task-5000",
    "/tasks?order=name",
    "/tasks?order=next",
    "/tasks?order=cost",
    "/tasks?state=disabled&owner=team-7",
    "/api/overview",
    "/queue",
    "/queue?reason=task_limit",
    "/costs",
    "/costs?days=90",
    "/tasks/{task}",
    "/tasks/{task}?tab=definition",
    "/tasks/{task}?tab=triggers",
    "/tasks/{task}?tab=tests",
    "/tasks/{task}?tab=changes",
    "/tasks/{task}/run",
    "/tasks/{task}/edit",
    "/tasks/new",
    "/runs",
    "/runs?state=failed",
    "/runs?task={task}",
    "/runs?task={task}&state=failed",
    "/runs?reason=timeout",
    "/runs?minCost=0.999",
    "/runs?task={task}&minCost=0.5",
    "/runs?since=2026-01-01&state=failed",
    "/runs/{run}",
    "/runs/{run}?tab=events",
    "/runs/{log}?tab=log",
    "/runs/{log}?tab=log&after=500000",
    "/runs/{transcript}",
    "/calendar",
    "/deliveries",
    "/changes",
    "/pools",
    "/health",
)
EMPTY = """
from litestar import Litestar, get
from optio.cli.shared.listening import uvicorn_config
import sys, uvicorn

@get("/", media_type="text/html", sync_to_thread=False)
def empty() -> str:
    return ""

config = uvicorn_config(Litestar([empty], logging_config=None, openapi_config=None))
config.host, config.port = "127.0.0.1", int(sys.argv[1])
uvicorn.Server(config).run()
"""


@contextlib.contextmanager
def _process(argv: list[str], port: int, path: str, environ: dict[str, str], out: Path) -> Iterator[None]:
    """A server, as long as the block lasts; it must answer at `path`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPTIO_")}
    with out.open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, env={**clean, **environ}, stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert process.poll() is None, out.read_text()
            try:
                return _get(port, path)[0] == 200
            except OSError:
                return False

        eventually(answers, within=300, what=f"an answer of {argv[-1]}")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextlib.contextmanager
def served(seed: Seed, port: int) -> Iterator[None]:
    """`optio server` on a seeded store."""
    environ = {**seed.environ(), "OPTIO_PORT": str(port), "OPTIO_RATE_LIMIT": "1000000"}
    argv = [sys.executable, "-m", "optio", "server"]
    with _process(argv, port, "/readyz", environ, seed.directory / "server.out"):
        yield


def measure(seed: Seed, rounds: int, only: str | None) -> None:
    port, empty_port = free_port(), free_port()
    empty = [sys.executable, "-c", EMPTY, str(empty_port)]
    with served(seed, port), _process(empty, empty_port, "/", {}, seed.directory / "empty.out"):
        names = {"task": "task-1", "run": _newest(port, "task-1"), "log": _newest(port, "big-log")}
        names["transcript"] = _newest(port, "transcript")
        print(f"{'page':<44}{'KB':>7}{'p50 ms':>9}{'p95 ms':>9}{'empty p50':>11}{'ratio':>8}")
        for template in (page for page in PAGES if only is None or page.startswith(only)):
            path = template.format(**names)
            times, plain = [], []
            size = 0
            for number in range(rounds + 1):
                for target, where, into in ((empty_port, "/", plain), (port, path, times)):
                    began = time.perf_counter()
                    status, body = _get(target, where)
                    into.append((time.perf_counter() - began) * 1000)
                    if status != 200:
                        raise SystemExit(f"{path}: {status} {body[:500]!r}")
                    size = len(body)
                if number == 0:
                    first = times.pop()
                    plain.pop()
            p50, p95, base = statistics.median(times), statistics.quantiles(times, n=20)[-1], statistics.median(plain)
            print(
                f"{template:<44}{size / 1000:>7,.0f}{p50:>9.1f}{p95:>9.1f}{base:>11.2f}{p50 / base:>8.1f}   first {first:.0f}"
            )


def _newest(port: int, task: str) -> str:
    import json

    found = json.loads(_get(port, f"/api/tasks/{task}/runs?state=completed&limit=1")[1])["items"]
    found = found or json.loads(_get(port, f"/api/tasks/{task}/runs?limit=1")[1])["items"]
    return str(found[0]["id"])


def serve(seed: Seed, port: int) -> None:
    with served(seed, port):
        print(f"http://127.0.0.1:{port}/login  log: {seed.directory / 'server.out'}")
        for role, secret in TOKENS.items():
            print(f"  {role:<9}{secret}")
        print("Ctrl-C ends it", flush=True)
        _wait()


def _wait() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def postgres(directory: Path) -> None:
    server = PostgresServer(fsync=True, settings={"shared_buffers": "256MB", "max_wal_size": "4GB"})
    kept = directory / "postgres"
    if kept.exists():
        shutil.rmtree(server._data)
        shutil.move(kept, server._data)
    try:
        server.start()
        print(server.url, flush=True)
        _wait()
    finally:
        server.stop()
        shutil.move(server._data, kept)
        shutil.rmtree(server.directory, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("act", choices=["seed", "serve", "measure", "postgres"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--database", metavar="URL")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", metavar="PATH")
    sizes = ("tasks", "runs", "lines", "deliveries", "waiting", "generations")
    for name in sizes:
        parser.add_argument(f"--{name}", type=int, default=getattr(Seed(Path()), name))
    args = parser.parse_args()
    directory = args.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    seed = Seed(directory, args.database, **{name: getattr(args, name) for name in sizes})
    if args.act == "seed":
        fill(seed)
        print(f"python -m tests.bench.bench_dashboard serve {directory}")
    elif args.act == "serve":
        serve(seed, args.port)
    elif args.act == "measure":
        measure(seed, args.rounds, args.only)
    else:
        postgres(directory)


if __name__ == "__main__":
    main()
