"""Requests and answers over HTTP, as each side of the gateway needs them: keys, bodies of bounded size, refusals."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from optio.gateway.protocols.base import Dialect

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 32 << 20
# Headers of one connection, and those that the gateway sets itself.
OWN_HEADERS = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade host content-length "
    b"accept-encoding expect".split()
)
# Where a credential stands, in the order in which it is looked for.
_CREDENTIALS = (b"x-api-key", b"x-goog-api-key", b"api-key", b"authorization")


class CallRefused(Exception):
    """Raised for a request that is not passed on: the status and the reason, in words for the agent."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    def body(self, dialect: Dialect) -> bytes:
        """Return the body of the answer, in the shape in which the model service itself refuses."""
        return dialect.refusal(self.status, self.reason, f"Optio: {self.message}")


class AnswerBroke(Exception):
    """Raised to end a connection whose answer broke off in its middle, so that the agent sees that too."""


def is_no_broken_answer(record: logging.LogRecord) -> bool:
    """Filter out answers that broke off: the server logs what ends a connection as an error."""
    return not (record.exc_info and isinstance(record.exc_info[1], AnswerBroke))


def read_key(scope: Message) -> str:
    """Return the key of an attempt that a request brings. Raises CallRefused if it has none."""
    headers = dict(scope["headers"])
    for name in _CREDENTIALS:
        value = headers.get(name, b"").decode("latin-1")
        value = value[7:] if value[:7].lower() == "bearer " else value
        if value:
            return str(value)
    in_query = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("key")
    if in_query:
        return str(in_query)
    raise CallRefused(401, "auth", "the request has no key")


async def read_body(scope: Message, receive: Receive) -> bytes:
    """Return the body. Raises CallRefused for one that is too large, is compressed, or does not come."""
    if dict(scope["headers"]).get(b"content-encoding", b"identity") != b"identity":
        raise CallRefused(415, "body", "compressed requests are not read: send it as it is")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallRefused(400, "body", "the request broke off")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise CallRefused(413, "body", f"a request has at most {MAX_BODY_BYTES >> 20} MiB")
        if not message.get("more_body"):
            return bytes(body)


async def wait_for_leave(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole answer, of JSON unless a header says otherwise."""
    given = {name for name, _ in headers}
    plain = [] if b"content-type" in given else [(b"content-type", b"application/json")]
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *plain, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
