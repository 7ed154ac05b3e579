"""How answers leave: without waiting for the client's acknowledgement, a small one in one write, a stream part by part."""

import asyncio
import http.client
import json
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn.server import ServerState
from websockets.sync.client import connect

from optio.cli.shared.listening import uvicorn_config
from optio.server.transport import MAX_GATHERED_BYTES, GatheringTransport
from tests.server.api import Api
from tests.support import header_lines

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
App = Callable[[Any, Any, Any], Awaitable[None]]


class Recorder(asyncio.Transport):
    """The transport under uvicorn's protocol: each write is one segment on the wire, or more."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.ended: str | None = None

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return self.ended is not None

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def serve(app: App, data: bytes = GET) -> tuple[Recorder, Any]:
    """Hand `data` to the server's own protocol; what it writes is in the recorder."""
    config = uvicorn_config(app)
    config.load()
    recorder = Recorder()
    protocol = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})  # type: ignore[operator,union-attr]
    protocol.connection_made(recorder)
    protocol.data_received(data)
    return recorder, protocol


async def passes(count: int = 3) -> None:
    """Let the loop turn: no time passes but that."""
    for _ in range(count):
        await asyncio.sleep(0)


def answering(*parts: bytes, headers: Any = ()) -> App:
    """An application that answers with these parts at once."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        for place, part in enumerate(parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": place < len(parts)})

    return app


def test_an_accepted_connection_sends_without_waiting_for_acknowledgements(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.port), 10) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        (protocol,) = api.server.server_state.connections
        accepted = protocol.transport.get_extra_info("socket")  # type: ignore[union-attr]

        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_small_answer_is_one_write() -> None:
    async def main() -> list[bytes]:
        recorder, protocol = await serve(answering(b"hello", headers=[(b"content-length", b"5")]))
        await passes()
        protocol.data_received(GET)
        await passes()
        return recorder.writes

    first, second = asyncio.run(main())

    assert first == second == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


def test_an_answer_is_complete_before_its_connection_closes() -> None:
    async def main() -> Recorder:
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        recorder, _ = await serve(answering(b"hello", headers=[(b"content-length", b"5")]), request)
        await passes()
        return recorder

    recorder = asyncio.run(main())

    assert recorder.ended == "closed"
    assert recorder.writes == [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"]


def test_the_head_of_a_stream_and_each_event_leave_at_once() -> None:
    async def main() -> list[list[bytes]]:
        go_on = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
            for number in range(3):
                await go_on.wait()
                go_on.clear()
                await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": number < 2})

        recorder, _ = await serve(app)
        seen = []
        for _ in range(4):
            await passes()
            seen.append(list(recorder.writes))
            recorder.writes.clear()
            go_on.set()
        return seen

    head, *events = asyncio.run(main())

    assert [part.splitlines()[0] for part in head] == [b"HTTP/1.1 200 OK"]
    assert events == [[b"9\r\ndata: 0\n\n\r\n"], [b"9\r\ndata: 1\n\n\r\n"], [b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"]]


def test_a_large_answer_is_not_copied_and_not_held_back() -> None:
    large = bytes(MAX_GATHERED_BYTES + 1)

    async def main() -> tuple[list[int], list[int]]:
        recorder, _ = await serve(answering(large, large, b"end"))
        await passes()
        gathered = Recorder()
        transport = GatheringTransport(gathered, asyncio.get_running_loop())
        for _ in range(100):
            transport.write(bytes(1_000))
        held = 100_000 - sum(map(len, gathered.writes))
        return [len(part) for part in recorder.writes], [held, len(gathered.writes)]

    writes, (held, count) = asyncio.run(main())

    assert sum(size > MAX_GATHERED_BYTES for size in writes) == 2
    assert held <= MAX_GATHERED_BYTES
    assert count <= 100_000 // MAX_GATHERED_BYTES + 1


def test_what_was_gathered_is_not_sent_on_an_aborted_connection() -> None:
    async def main() -> Recorder:
        recorder = Recorder()
        transport = GatheringTransport(recorder, asyncio.get_running_loop())
        transport.write(b"lost")
        transport.abort()
        await passes()
        return recorder

    recorder = asyncio.run(main())

    assert (recorder.ended, recorder.writes) == ("aborted", [])


def test_a_kept_open_connection_carries_one_answer_after_the_other(api: Api) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    try:
        for path, status in [("/healthz", 200), ("/api/tasks", 200), ("/api/nothing", 404), ("/readyz", 200)] * 3:
            connection.request("GET", path, headers=api.credentials)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == status
            assert len(body) == int(answer.headers["content-length"])
    finally:
        connection.close()


def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    paths = [b"/healthz", b"/api/nothing", b"/api/tasks/job", b"/healthz"]
    with socket.create_connection(("127.0.0.1", api.port), 10) as client:
        head = b" HTTP/1.1\r\nHost: localhost\r\n" + header_lines(api.credentials).encode() + b"\r\n"
        client.sendall(b"".join(b"GET " + path + head for path in paths))
        answer = b""
        while answer.count(b"HTTP/1.1 ") < len(paths):
            part = client.recv(65536)
            assert part, answer
            answer += part

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200", b"200"]


@pytest.mark.parametrize("count", [1, 300])
def test_lines_of_a_live_log_over_a_websocket_are_whole_and_in_order(api: Api, count: int) -> None:
    writer = api.started()
    with connect(f"ws://127.0.0.1:{api.port}/ws/workflow-runs/{writer.id}/logs", additional_headers=api.credentials) as live:
        writer.log(*(f"line {number}" for number in range(count)))
        writer.end()
        *lines, end = [json.loads(message) for message in live]

    assert [line["text"] for line in lines] == [f"line {number}" for number in range(count)]
    assert end["type"] == "end"
