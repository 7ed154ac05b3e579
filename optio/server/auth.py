"""Authentication and authorisation: bearer tokens with roles, checked for every route that is not marked `public`. Tokens
themselves are made by `optio token`."""

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from litestar.connection import ASGIConnection
from litestar.datastructures import MultiDict
from litestar.handlers import BaseRouteHandler

from optio.errors import Forbidden, Invalid, NotFound, OptioError, Problem, Unauthorized
from optio.server.loop_bridge import read_small
from optio.store.base import TokenStore
from optio.store.values import Role

log = logging.getLogger(__name__)
ROLES: tuple[Role, ...] = get_args(Role)
PUBLIC: Final = "public"
# The `opt=` of a handler whose query another server writes, with parameters of its own.
ANY_QUERY: Final = {"any_query": True}
_MAX_TOKEN_LENGTH = 512
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ZONE = re.compile(r"([zZ]|[+-][0-9]{2}:?[0-9]{2})\Z")
_TOUCH_PERIOD_S = 60.0
Headers = Iterable[tuple[bytes, bytes]]


def role(name: Role | Literal["public"]) -> dict[str, Any]:
    """Return the `opt=` of a handler that needs this role. A handler without it needs `admin`."""
    return {"role": name}


def token_hash(secret: str) -> str:
    """Return what is stored of a token. Its 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Actor:
    """The authenticated caller. `token` is the hash of the token that was sent; None for the token of `optio dev`, which ends
    with its process."""

    name: str
    role: Role
    token: str | None

    def may(self, required: Role) -> bool:
        """Return whether the caller has this role, or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(required)


class AccessControl:
    """The check of tokens and roles. Tokens are looked up in the store for each request, so a revoked one ends at once.

    `dev_token` is an admin's token too, for as long as this process lives. `clock` tells seconds.
    """

    def __init__(self, store: TokenStore, *, dev_token: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._dev = None if dev_token is None else token_hash(dev_token)
        self._for_browsers = "" if dev_token is None else "; in a browser, open the link that `optio dev` printed"
        self._touched: dict[str, float] = {}

    async def admit(self, headers: Headers, required: Role) -> Actor:
        """Return the actor of a request. Raises Unauthorized, or Forbidden if its role is lower than `needed`."""
        actor = await self._identify(headers)
        if not actor.may(required):
            raise Forbidden(f"this needs the role {required}, the token has {actor.role}")
        return actor

    async def is_still_valid(self, actor: Actor) -> bool:
        """Return whether the actor's token is still valid. Long streams ask now and then."""
        return actor.token is None or await read_small(self._store, self._store.token, actor.token) is not None

    async def end_session(self, headers: Headers) -> None:
        """Revoke the session of a request. A request with an API token, or with nothing that is valid, changes nothing."""
        try:
            actor = await self._identify(headers)
        except Unauthorized:
            return
        token = None if actor.token is None else await read_small(self._store, self._store.token, actor.token)
        if token is not None and token.is_session:
            with suppress(NotFound):  # another request revoked it
                await asyncio.to_thread(self._store.revoke_token, token.id)

    async def _identify(self, headers: Headers) -> Actor:
        values = [value for name, value in headers if name == b"authorization"]
        if len(values) != 1:
            raise Unauthorized(f"send one `Authorization: Bearer <token>` header{self._for_browsers}")
        scheme, _, secret = values[0].decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not secret.isascii() or not 0 < len(secret) <= _MAX_TOKEN_LENGTH:
            raise Unauthorized("send `Authorization: Bearer <token>`")
        digest = token_hash(secret)
        if self._dev is not None and hmac.compare_digest(digest, self._dev):
            return Actor("local", "admin", None)
        token = await read_small(self._store, self._store.token, digest)
        if token is None:
            raise Unauthorized(f"this token is not known, has expired, or was revoked{self._for_browsers}")
        self._touch(token.id)
        kind = "user" if token.is_session else "token"
        return Actor(f"{kind}:{token.label or token.id}", token.role, digest)

    def _touch(self, token_id: str) -> None:
        """Record the use of a token, at most once a minute, without delaying the request."""
        now = self._clock()
        if now - self._touched.get(token_id, -_TOUCH_PERIOD_S) < _TOUCH_PERIOD_S:
            return
        self._touched[token_id] = now
        asyncio.get_running_loop().run_in_executor(None, self._note, token_id)

    def _note(self, token_id: str) -> None:
        try:
            self._store.touch_token(token_id)
        except OptioError as err:
            log.warning("the use of token %s could not be noted: %s", token_id, err)


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Check a request before its handler runs. Raises Unauthorized, Forbidden and Invalid, and leaves the actor in the
    connection's state (`who`, and its name as `actor`).

    Query parameters that the handler does not know are refused: a misspelt filter would show everything.
    """
    required = handler.opt.get("role", "admin")
    if required != PUBLIC:
        access_control: AccessControl = connection.scope["state"]["hub"].access_control
        try:
            actor = await access_control.admit(connection.scope["headers"], required)
        except Unauthorized:
            # A page may save what somebody typed into its form.
            if "keep_form" in handler.opt:
                connection.state.kept_form = await handler.opt["keep_form"](connection)
            raise
        connection.state.who, connection.state.actor = actor, actor.name
    problems = list(_query_problems(connection.query_params, handler.opt))
    if problems:
        raise Invalid("invalid request parameters", problems)


def _query_problems(query: MultiDict[Any], opt: dict[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the parameters of a query, by what `app` has recorded of the handler's."""
    names = set(opt.get("query", {}).values())
    for name in query:
        values = query.getall(name)
        if name not in names:
            if "any_query" not in opt:
                hint = ("known are " + ", ".join(sorted(names))) if names else None
                yield Problem(f"/{name}", "is unknown", hint=hint)
        elif len(values) > 1:
            yield Problem(f"/{name}", "occurs more than once")
        elif values[0] == "null" and name not in opt["texts"]:
            # The framework would read it as a parameter that is not there.
            yield Problem(f"/{name}", "must be given with a value, or be left out")
        elif name in opt["times"] and not _DATE.match(values[0]):
            # The framework would read a number as seconds since 1970.
            yield Problem(f"/{name}", "must be a time, such as `2026-01-05T08:00:00Z`")
        elif name in opt["times"] and not _ZONE.search(values[0]):
            yield Problem(f"/{name}", "needs a time zone, such as `Z` at its end")
    for name in sorted(opt.get("required", set()) - set(query)):
        yield Problem(f"/{name}", "is missing")
