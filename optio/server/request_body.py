"""Request bodies: raw bytes under a size limit and a time limit, and JSON objects made of them."""

import asyncio
from collections.abc import Iterable
from typing import Any

from litestar import Request
from litestar.types import Receive

from optio.errors import Invalid, Malformed, Problem, Unsupported
from optio.model.json_body import decode, is_json, refuse_encoded
from optio.model.route import pointer
from optio.server.dependencies import Hub
from optio.server.problems import HttpProblem

BODY_TIMEOUT_S = 30.0


class ClientGone(Exception):
    """Raised when the client leaves before its body is complete, so that there is nobody to answer."""


async def read_raw(request: Request[Any, Any, Any], limit: int) -> bytes:
    """Return the body as it was sent. Raises what `read_body` raises, Malformed if the body ends too early, and Unsupported for
    a content type that is not JSON."""
    try:
        data = await read_body(request.scope["headers"], request.receive, limit)
    except ClientGone as err:
        raise Malformed("the body ended too early") from err
    kind = request.headers.get("content-type")
    if data and kind is not None and not is_json(kind):
        raise Unsupported("send Content-Type: application/json")
    return data


async def read_body(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """Return a request's body. Raises HttpProblem 413 before more than `limit` bytes are in memory and 408 for one that takes
    too long, Unsupported for an encoded one, and ClientGone."""
    headers = list(headers)
    refuse_encoded(value.decode("latin-1") for name, value in headers if name == b"content-encoding")
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value[:18]) > limit:
            raise _too_large(limit)
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                part = message["body"]
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
                if not message["more_body"]:
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError as err:
        raise HttpProblem("too-slow", f"the body was incomplete after {BODY_TIMEOUT_S:.0f} s", {"Connection": "close"}) from err


def _too_large(limit: int) -> HttpProblem:
    return HttpProblem("too-large", f"the body is larger than {limit:,} bytes")


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; an empty body is `{}`. Raises Malformed and Invalid."""
    if not data.strip():
        return {}
    value = decode(data)
    if not isinstance(value, dict):
        raise Invalid("the body is not a JSON object", [Problem("", "must be object")])
    return value


def refuse_unknown(document: dict[str, Any], *known_keys: str, hint: str | None = None) -> None:
    """Raise Invalid for keys that would otherwise be ignored."""
    unknown = sorted(set(document) - set(known_keys))
    if unknown:
        raise Invalid("unknown keys", [Problem(pointer((key,)), "is unknown", hint=hint) for key in unknown])


async def read_object(request: Request[Any, Any, Any], hub: Hub, *known_keys: str) -> dict[str, Any]:
    """Return the JSON object that a request carries. Raises what `read_raw` and `parse_object` raise, and Invalid for keys that
    are not known."""
    document = parse_object(await read_raw(request, hub.services.settings.max_body_bytes))
    refuse_unknown(document, *known_keys)
    return document
