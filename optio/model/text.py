"""Small text values of task files and settings: slugs, durations (`1h30m`) and amounts of money."""

import re
import unicodedata
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache

# Letters that Unicode does not decompose into one of ASCII and a mark.
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th"})
_DURATION = re.compile(r"(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", re.ASCII)


def slug(name: str) -> str:
    """Return the id that a name leads to: `Weekly Security Report` becomes `weekly-security-report`. Empty if no letter or
    digit is left."""
    ascii_name = unicodedata.normalize("NFKD", name).casefold().translate(_LETTERS).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> timedelta:
    """Return the length of a text such as `90s`, `20m` or `1h30m`; raise ValueError for anything else, and for zero."""
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise ValueError(f"invalid duration `{text}`: write numbers and units, such as `90s`, `20m` or `1h30m`")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    span = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if not span:
        raise ValueError("a duration must be longer than zero")
    return span


def format_duration(length: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads as this length, to the second: 90 minutes become `1h30m`."""
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return "".join(f"{number}{unit}" for number, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if number) or "0s"


def format_roughly(length: timedelta) -> str:
    """Return a length for people, in the largest unit of which it has at least two: `7 days`, `36 hours`, `90 seconds`."""
    for unit, size in (("days", timedelta(days=1)), ("hours", timedelta(hours=1)), ("minutes", timedelta(minutes=1))):
        if length >= 2 * size:
            return f"{length / size:.3g} {unit}"
    return f"{length.total_seconds():.3g} seconds"


@lru_cache(maxsize=1024)
def parse_money(text: str) -> Decimal:
    """Return an amount of US dollars written with at most four decimals (`2.50`); raise ValueError for anything else."""
    if not re.fullmatch(r"\d{1,9}(?:\.\d{1,4})?", text, re.ASCII):
        raise ValueError(f'invalid amount `{text}`: write digits with at most four decimals, such as "2.50"')
    return Decimal(text)
