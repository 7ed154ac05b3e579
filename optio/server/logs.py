"""Logs: asked for, exported, and live by WebSocket and SSE. A cursor is the last `seq` that the reader has.

Lines are read from the store only; hints say when there are more. So a reader that comes back with its cursor gets every line
once, wherever and however the connection broke.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from litestar import Controller, Request, Response, WebSocket, get, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath, FromQuery
from litestar.response import ServerSentEvent, ServerSentEventMessage, Stream

from optio.errors import Invalid, NotFound, Problem
from optio.model.run import LogLine, Run
from optio.server import views
from optio.server.auth import role
from optio.server.hub import Hub

_BATCH = 500
_PING = 15.0
# Hints drive; this finds what a lost hint would lose.
_LOOK = 1.0


class LogController(Controller):
    """See the module."""

    tags = ("logs",)

    @get("/api/workflow-runs/{run_id:str}/logs", opt=role("viewer"))
    async def logs(
        self,
        run_id: FromPath[str],
        request: Request[Any, Any, Any],
        hub: NamedDependency[Hub],
        after: FromQuery[int] = 0,
        limit: FromQuery[int] = 1000,
        attempt: FromQuery[int | None] = None,
        format: FromQuery[str] = "json",
    ) -> Response[Any] | Stream | ServerSentEvent:
        """The log from a cursor. `format=text` exports it whole; `Accept: text/event-stream` follows it live."""
        run = await asyncio.to_thread(hub.services.store.run, run_id)
        if "text/event-stream" in request.headers.get("accept", ""):
            return ServerSentEvent(_events(hub, run.id, _cursor(request, after)))
        if format == "text":
            headers = {"Content-Disposition": f'attachment; filename="{run.id}.log"'}
            return Stream(_export(hub, run.id, attempt), media_type="text/plain; charset=utf-8", headers=headers)
        if format != "json":
            raise Invalid("unknown format", [Problem("/format", "must be one of json, text")])
        lines = await asyncio.to_thread(
            hub.services.store.log, run_id, after=after, limit=max(1, min(limit, 5000)), attempt=attempt
        )
        last = lines[-1].seq if lines else after
        return Response({"items": [views.line(line) for line in lines], "next": last, "state": run.state.value})

    @websocket("/ws/workflow-runs/{run_id:str}/logs", opt=role("viewer"))
    async def live(
        self, run_id: FromPath[str], socket: WebSocket[Any, Any, Any], hub: NamedDependency[Hub], after: FromQuery[int] = 0
    ) -> None:
        """The log as messages `{"type": "line", ...}`, then `{"type": "end", "state": ...}`."""
        try:
            await asyncio.to_thread(hub.services.store.run, run_id)
        except NotFound:
            await socket.accept()
            await socket.close(code=4404, reason="no such run")
            return
        await socket.accept()
        gone = asyncio.create_task(_until_gone(socket))
        try:
            async for lines, ended in _follow(hub, run_id, after):
                if gone.done():
                    return
                for line in lines:
                    await socket.send_text(json.dumps({"type": "line", **views.line(line)}, ensure_ascii=False))
                if ended is not None:
                    await socket.send_text(json.dumps({"type": "end", "state": ended.state.value, "reason": ended.reason}))
                    await socket.close()
                    return
            await socket.close(code=1012, reason="the server stops: come back with your cursor")
        except WebSocketDisconnect:
            return
        finally:
            gone.cancel()


async def _until_gone(socket: WebSocket[Any, Any, Any]) -> None:
    try:
        while True:
            await socket.receive_data(mode="text")
    except WebSocketDisconnect:
        return


async def _follow(hub: Hub, run_id: str, after: int) -> AsyncIterator[tuple[list[LogLine], Run | None]]:
    """Batches of lines; the last one comes with the run when it has ended. An empty batch is a sign of life."""
    quiet = 0.0
    with hub.feed.listen(run_id) as changed:
        while not hub.feed.closing:
            # Cleared before looking, and the run is read before its lines: nothing can slip in between.
            changed.clear()
            run, lines = await asyncio.to_thread(_look, hub, run_id, after)
            whole = len(lines) < _BATCH
            if lines:
                after = lines[-1].seq
                quiet = 0.0
            ended = run if run.state.terminal and whole else None
            if lines or ended is not None or quiet >= _PING:
                yield lines, ended
            if ended is not None:
                return
            quiet = 0.0 if quiet >= _PING else quiet
            if whole:
                try:
                    await asyncio.wait_for(changed.wait(), _LOOK)
                except TimeoutError:
                    quiet += _LOOK


def _look(hub: Hub, run_id: str, after: int) -> tuple[Run, list[LogLine]]:
    return hub.services.store.run(run_id), hub.services.store.log(run_id, after=after, limit=_BATCH)


async def _events(hub: Hub, run_id: str, after: int) -> AsyncIterator[ServerSentEventMessage]:
    async for lines, ended in _follow(hub, run_id, after):
        if not lines and ended is None:
            yield ServerSentEventMessage(comment="still here")
        for line in lines:
            yield ServerSentEventMessage(data=json.dumps(views.line(line), ensure_ascii=False), event="line", id=str(line.seq))
        if ended is not None:
            data = json.dumps({"state": ended.state.value, "reason": ended.reason})
            yield ServerSentEventMessage(data=data, event="end")


async def _export(hub: Hub, run_id: str, attempt: int | None) -> AsyncIterator[bytes]:
    """Every line as its own bytes, each ended by a newline."""
    after = 0
    read = partial(hub.services.store.log, run_id, limit=_BATCH, attempt=attempt)
    while lines := await asyncio.to_thread(read, after=after):
        after = lines[-1].seq
        yield b"".join(line.data + b"\n" for line in lines)


def _cursor(request: Request[Any, Any, Any], after: int) -> int:
    """A browser that comes back sends the last event's id."""
    last = request.headers.get("last-event-id", "")
    return int(last) if last.isascii() and last.isdigit() and len(last) < 18 else after
