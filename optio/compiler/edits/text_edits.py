"""Apply edits to the bytes of a file. Bytes outside the edits stay as they are."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from optio.compiler.diagnostics import Diagnostic, Edit
from optio.compiler.source import Position

BOM = "\ufeff"


def apply_edits(data: bytes, edits: Iterable[Edit]) -> bytes:
    """Return the bytes with these edits applied. Spans count as those of findings do: in characters, without a byte order mark,
    with lines ended by LF, CR LF or CR. Raises ValueError if edits overlap."""
    return apply_with_ranges(data, edits)[0]


def apply_with_ranges(data: bytes, edits: Iterable[Edit]) -> tuple[bytes, list[range]]:
    """Return the bytes with these edits applied, and the offsets of the characters that they wrote."""
    text = data.decode("utf-8")
    starts = line_starts(text)
    newline = next((line_end for line_end in ("\r\n", "\n", "\r") if line_end in text), "\n")
    splices = sorted(
        (offset_of(starts, e.span.start), offset_of(starts, e.span.end), e.text.replace("\n", newline)) for e in set(edits)
    )
    if any(first[1] > second[0] for first, second in pairwise(splices)):
        raise ValueError("edits overlap")
    parts, at, length, ranges = [], 0, 0, []
    for start, end, new in splices:
        parts += [text[at:start], new]
        length += start - at + len(new)
        ranges.append(range(length - len(new), length))
        at = end
    return ("".join(parts) + text[at:]).encode("utf-8"), ranges


def offset_of(starts: Sequence[int], at: Position) -> int:
    """Return the offset of a position in the text whose lines begin at `starts`."""
    return starts[at.line - 1] + at.column - 1


def line_starts(text: str) -> list[int]:
    """Return the offset at which each line begins. A byte order mark belongs to no line."""
    starts = [len(BOM) if text.startswith(BOM) else 0]
    for index, char in enumerate(text):
        if char == "\n" or (char == "\r" and text[index + 1 : index + 2] != "\n"):
            starts.append(index + 1)
    return starts


def compatible_fixes(findings: Iterable[Diagnostic], *, unsafe: bool) -> list[Diagnostic]:
    """Return the findings of one file whose fixes can be applied together, from top to bottom. Where two overlap, the first is
    chosen. Several findings may share one fix."""
    fixable = [d for d in findings if d.fix is not None and (d.fix.safe or unsafe)]
    selection: list[Diagnostic] = []
    selected_edits: list[Edit] = []
    for finding in sorted(fixable, key=lambda d: (d.span.start, d.code)):
        edits = finding.fix.edits if finding.fix is not None else ()
        if any(finding.fix == selected.fix for selected in selection) or not any(
            _overlap(edit, selected) for edit in edits for selected in selected_edits
        ):
            selection.append(finding)
            selected_edits += edits
    return selection


def _overlap(one: Edit, other: Edit) -> bool:
    if one == other:
        return True
    (start, end), (from_, to) = one.span, other.span
    return (start < to and from_ < end) or start == from_
