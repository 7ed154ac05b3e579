"""HTTP latency and throughput as clients see it, beside an empty Litestar handler that the same uvicorn configuration serves.

    python tests/bench/bench_http.py [--seconds 1] [--rounds 5] [--tasks 10] [--clients wrk,http.client,httpx] [--postgres]

The clients are those that people use, all on connections that stay open: wrk (`apt-get install wrk`), http.client and httpx.
They call a real `optio server` and, in turn, a second process with nothing but the empty handler: `/readyz`; `/api/tasks` with
a token; and a signed push event of 7 kB with a delivery id of its own, which is verified, mapped, validated, committed with its
run (SQLite, `synchronous=FULL`), then answered. The rate limit of the webhook is lifted by its setting.

Each line shows the round with the lowest p50: what else the machine does can only add. The ratio is the median, over the
rounds, of the p50 to that of the empty handler with the same method in the same round: a machine whose cores fall asleep
between two requests answers either several times slower than one that is kept awake. The server's CPU time for an answer
depends less on the rest of the machine. A durable answer also waits for the disk, whose own time for 8 kB (`fdatasync`)
stands beside it. With `--postgres` the server works on a PostgreSQL (`fsync` on) and a Redis of its own.
"""

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
from tests.support import Dev, eventually, free_port  # noqa: E402

SECRET = "bench-secret-of-some-length"
CONNECTIONS = (1, 16, 64)
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
      replayWindow: none  # the body was signed ahead, once
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


@dataclass(frozen=True)
class Target:
    """A request that is sent again and again; `aim` is the highest ratio wanted on SQLite, for wrk with one connection."""

    name: str
    port: int
    method: str
    path: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    # The header that differs from request to request.
    numbered: str | None = None
    aim: float | None = None

    @property
    def url(self) -> str:
        """Where wrk and httpx find it."""
        return f"http://127.0.0.1:{self.port}{self.path}"


@dataclass(frozen=True)
class Measured:
    """What one client saw in one round: milliseconds, and answers a second."""

    p50: float
    p99: float
    rate: float
    answers: int


Client = Callable[[Target, int, float], Measured]
_numbers = count(time.time_ns())


def wrk(target: Target, connections: int, seconds: float) -> Measured:
    """Run wrk with one thread."""
    lines = [f"wrk.method = {json.dumps(target.method)}"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in target.headers.items()]
    if target.body is not None:
        lines.append(f"wrk.body = [==[{target.body.decode()}]==]")
    if target.numbered is not None:
        lines.append(f"""
            local number = 0
            function request()
              number = number + 1
              wrk.headers["{target.numbered}"] = "{next(_numbers)}-" .. number
              return wrk.format()
            end""")
    lines.append("""
        function done(summary, latency)
          local e = summary.errors
          local failed = e.status + e.connect + e.read + e.write + e.timeout
          io.write(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration,
            latency:percentile(50), latency:percentile(99), failed))
        end""")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines))
        script.flush()
        # wrk knows whole seconds only.
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", script.name, target.url]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    answers, duration, p50, p99, failed = map(int, said.rpartition("RESULT ")[2].split())
    if failed:
        raise SystemExit(f"{target.name}: {failed} requests failed:\n{said}")
    return Measured(p50 / 1e3, p99 / 1e3, answers / duration * 1e6, answers)


def http_client(target: Target, connections: int, seconds: float) -> Measured:
    """Use the standard library's client, each connection on a thread of its own."""
    times: list[float] = []
    failures: list[str] = []
    until = time.perf_counter() + seconds

    def call() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
        while (sent := time.perf_counter()) < until and not failures:
            connection.request(target.method, target.path, target.body, _headers(target))
            answer = connection.getresponse()
            body = answer.read()
            times.append(time.perf_counter() - sent)
            if answer.status != target.status:
                failures.append(f"{answer.status} {body!r}")
        connection.close()

    threads = [threading.Thread(target=call) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _measured(target, times, failures, seconds)


def httpx_client(target: Target, connections: int, seconds: float) -> Measured:
    """Use httpx with a pool of connections, each task one of them."""
    times: list[float] = []
    failures: list[str] = []

    async def call(client: httpx.AsyncClient, until: float) -> None:
        while (sent := time.perf_counter()) < until and not failures:
            answer = await client.request(target.method, target.url, headers=_headers(target), content=target.body)
            times.append(time.perf_counter() - sent)
            if answer.status_code != target.status:
                failures.append(f"{answer.status_code} {answer.text}")

    async def main() -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        async with httpx.AsyncClient(limits=limits, timeout=30, trust_env=False) as client:
            until = time.perf_counter() + seconds
            await asyncio.gather(*(call(client, until) for _ in range(connections)))

    asyncio.run(main())
    return _measured(target, times, failures, seconds)


CLIENTS: Mapping[str, Client] = {"wrk": wrk, "http.client": http_client, "httpx": httpx_client}


def _headers(target: Target) -> dict[str, str]:
    return {**target.headers, **({target.numbered: str(next(_numbers))} if target.numbered else {})}


def _measured(target: Target, times: list[float], failures: list[str], seconds: float) -> Measured:
    if failures:
        raise SystemExit(f"{target.name}: {failures[0]}")
    times.sort()
    return Measured(times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3, len(times) / seconds, len(times))


def targets(server: int, peer: int, token: str) -> list[Target]:
    """Return the peer's handlers and the server's paths; a path is compared with the peer's handler before it."""
    body = payload()
    push = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Event": "push",
        "X-GitHub-Hook-ID": "292430182",
        "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(),
    }
    bearer = {"Authorization": f"Bearer {token}"}
    return [
        Target("empty handler, GET", peer, "GET", "/empty", 200),
        Target("/readyz", server, "GET", "/readyz", 200, aim=3.0),
        Target("/api/tasks", server, "GET", "/api/tasks", 200, bearer, aim=3.0),
        Target("empty handler, POST", peer, "POST", "/empty", 202, push, body, "X-GitHub-Delivery"),
        Target("webhook, durable", server, "POST", "/api/hooks/push", 202, push, body, "X-GitHub-Delivery", aim=5.0),
    ]


def disk(directory: Path) -> float:
    """Return the median time in milliseconds that the disk takes to keep 8 kB."""
    times = []
    with (directory / "disk").open("wb") as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(bytes(8192))
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def compare(
    client: str, connections: int, wanted: Sequence[Target], pids: Mapping[int, int], args: argparse.Namespace, directory: Path
) -> None:
    """Measure every target in each round, and print a line for each."""
    rows: dict[str, list[tuple[Measured, float]]] = {target.name: [] for target in wanted}
    kept = []
    for _ in range(args.rounds):
        kept.append(disk(directory))
        for target in wanted:
            before = _cpu(pids[target.port])
            seen = CLIENTS[client](target, connections, args.seconds)
            rows[target.name].append((seen, (_cpu(pids[target.port]) - before) / seen.answers * 1e6))
    empty: list[float] = []
    title = f"{client}, connections: {connections}"
    print(f"\n{title:28}{'p50':>10}{'p99':>10}{'per second':>12}{'server CPU':>12}{'ratio':>8}")
    for target in wanted:
        seen, cpu = min(rows[target.name], key=lambda round: round[0].p50)
        line = f"{target.name:28}{seen.p50:7.2f} ms{seen.p99:7.2f} ms{seen.rate:12,.0f}{cpu:9,.0f} us"
        medians = [each.p50 for each, _ in rows[target.name]]
        if target.aim is None:
            empty = medians
        else:
            line += f"{statistics.median(one / peer for one, peer in zip(medians, empty, strict=True)):8.1f}"
            line += f"  (aim: {target.aim:.0f})" if (client, connections, args.postgres) == ("wrk", 1, False) else ""
        print(line, flush=True)
    print(f"{'the disk, fdatasync of 8 kB':28}{min(kept):7.2f} ms", flush=True)


def serve_peer(port: int) -> None:
    """Serve the empty handler as `optio server` serves its application, but on a socket that uvicorn makes: a socket of Optio's
    that delays answers must not delay these."""
    import uvicorn
    from litestar import Litestar, Request, get, post

    from optio.cli.shared.listening import run_loop, uvicorn_config

    @get("/empty")
    async def empty() -> dict[str, str]:
        return {"status": "ok"}

    @post("/empty", status_code=202)
    async def swallow(request: Request) -> dict[str, str]:  # type: ignore[type-arg]
        await request.body()
        return {"status": "ok"}

    app = Litestar([empty, swallow], openapi_config=None, logging_config=None)
    run_loop(uvicorn.Server(uvicorn_config(app, port=port)).serve())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="for one path in one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=10, help="tasks that are served")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="of wrk, http.client and httpx")
    parser.add_argument("--connections", default=",".join(map(str, CONNECTIONS)))
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL and Redis instead of SQLite alone")
    parser.add_argument("--peer", type=int, metavar="PORT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        serve_peer(args.peer)
        return
    clients = args.clients.split(",")
    if unknown := set(clients) - set(CLIENTS):
        parser.error(f"unknown client {unknown.pop()}: choose from {', '.join(CLIENTS)}")
    if "wrk" in clients and shutil.which("wrk") is None:
        parser.error("wrk is missing: install it (Debian: `apt-get install wrk`), or use --clients http.client,httpx")

    from tests.servers import PostgresServer, RedisServer

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        environ = {
            "OPTIO_SECRET_PUSH": SECRET,
            "OPTIO_WEBHOOK_RATE_PER_MINUTE": str(2**31 - 1),
            "OPTIO_MAX_QUEUED": str(2**31 - 1),
        }
        if args.postgres:
            database, redis = stack.enter_context(PostgresServer(fsync=True)), stack.enter_context(RedisServer())
            environ |= {"OPTIO_DATABASE_URL": database.url, "OPTIO_REDIS_URL": redis.url}
        server = Dev(Path(name), environ=environ, command="server")
        server.write("push.yaml", TASK)
        for number in range(1, args.tasks):
            server.write(f"task-{number}.yaml", TASK.partition("triggers:")[0].replace("Push", f"Task {number}"))
        made = server.cli("token", "create", "--role", "viewer")
        token = next(word for word in made.stdout.split() if word.startswith("optio_"))
        stack.callback(server.stop)
        server.start()
        port = free_port()
        peer = subprocess.Popen([sys.executable, __file__, "--peer", str(port)], cwd=ROOT)
        stack.callback(peer.wait, 20)
        stack.callback(peer.terminate)
        eventually(lambda: _answers(port), within=30, what="the empty handler")
        assert server.process is not None
        pids = {server.port: server.process.pid, port: peer.pid}
        wanted = targets(server.port, port, token)
        print(f"load of the machine: {' '.join(f'{load:.1f}' for load in os.getloadavg())}, {os.cpu_count()} cores")
        for client in clients:
            for connections in map(int, args.connections.split(",")):
                compare(client, connections, wanted, pids, args, Path(name))
        print(f"\nload of the machine: {' '.join(f'{load:.1f}' for load in os.getloadavg())}")


def _cpu(pid: int) -> float:
    """Of a process and its children."""
    total = 0.0
    for each in (process := psutil.Process(pid), *process.children()):
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/empty")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main()
