"""One connection of `WS /ws/live`: a page says in messages which logs and runs it follows, and gets their lines and changes.

A browser opens few connections to a server, so a page has one for everything on it. Each subscription reads only as fast as the
connection takes messages: a slow reader holds up nobody else, and no message is dropped.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from litestar.types import Receive, Send

from optio.errors import NotFound, OptioError
from optio.server.auth import Actor
from optio.server.bodies.live import (
    DropMessage,
    FollowMessage,
    LogEndMessage,
    PingMessage,
    PongMessage,
    RefusedMessage,
    RunChangeBody,
    RunsMessage,
    WatchMessage,
)
from optio.server.dependencies import Hub
from optio.server.log_fanout import EncodedLine
from optio.server.routes.logs import CHECK_S

log = logging.getLogger(__name__)
MAX_SUBSCRIPTIONS = 16
MAX_MESSAGE_BYTES = 4096
# Lines are sent in messages of about this size; clients often take no more than 1 MiB.
_LINES_BYTES = 1 << 18
Close = tuple[int, str]
_decoder = msgspec.json.Decoder(FollowMessage | WatchMessage | DropMessage | PingMessage)
_encode = msgspec.json.Encoder().encode


class LiveSocket:
    """A connection that was accepted. `run` serves it to its end."""

    def __init__(self, hub: Hub, actor: Actor, receive: Receive, send: Send) -> None:
        self._hub, self._actor, self._receive, self._to_client = hub, actor, receive, send
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._close_code: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        # One message at a time: the next one is made when the connection has taken the one before.
        self._turn = asyncio.Lock()

    async def run(self) -> Close:
        """Answer the client's messages until one side ends the connection; return the close code. Raises OSError if the client
        has gone."""
        helpers = [asyncio.create_task(self._ending(coroutine)) for coroutine in (self._listen(), self._check(), self._stop())]
        try:
            return await self._close_code
        finally:
            tasks = [*helpers, *self._subscriptions.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ending(self, part: Coroutine[Any, Any, Close | None]) -> None:
        """Run a part of the connection, which ends with it if it returns a close code or fails."""
        try:
            close = await part
        except OSError as err:
            self._fail(err)
        except OptioError as err:
            log.info("a live connection ends early: %s", err)
            self._close(1013, "reconnect with your cursors")
        except Exception:
            log.exception("a live connection failed")
            self._close(1011, "internal error: see the server's log")
        else:
            if close is not None:
                self._close(*close)

    def _close(self, code: int, reason: str) -> None:
        if not self._close_code.done():
            self._close_code.set_result((code, reason))

    def _fail(self, err: OSError) -> None:
        if not self._close_code.done():
            self._close_code.set_exception(err)

    async def _listen(self) -> Close:
        while True:
            message: Any = await self._receive()
            if message["type"] != "websocket.receive":
                raise ConnectionResetError("the client has gone")
            text = message.get("text")
            if text is None or len(text) > MAX_MESSAGE_BYTES:
                return 1003, f"send texts of at most {MAX_MESSAGE_BYTES} characters"
            try:
                request = _decoder.decode(text)
            except (msgspec.DecodeError, RecursionError) as err:
                return 1003, f"invalid message: {err}"[:120]
            await self._take(request)

    async def _check(self) -> Close:
        while True:
            await asyncio.sleep(CHECK_S)
            if not await self._hub.access_control.is_still_valid(self._actor):
                return 4401, "the token has expired or was revoked"

    async def _stop(self) -> Close:
        await self._hub.log_fanout.stopping.wait()
        return 1012, "the server is stopping: reconnect with your cursors"

    async def _take(self, request: FollowMessage | WatchMessage | DropMessage | PingMessage) -> None:
        match request:
            case PingMessage():
                await self._send(_encode(PongMessage()))
            case DropMessage(id=key):
                await self._drop(key)
            case FollowMessage(id=key) | WatchMessage(id=key):
                await self._drop(key)
                if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
                    await self._refuse(key, f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions: drop one first")
                    return
                part = self._follow(request) if isinstance(request, FollowMessage) else self._watch(request)
                task = self._subscriptions[key] = asyncio.create_task(self._ending(part))
                task.add_done_callback(lambda future: self._forget(key, future))

    def _forget(self, key: str, task: asyncio.Task[None]) -> None:
        if self._subscriptions.get(key) is task:
            del self._subscriptions[key]

    async def _drop(self, key: str) -> None:
        task = self._subscriptions.pop(key, None)
        if task is not None:
            task.cancel()
            # It may be sending: nothing of it follows what is sent after this.
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, request: FollowMessage) -> None:
        head = b'{"type":"lines","id":' + _encode(request.id) + b',"lines":['
        try:
            # The run is read first, because a log that is not there has no lines for ever.
            await asyncio.to_thread(self._hub.services.store.run, request.run)
            async with aclosing(self._hub.log_fanout.follow(self._hub.services.store, request.run, request.after)) as batches:
                async for batch in batches:
                    for part in _parts(batch.lines):
                        await self._send(head + b",".join(line.data for line in part) + b"]}")
                    if batch.ended is not None:
                        end = LogEndMessage(id=request.id, state=batch.ended.state, reason=batch.ended.reason)
                        await self._send(_encode(end))
                        return
        except NotFound as err:
            await self._refuse(request.id, str(err))

    async def _watch(self, request: WatchMessage) -> None:
        async with aclosing(self._hub.run_fanout.watch(self._hub.services.store, request.task)) as batches:
            async for batch in batches:
                runs = [
                    RunChangeBody(id=run.id, task_id=run.task_id, state=run.state, reason=run.reason, attempt=run.attempt)
                    for run in batch.runs
                ]
                await self._send(_encode(RunsMessage(id=request.id, runs=runs, missed=batch.missed)))

    async def _refuse(self, key: str, detail: str) -> None:
        await self._send(_encode(RefusedMessage(id=key, detail=detail)))

    async def _send(self, data: bytes) -> None:
        async with self._turn:
            await self._to_client({"type": "websocket.send", "bytes": None, "text": data.decode()})


def _parts(lines: Sequence[EncodedLine]) -> Iterator[Sequence[EncodedLine]]:
    """Split lines into messages. A line that is larger has a message of its own."""
    begin = size = 0
    for place, line in enumerate(lines):
        size += len(line.data)
        if size > _LINES_BYTES and place > begin:
            yield lines[begin:place]
            begin, size = place, len(line.data)
    if lines:
        yield lines[begin:]
