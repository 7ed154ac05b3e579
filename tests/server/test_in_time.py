"""The deadline of a request's store calls: one for all of them, from the end of the body to the begin of the answer."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from optio.server.in_time import RequestDeadline
from optio.store import deadline
from optio.store.deadline import CALL_S

Clock = Callable[[float], None]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Moves the monotonic clock on."""
    ahead = 0.0
    now = time.monotonic

    def move(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(deadline.time, "monotonic", lambda: now() + ahead)
    return move


def left(patience: float = 60.0) -> float:
    return deadline.call_limit(patience) - deadline.time.monotonic()


def serve(app: Callable[[Any, Any, Any], Awaitable[None]], kind: str = "http") -> None:
    messages = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": False},
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None: ...

    asyncio.run(RequestDeadline(app)({"type": kind}, receive, send))  # type: ignore[arg-type]


def test_all_calls_of_a_request_share_one_deadline_on_whatever_thread(passes: Clock) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passes(3)
        seen.append(left())
        passes(1)
        seen.append(await asyncio.to_thread(left))
        seen.append(left(0.1))

    serve(app)

    assert seen == pytest.approx([CALL_S - 3, CALL_S - 4, 0.1], abs=0.9)


def test_a_slow_upload_does_not_use_the_time_up(passes: Clock) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            passes(60)
            await receive()
        seen.append(left())

    serve(app)

    assert seen == pytest.approx([CALL_S], abs=0.9)


def test_a_stream_and_what_follows_an_answer_have_no_deadline(passes: Clock) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        following = asyncio.create_task(after())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        passes(60)
        seen.append(left())
        await following

    async def after() -> None:
        await asyncio.sleep(0)
        seen.append(left())

    serve(app)

    assert seen == pytest.approx([60, 60], abs=0.9)


def test_a_websocket_and_a_worker_have_none(passes: Clock) -> None:
    seen = [left()]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passes(60)
        seen.append(left(math.inf))

    serve(app, "websocket")

    assert seen == [pytest.approx(60, abs=0.9), math.inf]
