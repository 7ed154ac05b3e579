"""Conversion between the compiler's positions (line and character from 1) and the editor's (line and code unit from 0)."""

from bisect import bisect_right
from functools import cached_property
from itertools import accumulate

from optio.compiler.source import Position

_BOM = "\ufeff"
_BREAKS = ("\r\n", "\r")


class DocumentLines:
    """A text in both forms: `raw` as the editor holds it, `text` as the compiler reads it, without byte order mark and with
    LF."""

    def __init__(self, raw: str, units: str = "utf-16") -> None:
        self.raw, self._units = raw, units
        self._mark = raw.startswith(_BOM)
        text = raw.removeprefix(_BOM)
        for line_break in _BREAKS:
            text = text.replace(line_break, "\n")
        self.text = text

    @cached_property
    def lines(self) -> list[str]:
        """The lines without their ends."""
        return self.text.split("\n")

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((len(line) + 1 for line in self.lines), initial=0))[:-1]

    def to_editor(self, at: Position) -> tuple[int, int]:
        """Return (line, code unit). Positions behind the text are clamped to its end."""
        index = min(max(at.line - 1, 0), len(self.lines) - 1)
        line = self.lines[index]
        column = at.column - 1 if at.line - 1 == index else len(line)
        return index, self._length(line[: max(column, 0)]) + self._before(index)

    def to_editor_at(self, offset: int) -> tuple[int, int]:
        """Return (line, code unit) of an offset into `text`."""
        return self.to_editor(self.position(offset))

    def from_editor(self, line: int, unit: int) -> Position:
        """Return the compiler's position. A unit behind the line is clamped to its end; one inside a character moves before
        it."""
        if line >= len(self.lines):
            return Position(len(self.lines), len(self.lines[-1]) + 1)
        text, rest = self.lines[max(line, 0)], unit - self._before(line)
        if text.isascii() or self._units == "utf-32":
            return Position(line + 1, min(max(rest, 0), len(text)) + 1)
        column = 0
        for char in text:
            rest -= self._length(char)
            if rest < 0:
                break
            column += 1
        return Position(line + 1, column + 1)

    def offset(self, at: Position) -> int:
        """Return the offset into `text` of a position."""
        index = min(at.line - 1, len(self.lines) - 1)
        return self._starts[index] + min(at.column - 1, len(self.lines[index]))

    def position(self, offset: int) -> Position:
        """Return the position of an offset into `text`."""
        offset = min(max(offset, 0), len(self.text))
        index = bisect_right(self._starts, offset) - 1
        return Position(index + 1, offset - self._starts[index] + 1)

    def _before(self, index: int) -> int:
        return self._length(_BOM) if self._mark and index == 0 else 0

    def _length(self, text: str) -> int:
        if text.isascii() or self._units == "utf-32":
            return len(text)
        if self._units == "utf-8":
            return len(text.encode("utf-8", "surrogatepass"))
        return len(text) + sum(char > "\uffff" for char in text)
