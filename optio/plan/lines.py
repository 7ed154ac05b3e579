"""Diffs of long texts, such as prompts and scripts, kept readable and bounded."""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff

# Beyond this a diff takes minutes, and is too long to read.
_MAX_LINES = 5_000
_MAX_LINE_LENGTH = 200
_SENTENCE_END = re.compile(r"(?<=[.!?;:&|])\s+")


def line_diff(old: Iterable[str], new: Iterable[str], *, around: int) -> tuple[str, ...]:
    """Return a unified diff without its header, with `around` lines of context; empty if the texts are too long to compare."""
    old_lines, new_lines = ([line for text in texts for line in _readable_lines(text)] for texts in (old, new))
    if len(old_lines) + len(new_lines) > _MAX_LINES:
        return ()
    return tuple(list(unified_diff(old_lines, new_lines, lineterm="", n=around))[2:])


def diff_size(diff: Sequence[str]) -> str:
    """Return the size of a diff as `+3 -1 lines`."""
    additions, removals = (sum(line.startswith(sign) for line in diff) for sign in "+-")
    return f"+{additions:,} -{removals:,} lines"


def _readable_lines(text: str) -> Iterator[str]:
    """Yield lines short enough to read; one long line is split into sentences."""
    for line in text.splitlines():
        for part in [line] if len(line) <= _MAX_LINE_LENGTH else _SENTENCE_END.split(line):
            yield part[:_MAX_LINE_LENGTH]
            yield from (part[at : at + _MAX_LINE_LENGTH] for at in range(_MAX_LINE_LENGTH, len(part), _MAX_LINE_LENGTH))
