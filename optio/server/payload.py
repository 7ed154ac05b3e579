"""Request bodies: raw bytes under a limit, and strict JSON out of them."""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import Request
from litestar.types import Receive

from optio.errors import Invalid, Problem
from optio.server.problems import HttpProblem

MAX_DEPTH = 64
BODY_S = 30.0


class Gone(Exception):
    """The client left before its body was whole: nobody is left to be answered."""


async def raw(request: Request[Any, Any, Any], limit: int) -> bytes:
    """The body as it was sent; raises HttpProblem as `read` does, and 415 when it says that it is no JSON."""
    try:
        data = await read(request.scope["headers"], request.receive, limit)
    except Gone as err:
        raise HttpProblem(400, "Bad request", "the body ended too early") from err
    kind = request.headers.get("content-type")
    if data and kind is not None and not is_json(kind):
        raise HttpProblem(415, "Unsupported", "send Content-Type: application/json")
    return data


async def read(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """A request's body; raises HttpProblem 413 before more than `limit` bytes are kept, 415 for an encoded one, 408 for one
    that takes too long, and Gone."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise HttpProblem(415, "Unsupported", "send the body without Content-Encoding")
        if name == b"content-length" and value.isdigit() and int(value[:18]) > limit:
            raise _too_large(limit)
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Gone
                part = message["body"]
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
                if not message["more_body"]:
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError as err:
        raise HttpProblem(408, "Too slow", f"the body was not whole after {BODY_S:.0f} s", {"Connection": "close"}) from err


def is_json(content_type: str) -> bool:
    """Whether a Content-Type is JSON: `application/json`, `application/anything+json`, with any parameters."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _too_large(limit: int) -> HttpProblem:
    return HttpProblem(413, "Too large", f"the body is larger than {limit:,} bytes")


def decode(data: bytes) -> Any:
    """Strict JSON: UTF-8 without BOM, no NaN, no lone surrogate, at most 64 levels; raises HttpProblem 400. Of a doubled
    key the last value counts."""
    try:
        value = msgspec.json.decode(data)
    except RecursionError as err:
        raise HttpProblem(400, "Bad request", f"the body is nested deeper than {MAX_DEPTH} levels") from err
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as err:
        raise HttpProblem(400, "Bad request", f"the body is no JSON: {_brief(err)}") from err
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return value
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for item in level
            if type(item) is dict or type(item) is list
            for child in (item.values() if type(item) is dict else item)
        ]
        if not level:
            return value
    raise HttpProblem(400, "Bad request", f"the body is nested deeper than {MAX_DEPTH} levels")


def _brief(err: Exception) -> str:
    return str(err)[:200]


def mapping(data: bytes) -> dict[str, Any]:
    """A JSON object; an empty body is `{}`. Raises HttpProblem 400 and Invalid."""
    if not data.strip():
        return {}
    value = decode(data)
    if not isinstance(value, dict):
        raise Invalid("the body is no JSON object", [Problem("", "must be object")])
    return value
