"""A stand-in for the gateway that answers model calls out of a recording. It needs no key and reaches nothing."""

import re
from collections.abc import Iterator

from optio.gateway.asgi import AnswerBroke, CallRefused, Message, Receive, Send, answer, read_body
from optio.gateway.protocols.base import Dialect, read_object
from optio.model.model_call import CallRecording
from optio.testing.replayed_calls import ReplayedCalls

MODEL = "/model"
# An event of a stream ends with an empty line.
_EVENT = re.compile(rb"(?s).+?\r?\n\r?\n|.+")


class ReplayServer:
    """The application, as uvicorn calls it. It refuses in the protocol of the recording."""

    def __init__(self, calls: ReplayedCalls, dialect: Dialect) -> None:
        self._calls, self._dialect = calls, dialect

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            try:
                await self._serve(scope, receive, send)
            except CallRefused as refused:
                await answer(send, refused.status, refused.body(self._dialect))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(MODEL)
        body = await read_body(scope, receive)
        if scope["method"] != "POST" or not self._calls.is_call(path):
            raise CallRefused(404, "path", "a recording has model calls alone")
        call = self._calls.take(path, read_object(body))
        if call is None:
            raise CallRefused(402, "budget", "all recorded calls of the run were made")
        head = {"type": "http.response.start", "status": call.status}
        await send(head | {"headers": [(b"content-type", call.content_type.encode("latin-1"))]})
        for piece in _pieces(call):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if not call.is_whole:
            raise AnswerBroke
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _pieces(call: CallRecording) -> Iterator[bytes]:
    if call.content_type.startswith("text/event-stream"):
        yield from (found[0] for found in _EVENT.finditer(call.answer))
    elif call.answer:
        yield call.answer
