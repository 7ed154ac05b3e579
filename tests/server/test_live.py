"""`WS /ws/live`: subscriptions as messages, changes of runs, limits, and what happens over a reconnect."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from optio.broker.base import Topic
from optio.server import live_socket, run_fanout
from optio.server.run_fanout import RunFanout
from tests.server.api import JOB, Api
from tests.support import eventually


class Live:
    """A page's connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def ask(self, kind: str, **members: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **members}))

    def next(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; others are passed over."""
        while True:
            found: dict[str, Any] = json.loads(self.connection.recv(timeout=20))
            if found["type"] == kind:
                return found

    def lines(self, count: int) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        while len(found) < count:
            found += [(line["seq"], line["text"]) for line in self.next("lines")["lines"]]
        return found

    def closed(self) -> tuple[int, str]:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.connection.recv(timeout=20)
        assert self.connection.close_code is not None
        return self.connection.close_code, self.connection.close_reason or ""


@pytest.fixture
def connect(api: Api) -> Iterator[Callable[[], Live]]:
    with contextlib.ExitStack() as stack:
        yield lambda: Live(stack.enter_context(api.connect("/ws/live")))


Connect = Callable[[], Live]


def test_two_logs_and_the_changes_of_runs_come_through_one_connection(api: Api, connect: Connect) -> None:
    one, two = api.started(), api.started()
    live = connect()
    live.ask("watch", id="rows")
    assert live.next("runs") == {"type": "runs", "id": "rows", "runs": [], "missed": True}
    live.ask("follow", id="1", run=one.id)
    live.ask("follow", id="2", run=two.id, after=1)
    one.log("a")
    two.log("b", "c")
    found: dict[str, list[str]] = {"1": [], "2": []}
    while sum(map(len, found.values())) < 2:
        message = live.next("lines")
        found[message["id"]] += [line["text"] for line in message["lines"]]
    one.end()

    assert found == {"1": ["a"], "2": ["c"]}
    ended = {kind: live.next(kind) for kind in ("end", "runs")}
    assert (ended["end"]["id"], ended["end"]["state"]) == ("1", "completed")
    (change,) = ended["runs"]["runs"]
    assert (change["id"], change["state"], change["taskId"]) == (one.id, "completed", "job")


def test_a_subscription_ends_when_it_is_dropped_and_its_name_can_be_used_again(api: Api, connect: Connect) -> None:
    one, two = api.started(), api.started()
    live = connect()
    live.ask("follow", id="log", run=one.id)
    one.log("a")
    live.lines(1)
    live.ask("follow", id="log", run=two.id)
    one.log("unseen")
    two.log("b")
    assert live.lines(1) == [(1, "b")]
    live.ask("drop", id="log")
    live.ask("drop", id="unknown")
    live.ask("ping")
    live.next("pong")
    two.log("unseen")
    live.ask("follow", id="log", run=two.id, after=2)
    two.log("c")

    assert live.lines(1) == [(3, "c")]


def test_a_run_that_is_not_there_is_refused_and_the_connection_stays(api: Api, connect: Connect) -> None:
    live = connect()
    live.ask("follow", id="log", run="nothing")

    assert live.next("refused") == {"type": "refused", "id": "log", "detail": "no run `nothing`"}
    live.ask("ping")
    live.next("pong")


def test_changes_are_those_of_the_watched_task(api: Api, connect: Connect) -> None:
    api.serve_task(JOB.replace("name: Job", "name: Other"), "other")
    live = connect()
    live.ask("watch", id="rows", task="other")
    live.next("runs")
    api.post("/api/tasks/job/runs")
    other = api.post("/api/tasks/other/runs").json["runId"]
    (new,) = live.next("runs")["runs"]
    api.post(f"/api/workflow-runs/{other}/cancel")
    (cancelled,) = live.next("runs")["runs"]

    assert (new["id"], new["state"]) == (other, "queued")
    assert (cancelled["id"], cancelled["state"]) == (other, "cancelled")


def test_a_change_whose_hint_is_lost_is_found_by_the_next_poll(
    api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFanout, "hint", lambda *_: None)
    monkeypatch.setattr(run_fanout, "_NEWEST", 1)
    old = api.started()
    api.started()
    live = connect()
    live.ask("watch", id="rows")
    live.next("runs")
    old.end()

    (change,) = live.next("runs")["runs"]
    assert (change["id"], change["state"]) == (old.id, "completed")


def test_a_reader_that_takes_nothing_is_told_to_read_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_fanout, "MAX_PENDING", 3)
    monkeypatch.setattr(run_fanout, "MIN_POLL_S", 0.01)

    async def changes() -> list[tuple[int, bool]]:
        fanout = RunFanout()
        watching = fanout.watch(api.services.store, None)
        first = await anext(watching)
        ids = []
        for _ in range(5):
            ids.append((await asyncio.to_thread(api.post, "/api/tasks/job/runs")).json["runId"])
            fanout.hint(Topic.RUN, ids[-1])
            await asyncio.sleep(0.05)
        second = await anext(watching)
        await watching.aclose()
        return [(len(first.runs), first.missed), (len(second.runs), second.missed)]

    first, second = asyncio.run(changes())
    assert first == (0, True)
    assert second[1]
    assert second[0] < 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 4000,
        '{"type":"shout"}',
        '{"type":"follow"}',
        '{"type":"ping","more":1}',
        '{"type":"watch","id":""}',
        '{"type":"follow","id":"a","run":"b","after":-1}',
        '{"type":"watch","id":"a","task":"' + 4096 * "x" + '"}',
        '{"type":"ping"}' + 4096 * " ",
    ],
)
def test_a_message_that_does_not_fit_ends_the_connection_and_logs_nothing(
    api: Api, connect: Connect, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    live = connect()
    live.connection.send(text)

    assert live.closed()[0] == 1003
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_bytes_end_the_connection(connect: Connect) -> None:
    live = connect()
    live.connection.send(b'{"type":"ping"}')

    assert live.closed()[0] == 1003


def test_a_connection_has_a_limit_of_subscriptions(api: Api, connect: Connect) -> None:
    writer = api.started()
    live = connect()
    for number in range(live_socket.MAX_SUBSCRIPTIONS):
        live.ask("follow", id=str(number), run=writer.id)
    live.ask("follow", id="over", run=writer.id)
    assert "at most 16" in live.next("refused")["detail"]
    live.ask("drop", id="0")
    live.ask("follow", id="over", run=writer.id)
    live.ask("ping")
    live.next("pong")
    writer.log("a")

    assert {live.next("lines")["id"] for _ in range(16)} == {*map(str, range(1, 16)), "over"}

    # A log that has ended takes no place.
    writer.end()
    assert {live.next("end")["id"] for _ in range(16)} == {*map(str, range(1, 16)), "over"}
    live.ask("follow", id="later", run=writer.id)
    assert live.next("lines")["id"] == "later"


@pytest.mark.parametrize(
    ("path", "status"), [("/ws/live?after=1", 422), ("/ws/live/", 404), ("/ws/live/x", 404)]
)  # fmt: skip
def test_an_address_that_is_wrong_is_refused_before_the_handshake(api: Api, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused, api.connect(path):
        pass
    assert refused.value.response.status_code == status


def test_it_needs_a_token_and_ends_when_that_is_revoked(api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_socket, "CHECK_S", 0.05)
    api.credentials = {}
    with pytest.raises(InvalidStatus) as refused, api.connect("/ws/live"):
        pass
    api.credentials = {"Authorization": f"Bearer {api.token('viewer')}"}
    live = connect()
    live.ask("ping")
    live.next("pong")
    (token,) = api.services.store.tokens()
    api.services.store.revoke_token(token.id)

    assert refused.value.response.status_code == 401
    assert live.closed()[0] == 4401


def test_over_reconnects_no_line_is_missing_or_twice(api: Api, connect: Connect) -> None:
    writer = api.started()
    found: list[tuple[int, str]] = []
    for part in range(5):
        live = connect()
        live.ask("follow", id="log", run=writer.id, after=found[-1][0] if found else 0)
        writer.log(*(f"{part}.{number}" for number in range(700)))
        found += live.lines(300)
        live.connection.close()
    live = connect()
    live.ask("follow", id="log", run=writer.id, after=found[-1][0])
    writer.end()
    found += live.lines(3500 - len(found))

    assert [seq for seq, _ in found] == list(range(1, 3501))
    assert found[-1][1] == "4.699"
    assert live.next("end")["id"] == "log"


def test_a_server_that_stops_says_so_to_pages_that_only_watch(api: Api, connect: Connect) -> None:
    live = connect()
    live.ask("watch", id="rows")
    live.next("runs")
    api.server._loop.call_soon_threadsafe(api.feed.close)

    assert live.closed() == (1012, "the server is stopping: reconnect with your cursors")


def test_a_page_that_reads_nothing_holds_up_nobody_and_costs_little_memory(api: Api, connect: Connect) -> None:
    writer = api.started()
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect(("127.0.0.1", api.port))
    head = "".join(f"{name}: {value}\r\n" for name, value in api.credentials.items())
    stuck.sendall(
        f"GET /ws/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{head}\r\n".encode()
    )
    ask = json.dumps({"type": "follow", "id": "log", "run": writer.id}).encode()
    stuck.sendall(bytes([0x81, 0x80 | len(ask)]) + bytes(4) + ask)
    live = connect()
    live.ask("follow", id="log", run=writer.id)
    for _ in range(20):
        writer.log(*(letter * 60_000 for letter in "abcdefghij"))

    began = time.monotonic()
    assert [seq for seq, _ in live.lines(200)] == list(range(1, 201))
    assert time.monotonic() - began < 10
    stuck.close()


def test_the_poll_ends_with_the_last_watcher(api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    polls: list[float] = []
    read = run_fanout._read
    monkeypatch.setattr(run_fanout, "_read", lambda *args: polls.append(time.monotonic()) or read(*args))
    monkeypatch.setattr(run_fanout, "POLL_S", 0.02)
    monkeypatch.setattr(run_fanout, "MIN_POLL_S", 0.01)
    live = connect()
    live.ask("watch", id="rows")
    live.next("runs")
    eventually(lambda: len(polls) > 3, what="polls")
    live.connection.close()
    eventually(lambda: not (count := len(polls)) or (time.sleep(0.2), len(polls) == count)[1], what="the polls to end")


def test_tasks_are_found_by_words_and_runs_by_the_beginning_of_their_id(api: Api) -> None:
    for number in range(12):
        api.serve_task(JOB.replace("name: Job", f"name: Report {number}\ndescription: of the job"), f"report-{number}")
    run_id = api.post("/api/tasks/job/runs").json["runId"]

    found = api.get("/api/search?q=JOB").json
    assert [each["id"] for each in found["tasks"]] == ["job", *(f"report-{each}" for each in (0, 1, 10, 11, 2, 3, 4))]
    assert found["runs"] == []
    assert api.get(f"/api/search?q={run_id[:10].upper()}").json["runs"] == [{"id": run_id, "taskId": "job", "state": "queued"}]
    assert api.get("/api/search?q=nothing+here").json == {"tasks": [], "runs": []}
    assert api.get("/api/search?q=").status == 422
