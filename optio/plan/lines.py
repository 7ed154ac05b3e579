"""Texts of many lines, held against each other."""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff

# Beyond so many lines a difference takes minutes to find, and nobody reads it.
_MOST = 5_000
_LONGEST = 200
_ENDS = re.compile(r"(?<=[.!?;:&|])\s+")


def difference(old: Iterable[str], new: Iterable[str], *, around: int) -> tuple[str, ...]:
    """As `diff -u` shows it, with so many lines around each change; nothing where they are too many."""
    one, other = ([line for text in texts for line in _lines(text)] for texts in (old, new))
    if len(one) + len(other) > _MOST:
        return ()
    return tuple(list(unified_diff(one, other, lineterm="", n=around))[2:])


def counted(diff: Sequence[str]) -> str:
    """`+3 -1 lines`."""
    added, lost = (sum(line.startswith(sign) for line in diff) for sign in "+-")
    return f"+{added:,} -{lost:,} lines"


def _lines(text: str) -> Iterator[str]:
    """Short enough to be read: what stands in one long line comes sentence by sentence."""
    for line in text.splitlines():
        for part in [line] if len(line) <= _LONGEST else _ENDS.split(line):
            yield part[:_LONGEST]
            yield from (part[at : at + _LONGEST] for at in range(_LONGEST, len(part), _LONGEST))
