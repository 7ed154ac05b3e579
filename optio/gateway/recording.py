"""Masking of recorded calls: their requests and answers, with `***` in place of the values of secrets. Pure.

A model that says a secret says it in pieces, each in an event of its own. So the texts of a stream that continue each other are
masked together: where that changes them, the first event gets the whole masked text, and the others none.
"""

import re
from collections.abc import Iterator
from typing import Any

from optio.gateway.protocols.base import read_object, write_object
from optio.model.mask import MASK, Masker

Path = tuple[str | int | None, ...]
# Passwords in URLs, such as that of an egress proxy, which no secret names.
_PASSWORD = re.compile(rb"(?<=://)[^/@\s\"'\\]*:[^/@\s\"'\\]*(?=@)")
_DATA = b"data:"


def mask_request(body: bytes, masker: Masker) -> Any:
    """Return the request as JSON."""
    return masker.json(read_object(_PASSWORD.sub(MASK, body)))


def mask_answer(body: bytes, masker: Masker) -> bytes:
    """Return the body of an answer: a stream of events, one JSON object, or anything else."""
    body = _PASSWORD.sub(MASK, body)
    whole = read_object(body)
    if whole is not None:
        return write_object(masker.json(whole))
    lines = body.split(b"\n")
    events = {number: event for number, line in enumerate(lines) if (event := _event(line)) is not None}
    channels: dict[Path, list[tuple[int, Path, str]]] = {}
    for number, event in events.items():
        # Blocks and items of an answer have a place each, by which their texts are told apart.
        block = tuple(event.get(name) for name in ("type", "index", "output_index", "content_index", "item_id"))
        for path, text in _texts(event):
            channels.setdefault((*block, *path), []).append((number, path, text))
    changed: dict[int, dict[Path, str]] = {}
    for pieces in channels.values():
        text = "".join(piece for _, _, piece in pieces)
        masked = masker.text(text)
        if masked == text:
            continue
        for place, (number, path, _) in enumerate(pieces):
            changed.setdefault(number, {})[path] = "" if place else masked
    for number, texts in changed.items():
        lines[number] = _DATA + b" " + write_object(_replaced(events[number], texts, ()))
    return masker(b"\n".join(lines))


def _event(line: bytes) -> dict[str, Any] | None:
    return read_object(line[len(_DATA) :]) if line.startswith(_DATA) else None


def _texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, name))


def _replaced(value: Any, texts: dict[Path, str], path: Path) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(item, texts, (*path, name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, texts, (*path, index)) for index, item in enumerate(value)]
    return texts.get(path, value)
