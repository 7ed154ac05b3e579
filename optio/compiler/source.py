"""Places in a source file."""

from typing import NamedTuple


class Position(NamedTuple):
    """1-based line and column; columns count characters (code points)."""

    line: int
    column: int


class Span(NamedTuple):
    """Half-open range: `end` is the place after the last character."""

    start: Position
    end: Position


START = Span(Position(1, 1), Position(1, 1))


class SourceFile(NamedTuple):
    """A file of the tree: its path (POSIX, relative to the root) and its bytes."""

    path: str
    data: bytes


def span_at(text: str, start: int, end: int) -> Span:
    """The span of `text[start:end]`."""
    return Span(position_at(text, start), position_at(text, end))


def position_at(text: str, offset: int) -> Position:
    """The place of the character at `offset`."""
    offset = min(offset, len(text))
    line = text.count("\n", 0, offset) + 1
    return Position(line, offset - (text.rfind("\n", 0, offset) + 1) + 1)
