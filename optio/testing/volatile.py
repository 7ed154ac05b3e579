"""Volatile parts of texts: what differs from run to run though nothing has changed. A replay compares texts without them.

A row has what it stands for, a pattern, and the word that takes its place. They apply in this order. The manual lists them.
"""

import re
from typing import Any, NamedTuple

_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"


class VolatileText(NamedTuple):
    """A kind of text that no comparison counts."""

    kind: str
    pattern: re.Pattern[str]
    word: str


VOLATILE = tuple(
    VolatileText(kind, re.compile(pattern), word)
    for kind, pattern, word in (
        ("paths and names with a UUID", rf"[\w./+:~-]*{_UUID}(?:[/-]\d+\b)?", "<id>"),
        ("temporary paths", r"/(?:var/)?tmp/[\w.+-]+", "<tmp>"),
        ("addresses of this machine", r"\b(?:127\.0\.0\.1|localhost):\d+", "<address>"),
        ("hexadecimal ids of 16 digits or more", r"(?<![0-9A-Za-z])(?=[0-9a-f]*\d)[0-9a-f]{16,}(?![0-9A-Za-z])", "<id>"),
        ("what follows `ID:`", r"(?<=\bID: )[\w-]+", "<id>"),
        ("numbers of 9 digits or more", r"(?<!\d)\d{9,}(?!\d)", "<number>"),
        ("dates and times", r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?", "<time>"),
        (
            "dates in words",
            rf"\b(?:{_DAY},? )?(?:{_MONTH} +\d{{1,2}}|\d{{1,2}} {_MONTH})(?:,? \d{{4}}|,? \d\d:\d\d(?::\d\d)?)*\b",
            "<time>",
        ),
        ("times of day", r"\b\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AP]M)?\b", "<time>"),
        ("durations", r"\b\d+(?:\.\d+)? ?(?:ms|s|sec|seconds?)\b", "<duration>"),
    )
)


def steady(value: Any) -> Any:
    """Return a JSON value without the volatile parts of its texts."""
    if isinstance(value, str):
        for row in VOLATILE:
            value = row.pattern.sub(row.word, value)
        return value
    if isinstance(value, dict):
        return {steady(name): steady(item) for name, item in value.items()}
    return [steady(item) for item in value] if isinstance(value, list) else value
