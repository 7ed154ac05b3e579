"""Who may do what: bearer tokens with roles, checked for every route that is not marked `public`."""

import hashlib
from collections.abc import Mapping
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from optio.errors import Forbidden, Unauthorized
from optio.server.hub import Hub

ROLES = ("viewer", "operator", "admin")
PUBLIC = "public"
_LONGEST = 512


def role(name: str) -> dict[str, Any]:
    """`opt=` of a handler. A handler without it is for admins."""
    return {"role": name}


def token_hash(secret: str) -> str:
    """What is kept of a token: its 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Raises Unauthorized or Forbidden; leaves the actor's name in the connection's state."""
    needed = handler.opt.get("role", "admin")
    if needed == PUBLIC:
        return
    hub: Hub = connection.app.state.hub
    actor, has = identify(hub, connection.headers)
    if ROLES.index(has) < ROLES.index(needed):
        raise Forbidden(f"this needs the role {needed}, the token has {has}")
    connection.state.actor = actor


def identify(hub: Hub, headers: Mapping[str, str]) -> tuple[str, str]:
    """(actor, role) of a request; raises Unauthorized."""
    values = headers.getall("authorization", []) if hasattr(headers, "getall") else [headers.get("authorization", "")]
    if not values and hub.open_access:
        return "local", "admin"
    if len(values) != 1:
        raise Unauthorized("send one `Authorization: Bearer <token>` header")
    scheme, _, secret = values[0].partition(" ")
    if scheme.lower() != "bearer" or not secret.isascii() or not 0 < len(secret) <= _LONGEST:
        raise Unauthorized("send `Authorization: Bearer <token>`")
    token = hub.services.store.token(token_hash(secret))
    if token is None:
        raise Unauthorized("this token is not known, has expired, or was revoked")
    return f"token:{token.label or token.id}", token.role
