"""Strict JSON out of a request's raw bytes."""

from typing import Any

import msgspec

from optio.errors import Malformed

MAX_DEPTH = 64


def is_json(content_type: str) -> bool:
    """Whether a Content-Type is JSON: `application/json`, `application/anything+json`, with any parameters."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def decode(data: bytes) -> Any:
    """Strict JSON: UTF-8 without BOM, no NaN, no lone surrogate, at most 64 levels; raises Malformed. Of a doubled key the
    last value counts."""
    try:
        value = msgspec.json.decode(data)
    except RecursionError as err:
        raise Malformed(f"the body is nested deeper than {MAX_DEPTH} levels") from err
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as err:
        raise Malformed(f"the body is no JSON: {_brief(err)}") from err
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
    raise Malformed(f"the body is nested deeper than {MAX_DEPTH} levels")


def _brief(err: Exception) -> str:
    return str(err)[:200]
