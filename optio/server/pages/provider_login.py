"""Login of people at an identity provider, beside that by an API token: away to the provider, back with a code, and a session.

The browser comes back from another site, so a cookie of its own (`SameSite=Lax`, ten minutes) binds the answer to the browser
that began. The session's cookie is `Strict`, and not sent with a redirection from there: so a page leads on by itself.
"""

import asyncio
import hmac
import logging
import secrets
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from litestar import Response, get
from litestar.datastructures import Cookie
from litestar.params import FromQuery

from optio.errors import NotFound
from optio.identity.base import IdentityProvider, Person, ProviderReply, SignIn, SignInFailed
from optio.server import browser
from optio.server.auth import ANY_QUERY, PUBLIC, ROLES, role, token_hash
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.pages.login import local_path
from optio.server.pages.rendering import Pages, page, redirect
from optio.store.values import SESSION_PREFIX, Role

log = logging.getLogger(__name__)
_MAX_LIFE_S = 600
# A cookie has room for 4,096 bytes.
_MAX_TARGET_BYTES = 2000
_REPLY = ("code", "state", "error", "error_description", "iss")
_FORGOTTEN = "this sign-in was begun in another browser, or more than 10 minutes ago, or has been used already: begin again"


class ProviderLoginController(Pages):
    """Routes of `/login/provider` and `/login/callback`."""

    @get("/login/provider", opt=role(PUBLIC))
    async def begin(self, request: Incoming, hub: InjectedHub, next: FromQuery[str] = "/") -> Response[Any]:
        """Send the browser to the provider. By a link, because the policy of the pages lets no form lead to another host."""
        provider = _provider(hub)
        target = local_path(next)
        try:
            sign_in, address = await provider.begin(_redirect_uri(request))
        except SignInFailed as err:
            return _failed(request, err, target)
        words = quote(target, safe="/")
        cookie_value = ".".join(
            (sign_in.state, sign_in.nonce, sign_in.verifier, words if len(words) <= _MAX_TARGET_BYTES else "/")
        )
        return redirect(address, cookies=[_cookie(request, cookie_value)])

    @get(browser.CALLBACK, opt={**role(PUBLIC), **ANY_QUERY})
    async def finish(self, request: Incoming, hub: InjectedHub) -> Response[Any]:
        """Take the provider's answer, and lead a person with a role on."""
        provider = _provider(hub)
        # Read here, because providers add parameters of their own.
        code, state, error, description, issuer = (request.query_params.get(name, "") for name in _REPLY)
        pending = _pending_sign_in(request, state)
        if pending is None:
            return _failed(request, SignInFailed(_FORGOTTEN, 400), "/")
        sign_in, target = pending
        try:
            reply = ProviderReply(code=code, error=error, error_description=description, issuer=issuer)
            person = await provider.finish(sign_in, reply, _redirect_uri(request))
            session = await _open(hub, person)
        except SignInFailed as err:
            answer = _failed(request, err, target)
        else:
            answer = page(request, "signed_in.html", name=person.name, next=target)
            answer.headers["set-cookie"] = browser.cookie(request.scope, session)
        answer.cookies = [_cookie(request, None)]
        return answer


def _provider(hub: Hub) -> IdentityProvider:
    if hub.identity is None:
        raise NotFound("page", "/login/provider", "no provider is set here: an administrator sets OPTIO_OIDC_ISSUER")
    return hub.identity


def _failed(request: Incoming, error: SignInFailed, target: str) -> Response[str]:
    if error.status != 400:  # anybody may make such a request, as often as he likes
        log.warning("nobody is signed in: %s%s", error, f" ({error.detail})" if error.detail else "")
    problem = f"You are not signed in: {error}."
    return page(request, "login.html", status=error.status, next=target, problem=problem, kept={})


async def _open(hub: Hub, person: Person) -> str:
    """Open a session with the highest role of the person's groups, and return its secret. Raises SignInFailed if there is
    none."""
    settings = hub.services.settings
    roles = [group_role for group, group_role in (settings.oidc_roles or {}).items() if group in person.groups]
    if not roles:
        cure = (
            "ask for one that may enter, let an administrator add yours to OPTIO_OIDC_ROLES, or sign out at your provider first"
        )
        detail = f"subject {person.subject!r}, {len(person.groups)} groups"
        raise SignInFailed(f"{person.name} is in no group with a role here: {cure}", 403, detail)
    highest: Role = max(roles, key=ROLES.index)
    secret, session_id = "optio_" + secrets.token_urlsafe(32), SESSION_PREFIX + secrets.token_hex(6)
    expires = datetime.now(UTC) + settings.oidc_session
    store = hub.services.store
    await asyncio.to_thread(store.add_token, session_id, token_hash(secret), highest, person.name, expires)
    log.info("%s (subject %r) signed in as %s: session %s", person.name, person.subject, highest, session_id)
    return secret


def _redirect_uri(request: Incoming) -> str:
    """Return the address at which the provider sends the browser back, as the browser knows this server."""
    scheme = "http" if browser.is_local(request.scope) else "https"
    return f"{scheme}://{request.headers['host']}{browser.CALLBACK}"


def _cookie(request: Incoming, value: str | None) -> Cookie:
    """Return the cookie of a sign-in that was begun, or its deletion."""
    return Cookie(
        browser.sign_in_cookie_name(request.scope),
        value=value or "",
        max_age=_MAX_LIFE_S if value else 0,
        httponly=True,
        secure=not browser.is_local(request.scope),
        samesite="lax",
    )


def _pending_sign_in(request: Incoming, state: str) -> tuple[SignIn, str] | None:
    """Return the sign-in that this browser began, and where it wanted to go; None if the state belongs to no such sign-in."""
    parts = request.cookies.get(browser.sign_in_cookie_name(request.scope), "").split(".", 3)
    if len(parts) < 4 or not hmac.compare_digest(parts[0].encode(), state.encode()):
        return None
    return SignIn(state=parts[0], nonce=parts[1], verifier=parts[2]), local_path(unquote(parts[3]))
