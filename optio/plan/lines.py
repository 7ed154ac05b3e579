"""Texts of many lines, held against each other."""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff

# Beyond so many lines a difference takes minutes to find, and nobody reads it.
_MAX_LINES = 5_000
_MAX_LINE_LENGTH = 200
_SENTENCE_END = re.compile(r"(?<=[.!?;:&|])\s+")


def line_diff(old: Iterable[str], new: Iterable[str], *, around: int) -> tuple[str, ...]:
    """As `diff -u` shows it, with so many lines around each change; nothing where they are too many."""
    one, other = ([line for text in texts for line in _readable_lines(text)] for texts in (old, new))
    if len(one) + len(other) > _MAX_LINES:
        return ()
    return tuple(list(unified_diff(one, other, lineterm="", n=around))[2:])


def diff_size(diff: Sequence[str]) -> str:
    """`+3 -1 lines`."""
    added, lost = (sum(line.startswith(sign) for line in diff) for sign in "+-")
    return f"+{added:,} -{lost:,} lines"


def _readable_lines(text: str) -> Iterator[str]:
    """Short enough to be read: what stands in one long line comes sentence by sentence."""
    for line in text.splitlines():
        for part in [line] if len(line) <= _MAX_LINE_LENGTH else _SENTENCE_END.split(line):
            yield part[:_MAX_LINE_LENGTH]
            yield from (part[at : at + _MAX_LINE_LENGTH] for at in range(_MAX_LINE_LENGTH, len(part), _MAX_LINE_LENGTH))
