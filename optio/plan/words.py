"""Formats for the lines of a plan: money, values, lists, counts and times."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from optio.model.money import dollars
from optio.model.registry import canonical

MAX_LISTED = 10
_MAX_LENGTH = 100
# Characters kept of two long texts: at each end, around the difference, and of the difference itself.
_EDGE_LENGTH, _MIDDLE_LENGTH = 12, 50


def amount(usd: Decimal | None) -> str:
    """Return `$1,234.50`, or `no bound` for None."""
    return "no bound" if usd is None else dollars(usd)


def quoted(value: Any) -> str:
    """Return a value as it would be written in YAML, in backquotes and on one line."""
    return f"`{brief(_value_text(value))}`"


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def brief(text: str, longest: int = _MAX_LENGTH) -> str:
    """Return the text on one line, with invisible characters escaped and cut to `longest` characters."""
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    return _escape_invisible(text)


def _escape_invisible(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def shorten_pair(was: str, now: str) -> tuple[str, str]:
    """Return both texts on one line each. Long texts are cut where they are equal, never where they differ."""
    if max(len(was), len(now)) <= _MAX_LENGTH:
        return _escape_invisible(was), _escape_invisible(now)
    start = _common_prefix_length(was, now)
    end = _common_prefix_length(was[start:][::-1], now[start:][::-1])
    old_text, new_text = (_escape_invisible(_shorten_around(text, start, len(text) - end)) for text in (was, now))
    return old_text, new_text


def _common_prefix_length(left: str, right: str) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))


def _shorten_around(text: str, start: int, end: int) -> str:
    before, middle, behind = text[:start], text[start:end], text[end:]
    return (
        _shorten_middle(before, 2 * _EDGE_LENGTH)
        + _shorten_middle(middle, _MIDDLE_LENGTH)
        + _shorten_middle(behind, 2 * _EDGE_LENGTH)
    )


def _shorten_middle(text: str, limit: int) -> str:
    return text if len(text) <= limit + 3 else f"{text[: limit // 2]}...{text[-limit // 2 :]}"


def quoted_pair(was: Any, now: Any) -> tuple[str, str]:
    """Return both values in backquotes, shortened so that their difference stays visible."""
    old_text, new_text = _value_text(was), _value_text(now)
    if old_text == new_text:  # the string "5" and the number 5
        old_text, new_text = canonical(was), canonical(now)
    old_text, new_text = shorten_pair(old_text, new_text)
    return f"`{old_text}`", f"`{new_text}`"


def changed_entries(old: Mapping[str, Any], new: Mapping[str, Any], absent: str) -> Iterator[tuple[str, str, str]]:
    """Yield (name, before, after) for each entry that was added, removed or changed; a missing one is shown as `absent`."""
    for name in sorted({*old, *new}):
        if name not in old:
            yield name, absent, quoted(new[name])
        elif name not in new:
            yield name, quoted(old[name]), absent
        elif canonical(old[name]) != canonical(new[name]):
            yield name, *quoted_pair(old[name], new[name])


def listed(names: Sequence[str], limit: int = MAX_LISTED) -> str:
    """Return `a, b and 3 more`."""
    text = ", ".join(names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit} more"


def pluralize(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 run`, `2,000 runs`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def local_time(at: datetime) -> str:
    """Return a time for people: `Mon 2026-11-30 09:00 CET`."""
    return f"{at:%a %Y-%m-%d %H:%M %Z}"


def utc_time(at: datetime) -> str:
    """Return a time for programs: ISO 8601 in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
