"""The outermost layer: what is refused before any route is looked up.

A Host that is not ours (DNS rebinding), a browser on another site (cross-site requests), security headers on every answer.
"""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from optio.server.problems import MEDIA_TYPE, body

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Edge:
    """ASGI middleware. `hosts` are the names that a Host header may have, without port."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = {host.lower().strip("[]") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        kind = str(scope["type"])
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refuse(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send) if kind == "http" else send)
        elif kind == "http":
            await _answer(send, *refusal)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[2][:100]})

    def _refuse(self, scope: Scope) -> tuple[int, str, str] | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or _name(hosts[0]) not in self._hosts:
            return 400, "Bad request", "the Host header names no host of this server (see OPTIO_ALLOWED_HOSTS)"
        for name, value in scope["headers"]:
            if name == b"origin" and not _same_origin(value, hosts[0]):
                return 403, "Forbidden", "requests from another site's pages are refused"
            if name == b"x-forwarded-host" and _name(value) not in self._hosts:
                return 400, "Bad request", "X-Forwarded-Host names no host of this server"
        return None


def _name(host: bytes) -> str:
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if ":" in text else text


def _same_origin(origin: bytes, host: bytes) -> bool:
    parts = urlsplit(origin.decode("latin-1"))
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.decode("latin-1").lower()


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in present)]
        await send(message)

    return wrapped


async def _answer(send: Send, status: int, title: str, detail: str) -> None:
    data = json.dumps(body(status, title, detail)).encode()
    headers: list[Any] = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(data)).encode()), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data, "more_body": False})
