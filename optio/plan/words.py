"""How values look in a line of a plan."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

_LONGEST = 100


def amount(usd: Decimal | None) -> str:
    """`$1,234.50`; `no bound` for None."""
    if usd is None:
        return "no bound"
    cents = usd.quantize(Decimal("0.01"))
    return f"${cents:,f}" if cents == usd else f"${usd.normalize():,f}"


def quoted(value: Any) -> str:
    """A value as it may be written, in backquotes and on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{brief(text)}`"


def brief(text: str, longest: int = _LONGEST) -> str:
    """On one line, with what cannot be seen as escapes, and cut where it is long."""
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def listed(names: list[str] | tuple[str, ...], most: int = 10) -> str:
    """`a, b and 3 more`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def number(count: int, what: str, plural: str | None = None) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {what if count == 1 else plural or what + 's'}"


def moment(at: datetime) -> str:
    """`Mon 2026-11-30 09:00 CET`."""
    return f"{at:%a %Y-%m-%d %H:%M %Z}"


def utc(at: datetime) -> str:
    """For programs."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
