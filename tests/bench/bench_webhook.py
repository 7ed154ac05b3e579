"""Signed webhooks accepted durably per second, against an empty Litestar handler in the same server process.

    python tests/bench/bench_webhook.py [--seconds 5] [--connections 48]

The server runs in a process of its own (uvicorn, uvloop, httptools, SQLite with `synchronous=FULL`), the load comes from
another one over keep-alive connections. Each delivery is a signed push event of 7 kB with its own delivery id: verified,
mapped, validated, committed with its run, then answered. Three rounds, alternating, so that a noisy machine hits both alike.
"""

import argparse
import asyncio
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
from collections.abc import Iterator
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


async def load(port: int, path: str, connections: int, seconds: float) -> list[float]:
    """Seconds of each answer."""
    loop = asyncio.get_running_loop()
    source, until = requests(path), time.perf_counter() + seconds
    times: list[float] = []
    ends = []
    for _ in range(connections):
        ends.append(loop.create_future())
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
    parser.add_argument("--serve", nargs=2, metavar=("DIRECTORY", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=Path, help="write a cProfile of the server's loop here")
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve(Path(args.serve[0]), int(args.serve[1]), args.profile))
        return

    from tests.support import eventually, free_port

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "tasks.d").mkdir()
        (Path(name) / "tasks.d" / "push.yaml").write_text(TASK)
        port = free_port()
        command = [sys.executable, __file__, "--serve", name, str(port)]
        command += ["--profile", str(args.profile)] if args.profile else []
        process = subprocess.Popen(command, env={**os.environ, "OPTIO_SECRET_PUSH": SECRET})
        try:
            eventually(lambda: process.poll() is not None or _open(port), within=30)
            rates: dict[str, list[float]] = {"/empty": [], "/api/hooks/push": []}
            singles: dict[str, list[float]] = {"/empty": [], "/api/hooks/push": []}
            cost: dict[str, float] = {}
            for _ in range(args.rounds):
                for path in rates:
                    before = _cpu(process.pid)
                    answers = len(uvloop.run(load(port, path, args.connections, args.seconds)))
                    rates[path].append(answers / args.seconds)
                    cost[path] = (_cpu(process.pid) - before) / answers * 1e6
                for path in singles:
                    singles[path] += uvloop.run(load(port, path, 1, 1.0))
        finally:
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
    print(f"ratio {share:.2f} (aim: 0.4), of CPU time {cost['/empty'] / cost['/api/hooks/push']:.2f}")


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _open(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
