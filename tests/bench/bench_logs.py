"""Live log lines per second to 200 readers, against a bare server that writes the same bytes from memory.

    python tests/bench/bench_logs.py [--readers 200] [--lines 2000]

One run logs; its lines are committed in batches of 50, as a worker does it. Readers are raw sockets in a process of their own,
once by SSE, once by WebSocket. A line counts when a reader has it; the clock stops when every reader has every line.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
TASK = 'type: standalone\nname: Job\nagentRuntime: command\ncommand: "true"\npromptTemplate: "go"\n'
BATCH = 50
# What a line is worth on the wire: both servers send about this.
PLAIN = b"event: line\nid: 1234\ndata: " + b"x" * 190 + b"\n\n"
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Reader(asyncio.Protocol):
    """Counts lines by what every one of them has."""

    def __init__(self, request: bytes, mark: bytes, lines: int, done: asyncio.Future[None]) -> None:
        self.request, self.mark, self.lines, self.done = request, mark, lines, done
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        data = self.tail + data
        self.lines -= data.count(self.mark)
        self.tail = data[len(data) - len(self.mark) + 1 :] if self.mark not in data[-len(self.mark) :] else b""
        if self.lines <= 0 and not self.done.done():
            self.done.set_result(None)


async def read(port: int, request: bytes, mark: bytes, readers: int, lines: int, ready: Path) -> None:
    """Connect all, say so, and wait until each has every line; prints when that was."""
    loop = asyncio.get_running_loop()
    ends = []
    for _ in range(readers):
        ends.append(loop.create_future())
        await loop.create_connection(lambda end=ends[-1]: Reader(request, mark, lines, end), "127.0.0.1", port)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(ready.touch)
    await asyncio.wait_for(asyncio.gather(*ends), 300)
    print(time.time(), flush=True)


class Bare(asyncio.Protocol):
    """The peer: writes what it is told to everyone."""

    everyone: list[asyncio.Transport] = []  # noqa: RUF012

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.everyone.append(transport)  # type: ignore[arg-type]


async def bare(port: int, lines: int, ready: Path) -> None:
    """Serve the peer, and write the lines once everyone is there."""
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port)
    while not os.path.exists(ready):  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)
    print(time.time(), flush=True)
    for _ in range(lines // BATCH):
        for each in Bare.everyone:
            each.write(PLAIN * BATCH)
        await asyncio.sleep(0)
    await asyncio.sleep(60)
    server.close()


def readers(port: int, request: str, mark: bytes, args: argparse.Namespace, ready: Path) -> subprocess.Popen[str]:
    """The process of the readers."""
    command = [sys.executable, __file__, "--read", str(port), request, mark.hex(), str(ready)]
    command += ["--readers", str(args.readers), "--lines", str(args.lines)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def of_bare(args: argparse.Namespace, directory: Path) -> float:
    """Seconds of the peer."""
    from tests.support import free_port

    port, ready = free_port(), directory / "bare"
    server = subprocess.Popen(
        [sys.executable, __file__, "--bare", str(port), str(ready), "--lines", str(args.lines)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(1.0)
        client = readers(port, "GET / HTTP/1.1\r\n\r\n", b"event: line", args, ready)
        assert server.stdout is not None
        begun = float(server.stdout.readline())
        return float(client.communicate()[0]) - begun
    finally:
        server.kill()
        server.wait()


def of_optio(args: argparse.Namespace, directory: Path, *, socket: bool) -> tuple[float, float]:
    """Seconds until everyone has every line, and of the commits alone."""
    from optio.broker.base import Topic
    from optio.model.run import LogKind, LogLine
    from optio.model.usage import Meter
    from optio.settings import Settings
    from optio.wiring import build
    from tests.support import Dev, eventually

    server = Dev(directory, command="server")
    server.tasks.mkdir(parents=True, exist_ok=True)
    (server.tasks / "job.yaml").write_text(TASK)
    token = server.cli("token", "create", "--role", "admin").stdout.strip()
    server.start()
    services = build(Settings.load({"OPTIO_DATA_DIR": str(server.data), "OPTIO_TASKS": str(server.tasks)}))
    try:
        bearer = {"Authorization": f"Bearer {token}"}
        eventually(lambda: server.get("/api/tasks/job", **bearer).status == 200)
        run_id = server.post("/api/tasks/job/runs", **bearer).json["runId"]
        (claim,) = services.store.claim("bench", timedelta(minutes=5), lambda view: [run_id])
        prefix = "/ws" if socket else "/api"
        extra = UPGRADE if socket else "Accept: text/event-stream\r\n"
        head = f"GET {prefix}/workflow-runs/{run_id}/logs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        request = f"{head}Authorization: Bearer {token}\r\n{extra}\r\n"
        ready = directory / ("socket" if socket else "events")
        client = readers(server.port, request, b'"seq":' if socket else b"event: line", args, ready)
        eventually(ready.exists, within=60)
        begun, wall = time.monotonic(), time.time()
        for _ in range(args.lines // BATCH):
            now = datetime.now(UTC)
            lines = [LogLine(kind=LogKind.OUTPUT, data=b"x" * 80, at=now)] * BATCH
            services.store.append_log(claim.run.lease, lines, {}, Meter())
            services.broker.tell(Topic.RUN, run_id)
        committed = time.monotonic() - begun
        return float(client.communicate()[0]) - wall, committed
    finally:
        services.close()
        server.stop()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--lines", type=int, default=2_000)
    parser.add_argument("--read", nargs=4, metavar=("PORT", "REQUEST", "MARK", "READY"), help=argparse.SUPPRESS)
    parser.add_argument("--bare", nargs=2, metavar=("PORT", "READY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        port, request, mark, ready = args.read
        uvloop.run(read(int(port), request.encode(), bytes.fromhex(mark), args.readers, args.lines, Path(ready)))
        return
    if args.bare:
        uvloop.run(bare(int(args.bare[0]), args.lines, Path(args.bare[1])))
        return

    for name in list(os.environ):
        if name.startswith("OPTIO_"):
            del os.environ[name]
    with tempfile.TemporaryDirectory() as name:
        total = args.readers * args.lines
        peer = of_bare(args, Path(name))
        print(f"{args.readers} readers, {args.lines} lines in commits of {BATCH}")
        print(f"{'':22}{'lines/s':>12}{'commits':>10}{'ratio':>8}")
        print(f"{'bare, from memory':22}{total / peer:12,.0f}")
        for label, socket in (("Optio, SSE", False), ("Optio, WebSocket", True)):
            seconds, committed = of_optio(args, Path(name) / label.split()[-1], socket=socket)
            print(f"{label:22}{total / seconds:12,.0f}{committed:8.2f} s{peer / seconds:8.2f}")


if __name__ == "__main__":
    main()
