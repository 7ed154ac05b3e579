"""Access for browsers: a link with `?token=`, then a cookie. Installed by `optio dev` alone, between `HttpGuard` and the
routes.

A browser cannot send an Authorization header with the page that it opens. The link that `optio dev` prints carries the token
once; the answer sets a cookie and redirects to the same address without the token. After that, the cookie stands for the
header, so that the rest of the server knows bearer tokens only.

The cookie counts only for requests of this server's own pages, or of the person who typed the address. `SameSite=Strict` is not
enough for that: it lets pages of every other port of this host in. `HttpGuard` has refused other hosts and origins before.
"""

import hmac

from litestar.types import ASGIApp, Receive, Scope, Send

from optio.errors import Forbidden, Unauthorized
from optio.server import problems
from optio.server.http_guard import send_answer

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# What a browser says of a page of this server, and of an address that a person typed or a link outside of the browser.
_OWN_SITE, _NO_SITE = b"same-origin", b"none"


class BrowserAccess:
    """ASGI middleware that turns the link and the cookie of one token into an Authorization header."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirect a link with a token, let a cookie stand for a header, or pass on."""
        if str(scope["type"]) == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if _method(scope) in ("GET", "HEAD") and _tokens(scope):
            await self._enter(scope, headers, send)
            return
        cookie = None if b"authorization" in headers else _cookie(headers)
        if cookie is None or not self._is_valid(cookie):
            await self._app(scope, receive, send)
        elif not _is_own_page(scope, headers):
            refusal = Forbidden("the browser's cookie is valid for this server's own pages only: send an Authorization header")
            await send_answer(scope, send, *problems.raw(refusal))
        else:
            pair = (b"authorization", b"Bearer " + cookie)
            await self._app({**scope, "headers": [*scope["headers"], pair]}, receive, send)  # type: ignore[arg-type]

    async def _enter(self, scope: Scope, headers: dict[bytes, bytes], send: Send) -> None:
        tokens = _tokens(scope)
        if len(tokens) != 1 or not self._is_valid(tokens[0]):
            refusal = Unauthorized(
                "this link belongs to an `optio dev` that has ended: open the link that the running one printed"
            )
            await send_answer(scope, send, *problems.raw(refusal))
            return
        rest = b"&".join(part for part in scope["query_string"].split(b"&") if not part.startswith(b"token="))
        path = scope.get("raw_path") or scope["path"].encode()
        cookie = b"%b=%b; Path=/; HttpOnly; SameSite=Strict" % (_cookie_name(headers), tokens[0])
        location = path + (b"?" + rest if rest else b"")
        await send_answer(scope, send, 303, [(b"location", location), (b"set-cookie", cookie), (b"content-length", b"0")], b"")

    def _is_valid(self, token: bytes) -> bool:
        return hmac.compare_digest(token, self._token.encode())


def _method(scope: Scope) -> str:
    """Return the HTTP method; empty for a WebSocket."""
    return str(scope.get("method", ""))


def _tokens(scope: Scope) -> list[bytes]:
    return [part.removeprefix(b"token=") for part in scope["query_string"].split(b"&") if part.startswith(b"token=")]


def _cookie_name(headers: dict[bytes, bytes]) -> bytes:
    """Return the name of the cookie, one for each port, because browsers send the cookies of a host to all of its ports."""
    port = headers[b"host"].rpartition(b":")[2]
    return b"optio_%b" % (port if port.isdigit() else b"80")


def _cookie(headers: dict[bytes, bytes]) -> bytes | None:
    """Return the value of the cookie, or None. Cookies of other servers on this host may have any form."""
    pairs = (pair.strip().partition(b"=") for pair in headers.get(b"cookie", b"").split(b";"))
    return next((value for name, _, value in pairs if name == _cookie_name(headers)), None)


def _is_own_page(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Return whether the request comes from a page of this server, or reads at the wish of a person who typed the address. An
    Origin header was checked before."""
    site, reads = headers.get(b"sec-fetch-site"), _method(scope) in _SAFE_METHODS
    if site is None:
        return reads or b"origin" in headers
    return site == _OWN_SITE or (reads and site == _NO_SITE)
