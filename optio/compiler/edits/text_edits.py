"""Apply edits to the bytes of a file. Bytes outside the edits stay as they are."""

from collections.abc import Iterable
from itertools import pairwise

from optio.compiler.diagnostics import Edit
from optio.compiler.source import Position

BOM = "\ufeff"


def apply_edits(data: bytes, edits: Iterable[Edit]) -> bytes:
    """Return the bytes with these edits applied. Spans count as those of findings do: in characters, without a byte order mark,
    with lines ended by LF, CR LF or CR. Raises ValueError if edits overlap."""
    text = data.decode("utf-8")
    starts = _starts(text)
    newline = next((each for each in ("\r\n", "\n", "\r") if each in text), "\n")

    def offset(at: Position) -> int:
        return starts[at.line - 1] + at.column - 1

    splices = sorted((offset(e.span.start), offset(e.span.end), e.text.replace("\n", newline)) for e in set(edits))
    if any(first[1] > second[0] for first, second in pairwise(splices)):
        raise ValueError("edits overlap")
    parts, at = [], 0
    for start, end, new in splices:
        parts += [text[at:start], new]
        at = end
    return ("".join(parts) + text[at:]).encode("utf-8")


def _starts(text: str) -> list[int]:
    """Return the offset at which each line begins. A byte order mark belongs to no line."""
    starts = [len(BOM) if text.startswith(BOM) else 0]
    for index, char in enumerate(text):
        if char == "\n" or (char == "\r" and text[index + 1 : index + 2] != "\n"):
            starts.append(index + 1)
    return starts
