"""Strict decoding of JSON request bodies, for the API, for webhooks and for sample payloads of tests. Errors name line and
column."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from optio.errors import Malformed, Unsupported

MAX_DEPTH = 64
_BYTE = re.compile(r" \(byte (\d+)\)$")


def is_json(content_type: str) -> bool:
    """Return whether a Content-Type is JSON: `application/json` or `application/anything+json`, with any parameters."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def refuse_encoded(content_encodings: Iterable[str]) -> None:
    """Raise Unsupported for a body with a Content-Encoding: a small compressed body may be gigabytes unpacked."""
    if any(value.strip().lower() not in ("", "identity") for value in content_encodings):
        raise Unsupported("send the body without Content-Encoding")


def decode(data: bytes, name: str = "the body") -> Any:
    """Return the value of a strict JSON text: UTF-8 without a byte order mark, no NaN, no lone surrogate, at most 64 levels. Of
    a key that stands twice the last value counts. Raise Malformed with a message that calls the text by `name`."""
    try:
        value = msgspec.json.decode(data)
    except RecursionError as err:
        raise _too_deep(name) from err
    except (msgspec.DecodeError, ValueError) as err:
        raise Malformed(f"{name} is not JSON: {_reason(data, err)}") from err
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return value
    level = _containers([value])
    for _ in range(MAX_DEPTH):
        level = _containers(
            child for container in level for child in (container.values() if type(container) is dict else container)
        )
        if not level:
            return value
    raise _too_deep(name)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if type(value) is dict or type(value) is list]


def _too_deep(name: str) -> Malformed:
    return Malformed(f"{name} is nested deeper than {MAX_DEPTH} levels")


def _reason(data: bytes, err: Exception) -> str:
    """Return why a text is not JSON, and where, as line and column."""
    if not data.strip():
        return "it is empty"
    if isinstance(err, UnicodeDecodeError):
        return "it is not UTF-8"
    if data.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark"
    text = str(err).removeprefix("JSON is malformed: ").partition(" - at ")[0][:200]
    text = text[:1].lower() + text[1:]
    place = _BYTE.search(text)
    if place is None:
        return text
    before = data[: int(place[1])].decode("utf-8", "replace")
    column = len(before) - before.rfind("\n")
    return f"{text[: place.start()]} at line {before.count(chr(10)) + 1}, column {column}"
