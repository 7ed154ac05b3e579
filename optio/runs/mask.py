"""Secrets in logs: every spelling that a program makes of a value by accident is replaced.

Masked: the value itself, each line of a longer text, base64 (at all three offsets, standard and URL-safe), hex, URL-quoted,
JSON-escaped. Not promised: reversed, spelled out, with colour codes inside, cut over two lines.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

SHORTEST = 6
MASK = b"***"


class Masker:
    """Replaces the spellings of some values in bytes."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(form) for form in forms)) if forms else None

    def __call__(self, data: bytes) -> bytes:
        """The data with every spelling replaced."""
        return data if self._pattern is None else self._pattern.sub(MASK, data)


def _forms(value: str) -> Iterator[bytes]:
    for part in {value, *value.splitlines()}:
        text = part.strip()
        if len(text) < SHORTEST or text.lower() in ("true", "false", "password"):
            continue
        raw = text.encode("utf-8", "surrogatepass")
        yield raw
        yield raw.hex().encode()
        yield quote(text, safe="").encode()
        yield quote_plus(text).encode()
        yield json.dumps(text)[1:-1].encode()
        for shift in range(3):
            # The characters at both ends depend on the neighbours: only the inner ones are the value's own.
            encoded = base64.b64encode(b"\0" * shift + raw)
            start = (0, 2, 3)[shift]
            cut = encoded.rstrip(b"=")
            inner = cut[start : len(cut) - (1 if (shift + len(raw)) % 3 else 0)]
            if len(inner) >= SHORTEST:
                yield inner
                yield inner.replace(b"+", b"-").replace(b"/", b"_")
