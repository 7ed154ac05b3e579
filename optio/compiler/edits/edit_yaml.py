"""Change values in a task file and leave every other character as it was. Splices replace the text of the changed values only,
so comments, order, quotes and blank lines stay. The result is parsed again, and an edit that does not read as the wanted value
is refused. Used by the API that writes task files, and by fixes."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import yaml

from optio.compiler.diagnostics import Edit
from optio.compiler.source import SourceFile, Span, position_at
from optio.compiler.yaml.document import Document, parse
from optio.compiler.yaml.emit import entry, flow, indented, inline, item
from optio.model.registry import canonical

_COLON = re.compile(r"[ \t]*:")
_ALIAS = re.compile(r"[ \t]*:\s*\*[^\s,\]}]+")
_HEADER = re.compile(r"[|>][0-9+-]*([ \t]+#[^\n]*)?")
_DASH = re.compile(r"^ *-(?=[ \n])", re.MULTILINE)
_BLANK = re.compile(r"\n[ \t]*(?:\n|\Z)")
_BREAK = re.compile(r"\r\n|\r|\n")


class CannotEdit(Exception):
    """The layout of the file rules out a safe splice, for instance because of anchors or a comment; `line` is the first such
    line."""

    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(message)


class _Splice(NamedTuple):
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _ValueSlot:
    """The place of a value: behind the colon or dash that ends at `opening` and began in `column`, or between braces."""

    opening: int
    column: int
    in_flow: bool


def rewrite_file(path: str, data: bytes, new_value: dict[str, Any]) -> bytes:
    """Return the file's bytes, changed so that they read as `wanted`. Raises CannotEdit, also for a file that does not
    parse."""
    document, findings = parse(SourceFile(path, data))
    if document is None:
        raise CannotEdit(f"the file cannot be read: {findings[0].message}", findings[0].span.start.line)
    splices = _splices(document, new_value)
    edited = _apply_splices(data, document.text, splices)
    if not _reads_as(path, edited, new_value):
        # A block text at the end needs a final newline, which the file may not have had.
        edited += b"\r\n" if b"\r\n" in edited else b"\n"
    if not _reads_as(path, edited, new_value):
        raise _refuse_anchors(document, splices)
    return edited


def plan_edits(document: Document, new_value: dict[str, Any]) -> tuple[Edit, ...]:
    """Return the edits that make a document read as `wanted`, for the fix of a finding. Raises CannotEdit, also where the edits
    would delete a comment."""
    text, splices = document.text, list(_in_order(_splices(document, new_value), document.text))
    for splice in splices:
        if "#" in text[splice.start : splice.end]:
            raise CannotEdit("a comment would be lost", position_at(text, splice.start).line)
    if not _reads_as(document.path, _apply_splices(text.encode(), text, splices), new_value):
        raise _refuse_anchors(document, splices)
    return tuple(Edit(Span(position_at(text, start), position_at(text, end)), new) for start, end, new in splices)


def _splices(document: Document, new_value: dict[str, Any]) -> list[_Splice]:
    editor = _SpliceCollector(document)
    editor.change(None, document.root, document.value, new_value)
    return editor.splices


def _refuse_anchors(document: Document, splices: list[_Splice]) -> CannotEdit:
    first = min((splice.start for splice in splices), default=0)
    reason = "anchors, aliases or an unusual layout tie these lines to others"
    return CannotEdit(reason, position_at(document.text, first).line)


def _apply_splices(data: bytes, text: str, splices: list[_Splice]) -> bytes:
    """Apply the splices to the original bytes. Their offsets count in the parsed text, with LF line ends and no byte order
    mark."""
    raw = data.decode("utf-8")
    mark = "\ufeff" if raw.startswith("\ufeff") else ""
    raw = raw.removeprefix("\ufeff")
    newline = "\n"
    places: Sequence[int] = range(len(raw) + 1)
    if "\r" in raw:
        breaks = [(m.start(), m.end()) for m in _BREAK.finditer(raw)]
        newline = raw[slice(*breaks[0])]
        longer = {start: end - start - 1 for start, end in breaks}
        places, shift = [], 0
        for index in range(len(text) + 1):
            places.append(index + shift)
            shift += longer.get(index + shift, 0)
    parts, done = [mark], 0
    for splice in _in_order(splices, text):
        parts += [raw[done : places[splice.start]], splice.text.replace("\n", newline)]
        done = places[splice.end]
    return "".join([*parts, raw[done:]]).encode()


def _in_order(splices: list[_Splice], text: str) -> Iterator[_Splice]:
    """Yield the splices by offset, with overlapping deletions clipped, so that nothing is deleted twice."""
    done, gone = 0, False
    for splice in sorted(splices, key=lambda s: s.start):
        start, end, new = max(done, splice.start), max(done, splice.end), splice.text
        if below := gone and start > splice.start and new.startswith("\n"):
            new = new[1:] + "\n"  # the line above was deleted together with its line end
        yield _Splice(start, end, new)
        done, gone = max(done, splice.end), below or not new


def _reads_as(path: str, data: bytes, new_value: dict[str, Any]) -> bool:
    document, _ = parse(SourceFile(path, data))
    return document is not None and canonical(document.value) == canonical(new_value)


class _SpliceCollector:
    """Collect the splices that turn one value into another, by a walk through the nodes and both values."""

    def __init__(self, document: Document) -> None:
        self.text = document.text
        self.splices: list[_Splice] = []

    def change(self, slot: _ValueSlot | None, node: yaml.Node, old: Any, new: Any) -> None:
        """Make the node at `slot` (None for the whole file) read as `new`."""
        if canonical(old) == canonical(new):
            return
        if isinstance(node, yaml.MappingNode) and isinstance(new, dict) and new and self._mapping(node, old, new):
            return
        if isinstance(node, yaml.SequenceNode) and isinstance(new, list) and new and old:
            self._sequence(node, old, new)
            return
        if slot is None:
            raise CannotEdit("the edit would replace the whole file", 1)
        self._replace(slot, node, new)

    def _mapping(self, node: yaml.MappingNode, old: dict[str, Any], new: dict[str, Any]) -> bool:
        """Change the entries of a mapping. Returns False when no entry stays, so that the caller replaces the whole mapping."""
        entries = [(key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
        stay = [pair for pair in entries if pair[0].value in new or _is_merge(pair[0])]
        if not stay:
            return False
        ends = [self._entry_end(key, value) for key, value in entries]
        for index, (key, value) in enumerate(entries):
            if _is_merge(key):
                continue
            if key.value not in new:
                self._remove_entry(node, entries, ends, index, behind=index < entries.index(stay[-1]))
            elif canonical(old[key.value]) != canonical(new[key.value]):
                self._change_entry(node, key, value, old[key.value], new[key.value])
        names = {key.value for key, _ in entries}
        new_entries = {key: value for key, value in new.items() if key not in names and (key not in old or old[key] != value)}
        last = max(end for pair, end in zip(entries, ends, strict=True) if pair in stay)
        self._add_entries(node, new_entries, last, stay[0][0].start_mark.column)
        return True

    def _change_entry(self, node: yaml.MappingNode, key: yaml.Node, value: yaml.Node, old: Any, new: Any) -> None:
        if value.start_mark.index < key.end_mark.index:
            raise CannotEdit(f"`{key.value}` comes through an alias", key.start_mark.line + 1)
        colon = _COLON.match(self.text, key.end_mark.index)
        if colon is None:
            raise CannotEdit(f"`{key.value}` is written without a colon on its line", key.start_mark.line + 1)
        self.change(_ValueSlot(colon.end(), key.start_mark.column, bool(node.flow_style)), value, old, new)

    def _add_entries(self, node: yaml.MappingNode, entries: dict[str, Any], last: int, column: int) -> None:
        """Add entries behind the offset `last`, where the last entry that stays ends."""
        if node.flow_style:
            self._put(last, "".join(f", {flow({key: value})[1:-1]}" for key, value in entries.items()))
            return
        lines = [line for key, value in entries.items() for line in entry(key, value)]
        if lines and self._swallows(lines, last):
            lines = [f"{entry(key, None)[0].removesuffix(' null')} {flow(value)}" for key, value in entries.items()]
        self._insert_below(last, lines, column)

    def _remove_entry(self, node: yaml.MappingNode, entries: list[Any], ends: list[int], index: int, *, behind: bool) -> None:
        start, end = entries[index][0].start_mark.index, ends[index]
        if node.flow_style:
            self._cut_between([key.start_mark.index for key, _ in entries], ends, index, behind=behind)
        elif self._begins_line(start):
            self._cut_lines(start, end)
        else:
            self._cut(start, end)

    def _sequence(self, node: yaml.SequenceNode, old: list[Any], new: list[Any]) -> None:
        items = node.value
        starts = [item_node.start_mark.index for item_node in items]
        if any(a >= b for a, b in pairwise(starts)) or starts[0] < node.start_mark.index:
            raise CannotEdit("the list holds aliases", node.start_mark.line + 1)
        ends = [self._end(item_node) for item_node in items]
        before, after = [canonical(value) for value in old], [canonical(value) for value in new]
        head = _common(before, after)
        tail = _common(before[head:][::-1], after[head:][::-1])
        at = min(len(old), len(new)) - tail
        dashes = [] if node.flow_style else self._dashes(node, ends)
        for index in range(head, at):
            opening = starts[index] if node.flow_style else dashes[index] + 1
            slot = _ValueSlot(opening, node.start_mark.column, bool(node.flow_style))
            self.change(slot, items[index], old[index], new[index])
        for index in range(at, len(old) - tail):
            if node.flow_style:
                self._cut_between(starts, ends, index, behind=tail > 0)
            else:
                self._remove_item(dashes, ends, index)
        new_items = new[at : len(new) - tail]
        if new_items and node.flow_style:
            text = flow(new_items)[1:-1]
            self._put(ends[at - 1] if at else starts[0], f", {text}" if at else f"{text}, ")
        elif new_items:
            self._add_items(new_items, ends[at - 1] if at else None, dashes[0], node.start_mark.column)

    def _remove_item(self, dashes: list[int], ends: list[int], index: int) -> None:
        if self._begins_line(dashes[index]):
            self._cut_lines(dashes[index], ends[index])
        elif "#" in self.text[ends[index] : dashes[index + 1]]:
            raise CannotEdit("there is a comment behind the item", position_at(self.text, ends[index]).line)
        else:
            self._cut(dashes[index], dashes[index + 1])

    def _add_items(self, values: list[Any], end: int | None, dash: int, column: int) -> None:
        """Add items below the one that ends at `end`, or before the first one, whose dash is at `dash`."""
        lines = [line for value in values for line in item(value)]
        if self._swallows(lines, dash if end is None else end):
            lines = [f"- {flow(value)}" for value in values]
        if end is not None:
            self._insert_below(end, lines, column)
        elif self._begins_line(dash):
            self._put(self.text.rfind("\n", 0, dash) + 1, "".join(line + "\n" for line in indented(lines, column)))
        else:
            # The list begins behind another dash: its old first item moves to a new line.
            first, *rest = lines
            self._put(dash, "\n".join([first, *indented(rest, column), " " * column]))

    def _dashes(self, node: yaml.SequenceNode, ends: list[int]) -> list[int]:
        """Return the offset of each item's dash: the first where the list begins, the others at the beginning of a line."""
        dashes = [int(node.start_mark.index)]
        for end in ends[:-1]:
            match = _DASH.search(self.text, end)
            if match is None:
                raise CannotEdit("the list is written in an unusual way", node.start_mark.line + 1)
            dashes.append(match.end() - 1)
        return dashes

    def _replace(self, slot: _ValueSlot, node: yaml.Node, new: Any) -> None:
        start, end = node.start_mark.index, self._end(node)
        scalar = node if isinstance(node, yaml.ScalarNode) else None
        if scalar is not None and not scalar.style and not scalar.value:
            start = end = slot.opening
        if slot.in_flow:
            self._put(start, (" " if self.text[start - 1 : start] == ":" else "") + flow(new), end)
            return
        if self.text[slot.opening - 1] == "-":
            first, *rest = item(new)
            first = first[2:]
        else:
            first, rest = inline(new)
        if rest and self._swallows(rest, end):
            first, rest = flow(new), []
        gap = self.text[slot.opening : start]
        if start == slot.opening or not (scalar is not None or _in_braces(node)):
            # The value begins on the next line, or is not there at all: a comment behind the colon stays.
            comment, _, next_lines = gap.partition("\n")
            if next_lines.strip():
                raise CannotEdit("there is a comment before the value", position_at(self.text, start).line)
            self._put(slot.opening, (" " + first if first else "") + comment.rstrip(), end)
        else:
            header = _HEADER.match(self.text, start)
            comment = (header[1] or "") if header else ""
            self._put(start if first else slot.opening, first + comment, end)
        self._insert_below(end, rest, slot.column)

    def _entry_end(self, key: yaml.Node, value: yaml.Node) -> int:
        if value.start_mark.index < key.end_mark.index:
            alias = _ALIAS.match(self.text, key.end_mark.index)
            return alias.end() if alias else int(key.end_mark.index)
        return max(self._end(value), int(key.end_mark.index))

    def _end(self, node: yaml.Node) -> int:
        """Return the offset behind the value's last character. The parser's own end mark is where the next token begins."""
        end: int = node.end_mark.index
        if isinstance(node, yaml.ScalarNode):
            if node.style not in ("|", ">"):
                return end
            header = _HEADER.match(self.text, node.start_mark.index)
            if header is not None and "+" in header[0].partition("#")[0]:
                return end
            length = len(self.text[:end].rstrip())
            return self._line_end(max(length, node.start_mark.index))
        if _in_braces(node):
            return end
        if isinstance(node, yaml.MappingNode):
            return max(self._entry_end(key, value) for key, value in node.value)
        return max(self._end(item_node) for item_node in node.value)

    def _line_end(self, index: int) -> int:
        offset = self.text.find("\n", index)
        return len(self.text) if offset < 0 else offset

    def _begins_line(self, index: int) -> bool:
        return not self.text[self.text.rfind("\n", 0, index) + 1 : index].strip()

    def _put(self, start: int, text: str, end: int | None = None) -> None:
        if text or end not in (None, start):
            self.splices.append(_Splice(start, start if end is None else end, text))

    def _cut(self, start: int, end: int) -> None:
        self.splices.append(_Splice(start, end, ""))

    def _cut_lines(self, start: int, end: int) -> None:
        first = self.text.rfind("\n", 0, start) + 1
        has_line_end = end > 0 and self.text[end - 1] == "\n"
        self._cut(first, end if has_line_end else min(self._line_end(end) + 1, len(self.text)))

    def _cut_between(self, starts: list[int], ends: list[int], index: int, *, behind: bool) -> None:
        """Delete one of several items between braces, and the comma behind it, or the one before it if nothing behind stays."""
        bounds = (starts[index], starts[index + 1]) if behind else (ends[index - 1], ends[index])
        if "#" in self.text[slice(*bounds)] and "\n" in self.text[slice(*bounds)]:
            raise CannotEdit("there is a comment between braces", position_at(self.text, bounds[0]).line)
        self._cut(*bounds)

    def _swallows(self, lines: list[str], end: int) -> bool:
        """Return True if these lines end with a block text that keeps trailing blank lines and would absorb the lines below."""
        return not lines[-1] and _BLANK.match(self.text, self._line_end(end)) is not None

    def _insert_below(self, end: int, lines: list[str], column: int) -> None:
        """Insert lines below the line that holds `end`. A block text that keeps its blank lines already ends on a new line."""
        text = "".join("\n" + line for line in indented(lines, column))
        if end and self.text[end - 1] == "\n":
            self._put(end, text[1:] + "\n" if text else "")
        else:
            self._put(self._line_end(end), text)


def _in_braces(node: yaml.Node) -> bool:
    return bool(isinstance(node, yaml.CollectionNode) and node.flow_style)


def _is_merge(key: yaml.ScalarNode) -> bool:
    return key.value == "<<" and not key.style


def _common(one: list[str], other: list[str]) -> int:
    """Return the number of equal items at the beginning of both lists."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
