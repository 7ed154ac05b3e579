"""Secrets in logs: every spelling that a program makes of a value by accident is replaced.

Masked: the value itself, each line of a longer text, base64 (at all three offsets, standard and URL-safe), hex, URL-quoted,
JSON-escaped. Not promised: reversed, spelled out, with colour codes inside, cut over two lines, values of less than six
characters (masking those would tear up the log and tell them by the holes).
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

SHORTEST = 6
MASK = b"***"
_DEEPEST = 100
_COMMON = ("true", "false", "password")


class Masker:
    """Replaces the spellings of some values."""

    def __init__(self, values: Iterable[str]) -> None:
        # The longest first: what is left of one form must not hide a longer one.
        self._forms = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)

    def __call__(self, data: bytes) -> bytes:
        """The data with every spelling replaced."""
        for form in self._forms:
            data = data.replace(form, MASK)
        return data

    def text(self, text: str) -> str:
        """The same for text; what no database keeps (lone surrogates, NUL) is replaced too."""
        masked = self(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
        return masked.replace("\0", "\ufffd")

    def json(self, value: Any, depth: int = 0) -> Any:
        """The same for every text in a JSON value; what is nested beyond all reason is cut off there."""
        if isinstance(value, str):
            return self.text(value)
        if depth > _DEEPEST:
            return "[nested too deeply]"
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.json(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list):
            return [self.json(each, depth + 1) for each in value]
        if isinstance(value, float) and not float("-inf") < value < float("inf"):
            return None  # 1e999 is infinite to us and no JSON to anybody
        return value


def _forms(value: str) -> Iterator[bytes]:
    for part in {value, *value.splitlines()}:
        text = part.strip()
        if len(text) < SHORTEST or text.lower() in _COMMON:
            continue
        raw = text.encode("utf-8", "surrogatepass")
        yield raw
        yield raw.hex().encode()
        yield raw.hex().upper().encode()
        yield quote(raw, safe="").encode()
        yield quote_plus(raw).encode()
        yield json.dumps(text)[1:-1].encode()
        yield json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")
        for shift in range(3):
            # The characters at both ends depend on the neighbours: only the inner ones are the value's own.
            encoded = base64.b64encode(b"\0" * shift + raw)
            start = (0, 2, 3)[shift]
            inner = encoded.rstrip(b"=")
            inner = inner[start : len(inner) - (1 if (shift + len(raw)) % 3 else 0)]
            if len(inner) >= SHORTEST:
                yield inner
                yield inner.replace(b"+", b"-").replace(b"/", b"_")
