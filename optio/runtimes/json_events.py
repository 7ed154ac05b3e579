"""Reading of the events that agent CLIs print as lines of JSON. Nothing here raises, whatever they hold: a value of another
type than expected is read as empty."""

import json
from collections import deque
from decimal import Decimal
from typing import Any

MAX_JSON_LINE_BYTES = 4 << 20
# Of what the agent says before it has a result, the last texts that fit are kept.
MAX_TEXT_BYTES = 64 * 1024


def reject_constant(name: str) -> Any:
    """Raise ValueError for NaN and Infinity; pass it to `json.loads` as `parse_constant`."""
    raise ValueError(f"{name} is not JSON")


def event_of(data: bytes) -> dict[str, Any] | None:
    """Return the event in a line, an object with a `type`; None for any other line."""
    if not data.startswith(b"{") or len(data) > MAX_JSON_LINE_BYTES:
        return None
    try:
        event = json.loads(data, parse_constant=reject_constant)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and "type" in event else None


def as_dict(value: Any) -> dict[str, Any]:
    """Return the object, or an empty one."""
    return value if isinstance(value, dict) else {}


def as_dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list, or an empty list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_list(value: Any) -> list[Any]:
    """Return the list, or an empty one."""
    return value if isinstance(value, list) else []


def compact(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def first_line(text: str) -> str:
    """Return the first line that is not blank, without the blanks around it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def token_count(value: Any) -> int | None:
    """Return a token count as an agent reports it, or None for anything but a whole number from zero up."""
    number = whole_number(value)
    return number if number is not None and 0 <= number < 10**12 else None


def whole_number(value: Any) -> int | None:
    """Return a whole number, or None for any other value."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_output(value: Any) -> str:
    """Return what a tool answered as text, without the line breaks at its end."""
    return value.rstrip("\n") if isinstance(value, str) else "" if value is None else compact(value)


def money(value: Any) -> Decimal | None:
    """Return a finite amount from zero up, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        return None
    return Decimal(repr(value))


class LastTexts:
    """The last texts of an agent, as many as fit into `MAX_TEXT_BYTES`, at least one."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._size = 0

    def add(self, text: str) -> None:
        self._texts.append(text)
        self._size += len(text)
        while len(self._texts) > 1 and self._size - len(self._texts[0]) >= MAX_TEXT_BYTES:
            self._size -= len(self._texts.popleft())

    @property
    def joined(self) -> str | None:
        """Return the texts with a blank line between them, or None if there is none."""
        return "\n\n".join(self._texts) or None
