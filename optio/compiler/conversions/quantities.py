"""Parse amounts, durations and whole numbers in the notations that people use instead of Optio's."""

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation

from optio.model.text import format_duration, parse_duration, parse_money

_MAX_LENGTH = 40
# Typographic quotes, which YAML reads as letters.
CURLY = "\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"
_DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {
    **{word: str(number) for number, word in enumerate(_DIGITS, start=1)},
    "a": "1",
    "an": "1",
    "eleven": "11",
    "twelve": "12",
    "fifteen": "15",
    "twenty": "20",
    "thirty": "30",
    "sixty": "60",
    "ninety": "90",
}
# Larger numbers without a unit are unlikely to be minutes.
_MIN_SECONDS, _MAX_SECONDS = 300, 10**6
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(ms|[smhdw])[a-z]*[\s,]*", re.IGNORECASE | re.ASCII)
_AMOUNT = r"(?:0|[1-9][0-9]*)\.[0-9]{1,4}"
_WHOLE = re.compile(r"[-+]?[0-9]{1,12}(?:\.0*)?|[0-9]{1,3}(?:\.0)?[eE]\+?[0-9]")


def suggest_amount(source_text: str) -> str | None:
    """Return the digits of an amount such as `$5`, `5 USD`, `1,000.50` or `5,00`, or None."""
    text = re.sub(rf"(?i)(?:us)?\s*\$|usd|dollars?|[\s{CURLY}]", "", source_text) if len(source_text) <= _MAX_LENGTH else ""
    if (cents := re.fullmatch(r"([0-9]{1,6})(?:cents?|ct|¢)", text, re.IGNORECASE)) is not None:
        text = f"{int(cents[1]) / 100:.2f}"
    text = re.sub(r",(?=[0-9]{3}(?:[.,]|\Z))", "", text).replace(",", ".")
    try:
        amount = text if re.fullmatch(_AMOUNT, text) else f"{Decimal(text).normalize():f}"
        parse_money(amount)
    except (InvalidOperation, ValueError):
        return None
    return amount


def suggest_duration(source_text: str) -> str | None:
    """Return `1d`, `90 minutes`, `1.5h` or `PT20M` in hours, minutes and seconds, or None."""
    text = re.sub(r"(?i)\APT?|(?<=D)T|\band\b", "", source_text.strip(f"{CURLY} \t\n"))
    text = re.sub(r"(?i)milli(?:second)?s?\b", "ms", text)
    if re.search(r"(?i)\bmonth|\d\s*mo\b", text):
        return None
    text = re.sub(r"(?i)\A[a-z]+(?=\s)", lambda word: _NUMBERS.get(word[0].lower(), word[0]), text)
    if (clock := re.fullmatch(r"(\d{1,2}):([0-5]\d):([0-5]\d)", text)) is not None:
        text = "{}h{}m{}s".format(*clock.groups())
    if len(text) > _MAX_LENGTH or not re.fullmatch(f"(?:{_PART.pattern})+", text, _PART.flags):
        return None
    seconds = sum(float(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(text))
    try:
        duration = format_duration(timedelta(seconds=seconds)) if seconds == int(seconds) else ""
        return duration if parse_duration(duration) else None
    except (ValueError, OverflowError):
        return None


def unit_hint(number: int) -> str:
    """Return the hint for a duration without a unit."""
    if not _MIN_SECONDS <= number < _MAX_SECONDS:
        return f"write `{number}s` for seconds or `{number}m` for minutes"
    return f"write `{format_duration(timedelta(seconds=number))}` for {number} seconds; minutes would be `{number}m`"


def suggest_whole_number(source_text: str) -> int | None:
    """Return the number in `20.0`, `1e3` or `20 turns`, or None."""
    source_text = re.sub(r"\s+(?:[A-Za-z]{2,12}|//.*)\Z", "", source_text) if len(source_text) <= _MAX_LENGTH else source_text
    return int(float(source_text)) if _WHOLE.fullmatch(source_text) else None


def number_in(source_text: str) -> float | None:
    """Return the only number in a text, in digits or as a word (`about 20`, `two`); None for a range such as `20-30`."""
    if len(source_text) > _MAX_LENGTH:
        return None
    digits = re.findall(r"(?<![\w.])[-+]?[0-9]{1,9}(?:[.,][0-9]{1,4})?(?![0-9])", source_text)
    words = [_NUMBERS[word] for word in re.findall(r"[a-z]+", source_text.lower()) if len(word) > 2 and word in _NUMBERS]
    numbers = digits or words
    return float(numbers[0].replace(",", ".")) if len(numbers) == 1 else None
