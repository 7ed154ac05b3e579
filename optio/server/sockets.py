"""WebSockets: `WS /ws/live` for pages (see `live_socket`), and `WS /ws/workflow-runs/{id}/logs`, which sends one log as
messages `{"type": "line", ...}`, then `{"type": "end", "state": ...}`.

Plain ASGI: errors are answered over HTTP, before the handshake, by the same problems as everywhere. The
token is in the Authorization header as everywhere, because addresses are written into too many logs.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from urllib.parse import parse_qsl

from litestar.types import Receive, Scope, Send, WebSocketAcceptEvent, WebSocketSendEvent

from optio.errors import Invalid, NotFound, OptioError, Problem, Unauthorized
from optio.server import problems
from optio.server.auth import Actor
from optio.server.bodies.logs import EndMessage
from optio.server.dependencies import Hub
from optio.server.http_guard import send_answer
from optio.server.live_socket import Close, LiveSocket
from optio.server.routes.logs import batches, encode_end

log = logging.getLogger(__name__)
_PATH = re.compile(r"/ws/workflow-runs/([^/]+)/logs")
_LIVE = "/ws/live"
_ACCEPT: WebSocketAcceptEvent = {"type": "websocket.accept", "subprotocol": None, "headers": []}


class Sockets:
    """The ASGI application for WebSockets."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection until its log ends, the client leaves or the server stops."""
        await receive()
        try:
            serve = await self._admit(scope, receive, send)
        except OptioError as err:
            await send_answer(scope, send, *problems.raw(err))
            return
        with suppress(OSError):  # the client has gone
            await send(_ACCEPT)
            code, reason = await serve()
            await send({"type": "websocket.close", "code": code, "reason": reason})

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> Callable[[], Awaitable[Close]]:
        """Return what serves the connection after the handshake. Raises OptioError."""
        match = _PATH.fullmatch(scope["path"])
        if match is None and scope["path"] != _LIVE:
            raise NotFound("page", scope["path"][:200])
        if match is None and scope["query_string"]:
            raise Invalid("invalid request parameters", [Problem("", "this address has no parameters: send messages")])
        actor = await self._hub.access_control.admit(scope["headers"], "viewer")
        if match is None:
            return LiveSocket(self._hub, actor, receive, send).run
        run_id, after = match[1], _after(scope["query_string"])
        await asyncio.to_thread(self._hub.services.store.run, run_id)
        return partial(self._until_closed, actor, run_id, after, receive, send)

    async def _until_closed(self, actor: Actor, run_id: str, after: int, receive: Receive, send: Send) -> Close:
        """Send until the log has ended or the client sends anything. Raises OSError if the client has gone."""
        listening = asyncio.create_task(_listen(receive))
        sending = asyncio.create_task(self._send(actor, run_id, after, send))
        try:
            await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
            return await (listening if listening.done() else sending)
        finally:
            for task in (listening, sending):
                task.cancel()
            await asyncio.gather(listening, sending, return_exceptions=True)

    async def _send(self, actor: Actor, run_id: str, after: int, send: Send) -> Close:
        try:
            async with aclosing(batches(self._hub, actor, run_id, after)) as live_batches:
                async for batch in live_batches:
                    for line in batch.lines:
                        await send(_text(b'{"type":"line",' + line.data[1:]))
                    if batch.ended is not None:
                        await send(_text(encode_end(EndMessage, batch.ended)))
                        return 1000, "the run has ended"
        except Unauthorized as err:
            return 4401, str(err)
        except OptioError as err:
            log.info("the live log of run %s ends early: %s", run_id, err, extra={"run_id": run_id})
            return 1013, "reconnect with your cursor"
        except OSError:
            raise
        except Exception:
            log.exception("the live log of run %s failed", run_id, extra={"run_id": run_id})
            return 1011, "internal error: see the server's log"
        return 1012, "the server is stopping: reconnect with your cursor"


async def _listen(receive: Receive) -> Close:
    message = await receive()
    if message["type"] == "websocket.receive":
        return 1003, "this socket only sends"
    raise ConnectionResetError("the client has gone")


def _text(data: bytes) -> WebSocketSendEvent:
    return {"type": "websocket.send", "bytes": None, "text": data.decode()}


def _after(query: bytes) -> int:
    """Return the cursor from the query. Raises Invalid."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    unknown = [Problem(f"/{name}", "is unknown", hint="known is after") for name, _ in pairs if name != "after"]
    values = [value for name, value in pairs if name == "after"]
    if unknown or len(values) > 1:
        raise Invalid("invalid request parameters", unknown or [Problem("/after", "occurs more than once")])
    text = values[0] if values else "0"
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Invalid("invalid request parameters", [Problem("/after", "must be the last `seq` that you have")])
    return int(text)
