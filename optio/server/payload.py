"""Request bodies: raw bytes under a limit, and strict JSON out of them."""

from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import ClientException, HTTPException

from optio.errors import Invalid, Problem
from optio.server.problems import HttpProblem

MAX_DEPTH = 64


async def raw(request: Request[Any, Any, Any], limit: int) -> bytes:
    """The body as it was sent; raises HttpProblem 413 before more than `limit` bytes are kept, 415 for an encoded one."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise HttpProblem(415, "Unsupported", "send the body without Content-Encoding")
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:18]) > limit:
        raise _too_large(limit)
    parts = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
    except ClientException as err:
        raise HttpProblem(400, "Bad request", "the body ended too early") from err
    except HTTPException as err:
        if err.status_code == 413:
            raise _too_large(limit) from err
        raise
    return b"".join(parts)


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
