"""Request bodies: raw bytes under a size limit and a time limit, and JSON objects made of them."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from litestar import Request
from litestar.types import Receive
from msgspec import Struct, ValidationError, convert, structs

from optio.errors import Invalid, Malformed, Problem, Unsupported
from optio.model.json_body import decode, is_json, refuse_encoded
from optio.model.route import Route, pointer
from optio.server.dependencies import Hub
from optio.server.problems import HttpProblem

B = TypeVar("B", bound=Struct)
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


def refuse_unknown(document: Mapping[str, Any], *known_keys: str, hint: str | None = None, base: Route = ()) -> None:
    """Raise Invalid for keys that would otherwise be ignored."""
    unknown = sorted(set(document) - set(known_keys))
    if unknown:
        raise Invalid("unknown keys", [Problem(pointer((*base, key)), "is unknown", hint=hint) for key in unknown])


async def read_as(request: Request[Any, Any, Any], hub: Hub, kind: type[B]) -> B:
    """Return the body that a request carries. Raises what `read_raw`, `parse_object` and `as_body` raise."""
    return as_body(parse_object(await read_raw(request, hub.services.settings.max_body_bytes)), kind)


async def read_empty(request: Request[Any, Any, Any], hub: Hub) -> None:
    """Read a body that is empty, or an object without members. Raises what `read_raw` and `parse_object` raise, and Invalid."""
    refuse_unknown(parse_object(await read_raw(request, hub.services.settings.max_body_bytes)))


def as_body(document: Mapping[str, Any], kind: type[B], base: Route = ()) -> B:
    """Return a JSON object as a body, by what the body declares. Raises Invalid for unknown keys, and for each member that is
    missing or has another type."""
    members = {member.encode_name: member for member in structs.fields(kind)}
    refuse_unknown(document, *members, base=base)
    values: dict[str, Any] = {}
    problems = []
    for name, member in members.items():
        place = pointer((*base, name))
        if name not in document:
            if member.required:
                problems.append(Problem(place, "is required"))
            continue
        part = next((option for option in (member.type, *get_args(member.type)) if _is_body(option)), None)
        try:
            if part is not None and isinstance(document[name], dict):
                value = as_body(document[name], part, (*base, name))
            else:
                value = convert(document[name], member.type)
        except ValidationError as err:
            problems.append(Problem(place, str(err)))
        else:
            values[member.name] = value
    if problems:
        raise Invalid("invalid request", problems)
    return kind(**values)


def _is_body(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Struct)
