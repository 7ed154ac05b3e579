"""Places in a source file: positions, spans, and the conversion from offsets."""

from typing import NamedTuple


class Position(NamedTuple):
    """A 1-based line and column; columns count characters (code points)."""

    line: int
    column: int


class Span(NamedTuple):
    """A half-open range: `end` is the position after the last character."""

    start: Position
    end: Position


START = Span(Position(1, 1), Position(1, 1))


class SourceFile(NamedTuple):
    """A file of the tree: its POSIX path, relative to the root, and its bytes."""

    path: str
    data: bytes


def span_at(text: str, start: int, end: int) -> Span:
    """Return the span of `text[start:end]`, as 1-based positions."""
    return Span(position_at(text, start), position_at(text, end))


def position_at(text: str, offset: int) -> Position:
    """Return the position of the character at `offset`, counted in lines that end with LF."""
    offset = min(offset, len(text))
    line = text.count("\n", 0, offset) + 1
    return Position(line, offset - (text.rfind("\n", 0, offset) + 1) + 1)
