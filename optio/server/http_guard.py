"""The outermost layer of the server, which refuses requests before any route is looked up and adds security headers to every
answer.

Refused are unknown Host names (DNS rebinding), requests from pages of other sites, and paths in another spelling than the
canonical one.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from optio.errors import Forbidden, NotFound, OptioError
from optio.server import problems
from optio.server.problems import HttpProblem

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
# No route of this server contains these: such a path is another spelling of one that a proxy in front may treat differently.
_ODD = re.compile(rb"//|/\.\.?(/|$)|./$|%2f|%5c|%00|%2e|\\", re.IGNORECASE)


class HttpGuard:
    """ASGI middleware. `hosts` are the names that a Host header may have, without port."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = {host.lower().strip("[]") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        kind = str(scope["type"])
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        refusal = self._refuse(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await send_answer(scope, send, *problems.raw(refusal))

    def _refuse(self, scope: Scope) -> OptioError | None:
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None or _name(value) not in self._hosts:
                    return _bad_host("Host")
                host = value
            elif name == b"origin":
                origin = value if origin is None else b"twice"
            elif name == b"x-forwarded-host" and _name(value) not in self._hosts:
                return _bad_host("X-Forwarded-Host")
        if host is None:
            return _bad_host("Host")
        if origin is not None and not _same_origin(origin, host):
            return Forbidden("requests from another site's pages are refused")
        if _ODD.search(scope["raw_path"]):
            return NotFound("page", scope["path"][:200])
        return None


async def send_answer(scope: Scope, send: Send, status: int, headers: list[tuple[bytes, bytes]], data: bytes) -> None:
    """Send a whole answer; a WebSocket that was not accepted is answered over HTTP too."""
    prefix = "http" if str(scope["type"]) == "http" else "websocket.http"
    await send({"type": f"{prefix}.response.start", "status": status, "headers": headers})  # type: ignore[misc,arg-type]
    await send({"type": f"{prefix}.response.body", "body": data, "more_body": False})  # type: ignore[misc,arg-type]


def _bad_host(header: str) -> OptioError:
    return HttpProblem("bad-host", f"{header} names a host that this server does not serve: add it to OPTIO_ALLOWED_HOSTS")


def _name(host: bytes) -> str:
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if ":" in text else text


def _same_origin(origin: bytes, host: bytes) -> bool:
    try:
        parts = urlsplit(origin.decode("latin-1"))
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.decode("latin-1").lower()


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            present = {name for name, _ in message["headers"]}
            additions = [pair for pair in _HEADERS if pair[0] not in present]
            message["headers"] = [*message["headers"], *additions]
        await send(message)

    return wrapped
