"""Access for browsers: a cookie that stands for the Authorization header, which a browser cannot send with a page. Installed
between `HttpGuard` and the routes; the rest of the server knows bearer tokens only.

The page `/login` sets the cookie. With `optio dev`, so does a link with `?token=`: the answer redirects to the same address
without the token.

The cookie counts only for requests of this server's own pages, or of the person who typed the address. `SameSite=Strict` is not
enough for that: it lets pages of every other port of this host in. `HttpGuard` has refused other hosts and origins before.
"""

import hmac
from urllib.parse import quote, unquote_to_bytes

from litestar.types import ASGIApp, Receive, Scope, Send

from optio.errors import Forbidden, Unauthorized
from optio.server import problems
from optio.server.http_guard import send_answer
from optio.settings import LOOPBACK

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# What a browser says of a page of this server, and of an address that a person typed or a link outside of the browser.
_OWN_SITE, _NO_SITE = b"same-origin", b"none"
CALLBACK = "/login/callback"


class BrowserAccess:
    """ASGI middleware that turns the cookie, and the link of `optio dev` with `dev_token`, into an Authorization header."""

    def __init__(self, app: ASGIApp, dev_token: str | None) -> None:
        self._app, self._dev_token = app, dev_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirect a link with a token, let a cookie stand for a header, or pass on."""
        if str(scope["type"]) == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._dev_token is not None and _method(scope) in ("GET", "HEAD") and _tokens(scope):
            await self._enter(self._dev_token, scope, send)
            return
        # A browser comes back from its provider, another site, to sign in: whatever session it has does not count there.
        is_counted = b"authorization" not in headers and scope["path"] != CALLBACK
        cookie = _cookie(headers) if is_counted else None
        if not cookie:
            await self._app(scope, receive, send)
        elif not _is_own_page(scope, headers):
            refusal = Forbidden("the browser's cookie is valid for this server's own pages only: send an Authorization header")
            await send_answer(scope, send, *problems.raw(refusal))
        else:
            pair = (b"authorization", b"Bearer " + cookie)
            await self._app({**scope, "headers": [*scope["headers"], pair]}, receive, send)  # type: ignore[arg-type]

    async def _enter(self, dev_token: str, scope: Scope, send: Send) -> None:
        tokens = _tokens(scope)
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0], dev_token.encode()):
            refusal = Unauthorized(
                "this link belongs to an `optio dev` that has ended: open the link that the running one printed"
            )
            await send_answer(scope, send, *problems.raw(refusal))
            return
        rest = b"&".join(part for part in scope["query_string"].split(b"&") if not part.startswith(b"token="))
        location = scope["raw_path"] + (b"?" + rest if rest else b"")
        setting = cookie(scope, dev_token).encode()
        await send_answer(scope, send, 303, [(b"location", location), (b"set-cookie", setting), (b"content-length", b"0")], b"")


def cookie(scope: Scope, token: str | None) -> str:
    """Return the value of the `Set-Cookie` header that keeps a token, or that deletes it. Off this machine the cookie is sent
    over HTTPS only."""
    secure = "" if is_local(scope) else "; Secure"
    ends = "; Max-Age=0" if token is None else ""
    return (
        f"{_cookie_name(dict(scope['headers'])).decode()}={quote(token or '')}; Path=/; HttpOnly; SameSite=Strict{secure}{ends}"
    )


def sign_in_cookie_name(scope: Scope) -> str:
    """Return the name of the cookie of a sign-in at a provider. Off this machine no other host of the domain can set it."""
    name = _cookie_name(dict(scope["headers"])).decode().replace("optio_", "optio_sign_in_")
    return name if is_local(scope) else f"__Host-{name}"


def is_local(scope: Scope) -> bool:
    """Return whether the browser is on this machine, by the name that it calls the server."""
    host = dict(scope["headers"])[b"host"].decode("latin-1")
    return (host.rpartition(":")[0] or host).strip("[]").lower() in LOOPBACK


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
    """Return the token in the cookie, or None. Cookies of other servers on this host may have any form."""
    pairs = (pair.strip().partition(b"=") for pair in headers.get(b"cookie", b"").split(b";"))
    return next((unquote_to_bytes(value) for name, _, value in pairs if name == _cookie_name(headers)), None)


def _is_own_page(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Return whether the request comes from a page of this server, or reads at the wish of a person who typed the address. An
    Origin header was checked before."""
    site, reads = headers.get(b"sec-fetch-site"), _method(scope) in _SAFE_METHODS
    if site is None:
        return reads or b"origin" in headers
    return site == _OWN_SITE or (reads and site == _NO_SITE)
