"""How a server ends: open streams are let go, readers come back with their cursors, nothing is lost."""

import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support import Dev, eventually, header_lines

COUNTING = """\
type: standalone
name: Count
agentRuntime: command
command:
  - /bin/sh
  - -c
  - "for i in $(seq 40); do echo line $i; sleep 0.05; while [ $i -ge 20 ] && [ ! -e {gate} ]; do sleep 0.05; done; done"
promptTemplate: "go"
"""


def gate_of(dev: Dev) -> Path:
    return dev.directory / "gate"


@pytest.fixture
def counting(dev: Dev) -> tuple[Dev, str]:
    """A running run that logs for a second, and goes on when the gate is opened."""
    dev.write("count.yaml", COUNTING.format(gate=gate_of(dev)))
    dev.until_served("count")
    run_id = dev.post("/api/tasks/count/runs").json["runId"]
    eventually(lambda: dev.get(f"/api/workflow-runs/{run_id}/logs").json["items"], what="the first line")
    return dev, run_id


def follow(dev: Dev, run_id: str, after: int = 0) -> ClientConnection:
    url = f"ws://127.0.0.1:{dev.port}/ws/workflow-runs/{run_id}/logs?after={after}"
    return connect(url, additional_headers=dev.credentials)


def until_broken(live: ClientConnection) -> list[dict[str, Any]]:
    found = []
    try:
        while True:
            found.append(json.loads(live.recv(timeout=30)))
    except ConnectionClosed:
        return found


def output(messages: list[dict[str, Any]]) -> list[str]:
    return [message["text"] for message in messages if message.get("kind") == "output"]


def test_a_server_with_fifty_open_streams_ends_soon_and_readers_lose_nothing(counting: tuple[Dev, str]) -> None:
    dev, run_id = counting
    events = []
    for _ in range(25):
        sock = socket.create_connection(("127.0.0.1", dev.port), 30)
        sock.sendall(
            f"GET /api/workflow-runs/{run_id}/logs HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            f"{header_lines(dev.credentials)}\r\n".encode()
        )
        events.append(sock)
    received: list[list[dict[str, Any]]] = []
    codes = set()

    following: list[ClientConnection] = []

    def read() -> None:
        with follow(dev, run_id) as live:
            following.append(live)
            received.append(until_broken(live))
        codes.add(live.close_code)

    reading = [threading.Thread(target=read) for _ in range(25)]
    for thread in reading:
        thread.start()
    eventually(lambda: len(following) == 25, what="every reader")

    assert dev.stop(within=20) == 0

    for thread in reading:
        thread.join(10)
    assert codes == {1012}
    assert len(received) == 25
    for sock in events:
        while sock.recv(65536):
            pass
        sock.close()
    gate_of(dev).touch()
    dev.start()
    for lines in received[:3]:
        after = lines[-1]["seq"] if lines else 0
        with follow(dev, run_id, after) as live:
            rest = until_broken(live)
        assert output(lines + rest) == [f"line {number}" for number in range(1, 41)]
        assert rest[-1]["type"] == "end"
    assert "Traceback" not in dev.output.read_text()


def test_a_second_signal_ends_at_once_and_corrupts_nothing(counting: tuple[Dev, str]) -> None:
    dev, run_id = counting
    assert dev.process is not None
    # A request that never ends would be waited for.
    with socket.create_connection(("127.0.0.1", dev.port), 30) as slow:
        head = f"POST /api/tasks/count/runs HTTP/1.1\r\nHost: 127.0.0.1\r\n{header_lines(dev.credentials)}"
        slow.sendall(f"{head}Content-Length: 10\r\n\r\n{{".encode())
        time.sleep(0.2)

        dev.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        dev.process.send_signal(signal.SIGTERM)

        assert dev.process.wait(20) == 0
    gate_of(dev).touch()
    dev.start()
    run = dev.until_ended(run_id)
    assert run["state"] == "completed"
    lines = dev.get(f"/api/workflow-runs/{run_id}/logs").json["items"]
    assert output(lines) == [f"line {number}" for number in range(1, 41)]
    assert "Traceback" not in dev.output.read_text()


def test_a_server_takes_tokens_that_are_made_and_revoked_while_it_runs(tmp_path: Path) -> None:
    server = Dev(tmp_path, command="server")
    first = server.cli("token", "create", "--role", "admin").stdout.strip()
    server.cli("token", "create", "--role", "viewer", "--label", "short", "--expires", "1s")
    server.start()
    try:
        second = json.loads(server.cli("token", "create", "--role", "viewer", "--label", "board", "--json").stdout)
        bearer = {"Authorization": f"Bearer {second['token']}"}

        assert server.get("/api/tasks").status == 401
        assert server.get("/api/tasks", Authorization=f"Bearer {first}").status == 200
        assert server.get("/api/tasks", **bearer).status == 200
        assert server.cli("token", "revoke", second["id"]).returncode == 0
        assert server.get("/api/tasks", **bearer).status == 401
        listed = ""

        def states() -> dict[str, str]:
            nonlocal listed
            listed = server.cli("token", "list", "--json").stdout
            return {token["label"]: token["state"] for token in json.loads(listed)}

        eventually(lambda: states() == {"": "living", "board": "revoked", "short": "expired"}, what="the end of the short one")
        assert first not in listed
    finally:
        server.stop()
