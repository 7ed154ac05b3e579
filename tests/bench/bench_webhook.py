"""Signed webhooks accepted durably per second, against an empty Litestar handler in the same server process.

    python tests/bench/bench_webhook.py [--seconds 5] [--connections 48] [--postgres]

With `--postgres` there are two servers on one PostgreSQL (`fsync` on) and one Redis, and the load goes to both. Otherwise the
server runs in a process of its own (uvicorn, uvloop, httptools, SQLite with `synchronous=FULL`), the load comes from
another one over keep-alive connections. Each delivery is a signed push event of 7 kB with its own delivery id: verified,
mapped, validated, committed with its run, then answered. Three rounds, alternating, so that a noisy machine hits both alike.
"""

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import uvloop

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
SECRET = "bench-secret-of-some-length"
TASK = """\
type: standalone
name: Push
agentRuntime: command
command: "true"
promptTemplate: "Look at {{REPO}} {{REF}}: {{TITLE}}"
paramsSchema:
  type: object
  properties:
    REPO: {type: string, maxLength: 200}
    REF: {type: string}
    TITLE: {type: string, default: none}
  required: [REPO]
triggers:
  - type: webhook
    config:
      path: push
      scheme: github
      secret: {name: PUSH}
      events: [push]
      paramMapping: {REPO: $.repository.full_name, REF: $.ref, TITLE: $.head_commit.message}
"""


def payload() -> bytes:
    """A push event of about 7 kB."""
    base = "https://api.example.com/repos/acme/widgets"
    names = (
        "forks keys collaborators teams hooks events assignees branches tags blobs refs trees statuses languages stargazers "
        "contributors subscribers subscription commits comments contents compare merges archive downloads issues pulls "
        "milestones notifications labels releases deployments"
    )
    person = {"name": "Ada", "email": "ada@example.com", "username": "ada"}
    commit = {
        "id": "a" * 40, "tree_id": "b" * 40, "distinct": True, "message": "Make the widget turn",
        "timestamp": "2026-01-05T08:00:00Z", "url": base, "author": person,
        "committer": person, "added": [], "removed": [], "modified": ["README.md"],
    }  # fmt: skip
    document = {
        "ref": "refs/heads/main", "before": "c" * 40, "after": "a" * 40, "created": False, "deleted": False, "forced": False,
        "repository": {
            "id": 186853002, "full_name": "acme/widgets", "private": False, "size": 21, "language": None,
            **{f"{name}_url": f"{base}/{name}{{/sha}}" for name in names.split()},
        },
        "pusher": person, "sender": {f"{name}_url": f"{base}/{name}" for name in names.split()},
        "commits": [commit, commit], "head_commit": commit,
    }  # fmt: skip
    return json.dumps(document, indent=1).encode()


def requests(path: str) -> Iterator[bytes]:
    """Ready-made requests; only the delivery id differs."""
    body = payload()
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Hook-ID: 292430182\r\n"
        f"X-GitHub-Hook-Installation-Target-ID: 79929171\r\nX-GitHub-Hook-Installation-Target-Type: repository\r\n"
        f"X-Hub-Signature-256: {signature}\r\nContent-Length: {len(body)}\r\nX-GitHub-Delivery: "
    ).encode()
    number = time.time_ns()
    while True:
        number += 1
        yield head + b"%x" % number + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one is whole."""

    def __init__(self, source: Iterator[bytes], until: float, times: list[float], done: asyncio.Future[None]) -> None:
        self.source, self.until, self.times, self.done = source, until, times, done
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.send()

    def send(self) -> None:
        self.sent = time.perf_counter()
        if self.sent > self.until:
            self.transport.close()
        else:
            self.transport.write(next(self.source))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, blank, body = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 202"):
            self.done.set_exception(RuntimeError(self.buffer.decode()))
            self.transport.close()
            return
        self.times.append(time.perf_counter() - self.sent)
        self.buffer = b""
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def load(ports: Sequence[int], path: str, connections: int, seconds: float) -> list[float]:
    """Seconds of each answer."""
    loop = asyncio.get_running_loop()
    source, until = requests(path), time.perf_counter() + seconds
    times: list[float] = []
    ends = []
    for place in range(connections):
        ends.append(loop.create_future())
        port = ports[place % len(ports)]
        await loop.create_connection(lambda end=ends[-1]: Connection(source, until, times, end), "127.0.0.1", port)
    await asyncio.gather(*ends)
    return times


async def serve(directory: Path, port: int, profile: Path | None) -> None:
    """The server under test: Optio's application, and beside it a handler that only reads the body."""
    import uvicorn
    from litestar import Litestar, Request, post

    from optio.cli.serving import configuration
    from optio.live import LiveRegistry
    from optio.reload import Reloader
    from optio.scheduler import new_id
    from optio.server.app import create_app
    from optio.server.feed import Feed
    from optio.settings import Settings
    from optio.wiring import build

    @post("/empty", status_code=202)
    async def empty(request: Request) -> dict[str, str]:  # type: ignore[type-arg]
        await request.body()
        return {"status": "ok"}

    settings = Settings.load(
        {
            "OPTIO_DATA_DIR": str(directory / "data"),
            "OPTIO_TASKS": str(directory / "tasks.d"),
            "OPTIO_WEBHOOK_RATE_PER_MINUTE": str(2**31 - 1),
            "OPTIO_MAX_QUEUED": str(2**31 - 1),
            **{name: os.environ[name] for name in ("OPTIO_DATABASE_URL", "OPTIO_REDIS_URL") if name in os.environ},
        }
    )
    services = build(settings)
    live = LiveRegistry(services.store)
    reloader = Reloader(settings.tasks, live, services.broker)
    await reloader.load()
    app = create_app(services, live, reload=reloader.load, new_id=new_id, open_access=False, feed=Feed())
    peer = Litestar([empty], openapi_config=None, logging_config=None)

    async def both(scope, receive, send):  # type: ignore[no-untyped-def]
        await (peer if scope.get("path") == "/empty" else app)(scope, receive, send)

    server = uvicorn.Server(configuration(both, port=port))
    # uvicorn raises the signal again at its end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    if profile is None:
        await server.serve()
    else:
        import cProfile

        profiler = cProfile.Profile()
        profiler.enable()
        await server.serve()
        profiler.disable()
        profiler.dump_stats(profile)
    services.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", action="store_true", help="two servers on PostgreSQL and Redis")
    parser.add_argument("--serve", nargs=2, metavar=("DIRECTORY", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=Path, help="write a cProfile of the server's loop here")
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve(Path(args.serve[0]), int(args.serve[1]), args.profile))
        return

    from tests.servers import PostgresServer, RedisServer
    from tests.support import eventually, free_port

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        (Path(name) / "tasks.d").mkdir()
        (Path(name) / "tasks.d" / "push.yaml").write_text(TASK)
        ports = [free_port() for _ in range(2 if args.postgres else 1)]
        environ = {**os.environ, "OPTIO_SECRET_PUSH": SECRET}
        others: list[int] = []
        if args.postgres:
            database, redis = stack.enter_context(PostgresServer(fsync=True)), stack.enter_context(RedisServer())
            environ |= {"OPTIO_DATABASE_URL": database.url, "OPTIO_REDIS_URL": redis.url}
            others = [server.process.pid for server in (database, redis) if server.process]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for port in ports:
                command = [sys.executable, __file__, "--serve", name, str(port)]
                command += ["--profile", str(args.profile)] if args.profile else []
                processes.append(subprocess.Popen(command, env=environ))
                eventually(lambda port=port: processes[-1].poll() is not None or _open(port), within=30)
            rates: dict[str, list[float]] = {"/empty": [], "/api/hooks/push": []}
            singles: dict[str, list[float]] = {"/empty": [], "/api/hooks/push": []}
            cost: dict[str, float] = {}
            beside: dict[str, float] = {}
            for _ in range(args.rounds):
                for path in rates:
                    before = [sum(map(_cpu, pids)) for pids in ([each.pid for each in processes], others)]
                    answers = len(uvloop.run(load(ports, path, args.connections, args.seconds)))
                    rates[path].append(answers / args.seconds)
                    after = [sum(map(_cpu, pids)) for pids in ([each.pid for each in processes], others)]
                    cost[path], beside[path] = ((b - a) / answers * 1e6 for a, b in zip(before, after, strict=True))
                for path in singles:
                    singles[path] += uvloop.run(load(ports, path, 1, 1.0))
        finally:
            for process in processes:
                process.terminate()
                process.wait(20)
    best = {path: statistics.median(values) for path, values in rates.items()}
    print(f"{'':24}{'per second':>12}{'rounds':>26}{'server CPU':>12}{'1 client p50':>14}{'p99':>9}")
    for path, label in (("/empty", "empty handler"), ("/api/hooks/push", "webhook, durable")):
        times = sorted(singles[path])
        rounds = " ".join(f"{value:,.0f}" for value in rates[path])
        p50, p99 = times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3
        print(f"{label:24}{best[path]:12,.0f}{rounds:>26}{cost[path]:9,.0f} us{p50:11.2f} ms{p99:6.1f} ms")
    share = best["/api/hooks/push"] / best["/empty"]
    aim = 0.3 if args.postgres else 0.4
    print(f"ratio {share:.2f} (aim: {aim}), of CPU time {cost['/empty'] / cost['/api/hooks/push']:.2f}")
    if args.postgres:
        print(f"{os.cpu_count()} cores for all: PostgreSQL and Redis take {beside['/api/hooks/push']:,.0f} us of CPU for each")


def _cpu(pid: int) -> float:
    """Of a process and its children."""
    total = 0.0
    for each in (process := psutil.Process(pid), *process.children()):
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def _open(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
