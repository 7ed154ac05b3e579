"""Masking of secrets in logs: replace every spelling of a value that programs produce by accident.

Masked: the value itself, each line of a longer text, base64 (at all three offsets, standard and URL-safe), base32 (at all
five), hex, URL-quoted (with and without `/`, escapes in either case), HTML entities (named, decimal and hex), JSON-escaped, and
JSON in JSON.

Not promised: reversed, spelled out, with colour codes inside, cut over two lines, encoded twice in other ways, and values of
less than six characters (masking those would tear up the log and reveal them by the gaps).
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from optio.model.model_call import KEY_MARK, KEY_PATTERN

MIN_VALUE_LENGTH = 6
MASK = b"***"
_MAX_DEPTH = 100
_COMMON = ("true", "false", "password")
# Data without a run of so many characters of an alphabet contains no encoded form of that length.
_MIN_RUN_LENGTH = 32
_ONES = b"1" * _MIN_RUN_LENGTH
_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_ANY_BASE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
# For fewer forms than this, searching for a run costs more than it saves.
_WORTH_IT = 8
_NEVER_ESCAPED = re.compile(r"[A-Za-z0-9]+")
_NUMERIC = re.compile(r"[^ -~]|[&<>\"']")
_PERCENT = re.compile(r"%[0-9A-F]{2}")


def _membership_table(alphabet: bytes) -> bytes:
    """Return a table for `bytes.translate` that maps bytes of the alphabet to `1` and all others to `0`."""
    return bytes(ord("1") if byte in alphabet else ord("0") for byte in range(256))


_IN_BASE32, _IN_ANY_BASE = _membership_table(_BASE32), _membership_table(_ANY_BASE)


class Masker:
    """A callable that replaces all spellings of some values in bytes.

    A value has ten to thirty spellings, and almost no line contains any. All escaped spellings share the longest piece that is
    never escaped, so a line is searched for that piece first. Encoded spellings are long runs of few characters.
    """

    def __init__(self, values: Iterable[str]) -> None:
        escaped: dict[bytes, set[bytes]] = {}
        encoded: set[bytes] = set()
        for text in _texts(values):
            escaped.setdefault(_anchor(text), set()).update(_escaped(text))
            encoded.update(_encoded(text.encode("utf-8", "surrogatepass")))
        long = {form for form in encoded if len(form) >= _MIN_RUN_LENGTH}
        if len(long) < _WORTH_IT:
            long = set()
        self._escaped, self._anchors = escaped, list(escaped)
        self._short = encoded - long
        self._base32 = {form for form in long if not form.translate(None, _BASE32)}
        self._other_anchors = long - self._base32
        self._longest_first = lru_cache(64)(self._select)

    def __call__(self, data: bytes) -> bytes:
        """Return the data with every spelling of every value, and every key of an attempt, replaced by `***`."""
        if KEY_MARK in data:
            data = KEY_PATTERN.sub(MASK, data)
        runs = 0
        if self._other_anchors and _ONES in data.translate(_IN_ANY_BASE):
            runs = 2 if _ONES in data.translate(_IN_BASE32) else 1
        anchors = [anchor for anchor in self._anchors if anchor in data]
        for form in self._longest_first(runs, *anchors):
            data = data.replace(form, MASK)
        return data

    def _select(self, runs: int, *anchors: bytes) -> list[bytes]:
        """Return the spellings that a line may contain, longest first: replacing a short one first could hide a longer one."""
        forms = self._short.union(*(self._escaped[anchor] for anchor in anchors))
        if runs >= 1:
            forms |= self._other_anchors
        if runs == 2:  # the alphabet of base32 is within the others'
            forms |= self._base32
        return sorted(forms, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return masked text; characters that no database stores (lone surrogates, NUL) are replaced too."""
        masked = self(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
        return masked.replace("\0", "\ufffd")

    def json(self, value: Any, depth: int = 0) -> Any:
        """Return a JSON value with every text masked, keys included; values nested deeper than `_MAX_DEPTH` levels are cut
        off."""
        if isinstance(value, str):
            return self.text(value)
        if depth > _MAX_DEPTH:
            return "[nested too deeply]"
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.json(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.json(item, depth + 1) for item in value]
        if isinstance(value, float) and not float("-inf") < value < float("inf"):
            return None  # 1e999 is parsed as infinity, which is not JSON
        return value


def _texts(values: Iterable[str]) -> set[str]:
    """Return the values and their lines, without those that are too short or too common to mask."""
    parts = {part.strip() for value in values for part in (value, *value.splitlines())}
    return {text for text in parts if len(text) >= MIN_VALUE_LENGTH and text.lower() not in _COMMON}


def _anchor(text: str) -> bytes:
    """Return the longest piece of a text that is the same in all of its escaped spellings."""
    return max(_NEVER_ESCAPED.findall(text), key=len, default="").encode()


def _escaped(text: str) -> Iterator[bytes]:
    raw = text.encode("utf-8", "surrogatepass")
    yield raw
    yield from _quoted(raw)
    yield from _entities(text)
    yield from _in_json(text)


def _encoded(raw: bytes) -> Iterator[bytes]:
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield from _in_base64(raw)
    yield from _in_base32(raw)


def _quoted(raw: bytes) -> Iterator[bytes]:
    for spelling in (quote(raw, safe=""), quote(raw), quote_plus(raw), quote_plus(raw, safe="/")):
        yield spelling.encode()
        yield _PERCENT.sub(lambda escape: escape[0].lower(), spelling).encode()


def _entities(text: str) -> Iterator[bytes]:
    escaped = html.escape(text, quote=False)
    apostrophes = ("'", "&#x27;", "&#39;", "&#039;", "&apos;")
    quotes = ('"', "&quot;", "&#34;", "&#x22;")
    spelled = {escaped.replace("'", single).replace('"', double) for single in apostrophes for double in quotes}
    for form in ("&#{};", "&#x{:x};", "&#x{:X};"):
        spelled.add(_NUMERIC.sub(lambda match: form.format(ord(match[0])), text))  # noqa: B023 - called at once
    for spelling in spelled:
        yield spelling.encode("utf-8", "surrogatepass")
        yield spelling.encode("ascii", "xmlcharrefreplace")


def _in_json(text: str) -> Iterator[bytes]:
    for ascii_only in (True, False):
        encoded = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for escaped in (encoded, encoded.replace("/", "\\/")):
            yield escaped.encode("utf-8", "surrogatepass")
            # Within another text the backslashes and quotes are escaped again; what is not ASCII may be only then.
            for is_doubled in (True, False):
                yield json.dumps(escaped, ensure_ascii=is_doubled)[1:-1].encode("utf-8", "surrogatepass")


def _in_base64(raw: bytes) -> Iterator[bytes]:
    for shift in range(3):
        # The characters at both ends depend on the neighbours: only the inner ones are the value's own.
        inner = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        inner = inner[(0, 2, 3)[shift] : len(inner) - (1 if (shift + len(raw)) % 3 else 0)]
        if len(inner) >= MIN_VALUE_LENGTH:
            yield inner
            yield inner.replace(b"+", b"-").replace(b"/", b"_")


def _in_base32(raw: bytes) -> Iterator[bytes]:
    for shift in range(5):
        inner = base64.b32encode(b"\0" * shift + raw).rstrip(b"=")
        # Each character has five bits: those that share a bit with a neighbour are dropped.
        inner = inner[-(-shift * 8 // 5) : (shift + len(raw)) * 8 // 5]
        if len(inner) >= MIN_VALUE_LENGTH:
            yield inner
