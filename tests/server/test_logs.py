"""Logs: asked for, exported, and live, by readers that come, go, stall and come back."""

import asyncio
import contextlib
import gc
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.server.api import JOB, LEASE, Api, Writer
from tests.support import eventually, header_lines


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = Api(tmp_path_factory.mktemp("logs"))
    made.serve_task(JOB)
    yield made
    made.close()


def texts(count: int, begin: int = 1) -> list[str]:
    return [f"line {number}" for number in range(begin, begin + count)]


def events(api: Api, run_id: str, *, after: int | None = None, query: str = "") -> list[dict[str, Any]]:
    """Every event of a live log, read to its end."""
    headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
    answer = api.request("GET", f"/api/workflow-runs/{run_id}/logs{query}", headers=headers)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = []
    for block in answer.body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append({"event": fields["event"], "id": fields.get("id"), **json.loads(fields["data"])})
    return found


def messages(api: Api, run_id: str, query: str = "") -> list[dict[str, Any]]:
    """Every message of a socket, read to its end."""
    with api.connect(f"/ws/workflow-runs/{run_id}/logs{query}") as live:
        found = [json.loads(message) for message in live]
        assert live.close_code == 1000
        return found


def test_a_log_is_read_from_a_cursor_in_steps(api: Api) -> None:
    writer = api.started()
    writer.log(*texts(5))
    url = f"/api/workflow-runs/{writer.id}/logs"

    first = api.get(f"{url}?limit=3").json
    rest = api.get(f"{url}?after={first['next']}").json
    beyond = api.get(f"{url}?after=1000").json

    assert [line["text"] for line in first["items"] + rest["items"]] == texts(5)
    assert beyond == {"items": [], "next": 1000, "last": 5, "state": "running"}


def test_a_log_is_read_backwards_by_pages(api: Api) -> None:
    writer = api.started()
    writer.log(*texts(5))

    page = api.get(f"/api/workflow-runs/{writer.id}/logs?before=5&limit=2").json

    assert [line["seq"] for line in page["items"]] == [3, 4]
    assert (page["next"], page["last"]) == (4, 5)


def test_a_log_is_exported_as_json_lines(api: Api) -> None:
    writer = api.started()
    writer.log(*texts(1_200))

    answer = api.get(f"/api/workflow-runs/{writer.id}/logs?format=jsonl&after=2")

    assert answer.headers["content-type"].startswith("application/jsonl")
    assert [json.loads(line)["text"] for line in answer.body.splitlines()] == texts(1_200)[2:]


def test_a_search_finds_lines_from_a_cursor_on_and_counts_them(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.server.routes.logs.SEARCH_LINES", 7)
    writer = api.started()
    writer.log(*("a needle" if number % 10 == 0 else "hay" for number in range(1, 101)))
    url = f"/api/workflow-runs/{writer.id}/logs/search"

    assert api.get(f"{url}?q=NEEDLE&limit=3").json == {"matches": [10, 20, 30], "count": 10, "searched": 100, "last": 100}
    assert api.get(f"{url}?q=needle&after=80").json["matches"] == [90, 100]
    first = api.get(f"{url}?q=needle&after=11&limit=1&count=false").json
    assert (first["matches"], first["searched"] < 40) == ([20], True)
    assert api.get(f"{url}?q=needle&errors=true").json["count"] == 0
    assert api.get(f"{url}?q=%25&after=5000").json == {"matches": [], "count": 0, "searched": 100, "last": 100}
    assert api.get("/api/workflow-runs/nothing/logs/search?q=x").status == 404
    assert [api.get(f"{url}?q={text}").status for text in ("x" * 201, "%00", "a%00b")] == [422] * 3


def test_a_search_of_a_huge_log_says_how_far_it_came(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.server.routes.logs.SEARCH_S", 0.0)
    writer = api.started()
    writer.log(*texts(5))

    assert api.get(f"/api/workflow-runs/{writer.id}/logs/search?q=1").json == {
        "matches": [],
        "count": 0,
        "searched": 0,
        "last": 5,
    }


def test_a_log_is_exported_byte_for_byte(api: Api) -> None:
    writer = api.started()
    writer.log(*texts(1_200), "ü \x1b[31m\u2028 end")

    answer = api.get(f"/api/workflow-runs/{writer.id}/logs?format=text")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.body.decode() == "".join(f"{text}\n" for text in [*texts(1_200), "ü \x1b[31m\u2028 end"])


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("after=-1", "/after"),
        ("after=99999999999999999999", "/after"),
        ("after=x", "/after"),
        ("limit=0", "/limit"),
        ("limit=1000000000", "/limit"),
        ("attempt=0", "/attempt"),
        ("format=xml", "/format"),
        ("format=text&before=3", "/before"),
        ("before=-1", "/before"),
        ("from=3", "/from"),
    ],
)
def test_a_cursor_that_cannot_be_honoured_is_refused(api: Api, query: str, pointer: str) -> None:
    run_id = api.post("/api/tasks/job/runs").json["runId"]

    answer = api.get(f"/api/workflow-runs/{run_id}/logs?{query}")

    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


@pytest.mark.parametrize("last", ["-1", "x", "1.5", "9" * 30, "é"])
def test_a_last_event_id_that_is_not_ours_is_refused(api: Api, last: str) -> None:
    run_id = api.post("/api/tasks/job/runs").json["runId"]
    headers = [("Accept", "text/event-stream"), ("Last-Event-ID", last.encode())]

    assert api.request("GET", f"/api/workflow-runs/{run_id}/logs", headers=headers).status == 422


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ws/workflow-runs/nothing/logs", 404),
        ("/ws/workflow-runs/{}/logs?after=-1", 422),
        ("/ws/workflow-runs/{}/logs?after=x", 422),
        ("/ws/workflow-runs/{}/logs?after=1&after=2", 422),
        ("/ws/workflow-runs/{}/logs?from=1", 422),
        ("/ws/workflow-runs/{}", 404),
        ("/ws/anything", 404),
        ("/api/tasks", 404),
    ],
)
def test_a_socket_that_cannot_be_opened_says_why(api: Api, path: str, status: int) -> None:
    run_id = api.post("/api/tasks/job/runs").json["runId"]

    with pytest.raises(InvalidStatus) as refused:
        api.connect(f"{path.format(run_id)}")

    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body)["status"] == status


def test_the_log_of_a_finished_run_is_given_whole_and_ended(api: Api) -> None:
    writer = api.started()
    writer.log(*texts(1_234))
    writer.end(ok=False)

    by_event, by_socket = events(api, writer.id), messages(api, writer.id)

    assert [event["text"] for event in by_event[:-1]] == [message["text"] for message in by_socket[:-1]] == texts(1_234)
    assert [event["id"] for event in by_event[:-1]] == [str(message["seq"]) for message in by_socket[:-1]]
    assert by_event[-1] == {"event": "end", "id": None, "state": "failed", "reason": by_socket[-1]["reason"]}
    assert by_socket[-1]["type"] == "end"


@pytest.mark.parametrize("after", [3, 5, 1_000])
def test_a_reader_continues_behind_its_cursor(api: Api, after: int) -> None:
    writer = api.started()
    writer.log(*texts(5))
    writer.end()
    expected = texts(5)[after:]

    assert [event["text"] for event in events(api, writer.id, after=after)[:-1]] == expected
    assert [event["text"] for event in events(api, writer.id, query=f"?after={after}")[:-1]] == expected
    assert [message["text"] for message in messages(api, writer.id, f"?after={after}")[:-1]] == expected


def test_a_run_that_is_retried_by_hand_is_followed_again(api: Api) -> None:
    writer = api.started()
    writer.log("first try")
    writer.end(ok=False)
    assert messages(api, writer.id)[-1]["state"] == "failed"
    api.post(f"/api/workflow-runs/{writer.id}/retry")

    with api.connect(f"/ws/workflow-runs/{writer.id}/logs?after=1") as live:
        (claim,) = api.services.store.claim("test", LEASE, lambda view: [writer.id])
        second = Writer(api.services, claim)
        second.log("second try")
        message = json.loads(live.recv(timeout=10))
        second.end()
        end = json.loads(live.recv(timeout=10))

    assert (message["text"], message["attempt"]) == ("second try", 2)
    assert end["state"] == "completed"


def test_a_socket_that_is_written_to_is_closed_and_nothing_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    writer = api.started()
    frames: list[tuple[str | bytes, int]] = [("hello", 1003), (b"\0\1", 1003), ("x" * 70_000, 1009)]

    for frame, code in frames:
        with api.connect(f"/ws/workflow-runs/{writer.id}/logs") as live:
            live.send(frame)
            with pytest.raises(ConnectionClosed) as closed:
                live.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code

    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


def test_garbage_on_a_socket_is_closed_and_nothing_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    writer = api.started()
    head = (
        f"GET /ws/workflow-runs/{writer.id}/logs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"{header_lines(api.credentials)}\r\n"
    ).encode()

    for frame in (b"\xff" * 64, b"\x81\x05hello", b"\x82\xff" + b"\x7f" * 8, b"GET / HTTP/1.1\r\n\r\n"):
        api.talk(head + frame)

    assert api.get("/healthz").status == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_quiet_stream_shows_signs_of_life(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.server.log_fanout.PING_S", 0.05)
    monkeypatch.setattr("optio.server.log_fanout.POLL_S", 0.02)
    writer = api.started()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)) as connection:
        connection.request(
            "GET", f"/api/workflow-runs/{writer.id}/logs", headers={**api.credentials, "Accept": "text/event-stream"}
        )
        answer = connection.getresponse()
        signs = 0
        while signs < 2:
            line = answer.readline()
            assert line
            signs += line == b": still here\n"
        writer.end()

        assert b"event: end" in answer.read()


def test_a_line_whose_hint_was_lost_comes_all_the_same(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.server.log_fanout.POLL_S", 0.05)
    writer = api.started()
    with api.connect(f"/ws/workflow-runs/{writer.id}/logs") as live:
        time.sleep(0.2)
        api.feed.hint, kept = (lambda *_: None), api.feed.hint  # type: ignore[method-assign]
        monkeypatch.setattr(api.services.broker, "tell", lambda *_: None)
        try:
            writer.log("quietly")
            message = json.loads(live.recv(timeout=10))
        finally:
            api.feed.hint = kept  # type: ignore[method-assign]

    assert message["text"] == "quietly"


@pytest.mark.parametrize("how", ["socket", "events"])
def test_a_reader_is_woken_by_the_hint_of_a_line(api: Api, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr("optio.server.log_fanout.POLL_S", 600.0)
    writer = api.started()
    writer.log("first")

    async def read() -> list[str | None]:
        found = []
        lines = (_by_socket if how == "socket" else _by_events)(api, writer.id, 0)
        async with asyncio.timeout(20), aclosing(lines):  # type: ignore[type-var]
            async for _, text in lines:
                found.append(text)
                # The store is not asked again before the hint: the reader has all that there was.
                if text is not None:
                    await asyncio.to_thread(writer.log, "second") if text == "first" else await asyncio.to_thread(writer.end)
        return found

    assert asyncio.run(read()) == ["first", "second", None]


def test_two_hundred_readers_that_come_and_go_get_every_line_once(api: Api) -> None:
    writer = api.started()
    total = 200

    def write() -> None:
        for begin in range(1, total + 1, 8):
            writer.log(*texts(8, begin))
            time.sleep(0.01)
        writer.end()

    writing = threading.Thread(target=write)
    writing.start()
    seen = asyncio.run(_readers(api, writer.id, 200))
    writing.join()

    assert len(seen) == 200
    for lines in seen:
        assert lines == texts(total)


async def _readers(api: Api, run_id: str, count: int) -> list[list[str]]:
    return list(await asyncio.gather(*(_reader(api, run_id, random.Random(number)) for number in range(count))))


async def _reader(api: Api, run_id: str, dice: random.Random) -> list[str]:
    """Reads by socket or by events, and breaks off after a few lines, until it has seen the end."""
    seen: list[str] = []
    after = 0
    while True:
        most = dice.randint(1, 100)
        source = _by_socket if dice.random() < 0.5 else _by_events
        async with aclosing(source(api, run_id, after)) as found:
            async for seq, text in found:
                if text is None:
                    return seen
                seen.append(text)
                after = seq
                most -= 1
                if not most:
                    break
        await asyncio.sleep(dice.random() * 0.02)


async def _by_socket(api: Api, run_id: str, after: int) -> AsyncIterator[tuple[int, str | None]]:
    url = f"ws://127.0.0.1:{api.port}/ws/workflow-runs/{run_id}/logs?after={after}"
    options = {"additional_headers": api.credentials, "compression": None, "open_timeout": 30, "close_timeout": 0.1}
    async with connect_async(url, **options) as live:
        async for message in live:
            line = json.loads(message)
            yield line.get("seq", 0), line.get("text")


async def _by_events(api: Api, run_id: str, after: int) -> AsyncIterator[tuple[int, str | None]]:
    reader, out = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        out.write(
            f"GET /api/workflow-runs/{run_id}/logs HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            f"Last-Event-ID: {after}\r\n{header_lines(api.credentials)}\r\n".encode()
        )
        while line := await reader.readline():
            if line.startswith(b"data: "):
                data = json.loads(line[6:])
                yield data.get("seq", 0), data.get("text")
    finally:
        out.transport.abort()


def test_a_reader_that_never_reads_holds_nobody_up_and_little_memory(api: Api) -> None:
    writer = api.started()
    stuck = [_never_reads(api, f"/api/workflow-runs/{writer.id}/logs", "Accept: text/event-stream\r\n") for _ in range(5)]
    stuck += [
        _never_reads(
            api,
            f"/ws/workflow-runs/{writer.id}/logs",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )
        for _ in range(5)
    ]
    before = _memory()

    with api.connect(f"/ws/workflow-runs/{writer.id}/logs", max_queue=None) as live:
        for _ in range(40):
            writer.log(*["x" * 10_000] * 100)
            for _ in range(100):
                assert json.loads(live.recv(timeout=10))["type"] == "line"
        writer.end()

    kept = [line for tail in api.feed._tails.values() for line in tail._lines]
    assert 0 < sum(len(line.data) for line in kept) <= 1 << 20
    # Ten readers are behind by 40 MB each.
    assert _memory() - before < 80 << 20
    for sock in stuck:
        sock.close()
    eventually(lambda: not api.feed._tails, what="the readers being forgotten")


def _never_reads(api: Api, path: str, headers: str) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", api.port))
    headers += header_lines(api.credentials)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
    return sock


def _memory() -> int:
    import psutil

    gc.collect()
    return int(psutil.Process().memory_info().rss)


def test_readers_that_left_are_forgotten(api: Api) -> None:
    writer = api.started()
    for _ in range(20):
        with contextlib.suppress(ConnectionClosed), api.connect(f"/ws/workflow-runs/{writer.id}/logs"):
            pass

    eventually(lambda: writer.id not in api.feed._tails, what="the tail being dropped")
