"""The keys and values of a YAML text with their offsets, read line by line, also while the text is invalid. Only for what an
editor asks while someone types; the compiler's own reader decides what is correct."""

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from optio.model.route import Route

_KEY = re.compile(
    r"""("(?:[^"\\\n]|\\.)*" | '(?:[^'\n]|'')*' | [^\s,\[\]{}#&*!|>'"%@`\-?:][^\n#]*? | -[^\s:\#\n][^\n#]*?)"""
    r"""[ \t]*:(?=[ \t\n]|\Z)""",
    re.VERBOSE,
)
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*[ \t]+)+")
_PLAIN_END = re.compile(r"[ \t]+#|[ \t]*(?=\n|\Z)")
# The compiler refuses half this depth.
_MAX_DEPTH = 128
_FLOW_PLAIN = re.compile(r"(?:[^\s,\[\]{}:#\"']|:(?![\s,\[\]{}]|\Z)|(?<=\S)[#\"']|[ \t](?=[^\s,\[\]{}:#]))+")


class ValueStyle(Enum):
    """The style of a value. `NONE`: the line ends after the key."""

    NONE = "none"
    SCALAR = "scalar"
    BLOCK = "block"
    FLOW = "flow"


class CursorPlace(Enum):
    """The kind of text that belongs at the cursor."""

    KEY = "key"
    VALUE = "value"
    TEXT = "text"
    NOTHING = "nothing"


class OutlineEntry(NamedTuple):
    """A key or list item: `start:end` is the key or dash, `value:stop` the value after it, as offsets into the text."""

    route: Route
    start: int
    end: int
    value: int
    stop: int
    kind: ValueStyle


class CursorContext(NamedTuple):
    """The place at the cursor: a key of the mapping at `route`, or its value. `word` is the part already written, from `start`
    on; `flow` is inside brackets, `quote` the open quote."""

    where: CursorPlace
    route: Route
    word: str
    start: int
    flow: bool = False
    quote: str = ""


@dataclass(slots=True)
class _BlockFrame:
    column: int
    step: str | int
    filled: bool = False

    @property
    def is_list(self) -> bool:
        return isinstance(self.step, int)


@dataclass(slots=True)
class _OpenBracket:
    """An open bracket: the key or index to which the next value belongs, and the indexes of the entries of the bracket and of
    the key."""

    is_list: bool
    step: str | int | None
    entry: int | None
    key: int | None = None

    @property
    def where(self) -> CursorPlace:
        return CursorPlace.KEY if self.step is None else CursorPlace.VALUE

    def go_on(self) -> None:
        """Continue after a comma."""
        self.step, self.key = (self.step + 1, None) if isinstance(self.step, int) else (None, None)


def entries(text: str) -> list[OutlineEntry]:
    """Return all entries of a text in their order."""
    reader = _OutlineReader(text)
    reader.read()
    return reader.found


def entry_at(entries: list[OutlineEntry], offset: int) -> OutlineEntry | None:
    """Return the innermost entry whose key or value contains the offset."""
    best = None
    for entry in entries:
        if entry.start > offset:
            break
        if offset <= entry.end or entry.value <= offset <= entry.stop:
            best = entry
    return best


def context(text: str, offset: int) -> CursorContext:
    """Return the context at an offset, judging only by the text before it."""
    reader = _OutlineReader(text[:offset])
    reader.read()
    return reader.context()


@dataclass
class _OutlineReader:
    text: str
    found: list[OutlineEntry] = field(default_factory=list)
    _frames: list[_BlockFrame] = field(default_factory=list)
    last: CursorContext | None = None

    def read(self) -> None:
        at, length = 0, len(self.text)
        while at < length:
            start = at
            end = self.line_end(at)
            at = self.indented(at, end)
            if at < end and self.text[at] != "#" and not (at == start and self.text.startswith(("---", "...", "%"), at)):
                self.last = None
                at = self._line(at, at - start)
            else:
                at = end
            at = self.line_end(at) + 1

    def context(self) -> CursorContext:
        if self.last is not None:
            return self.last
        line, length = self.text[self.text.rfind("\n") + 1 :], len(self.text)
        if line.strip():
            return CursorContext(CursorPlace.NOTHING, (), "", length)
        return CursorContext(CursorPlace.KEY, self._below(len(line)), "", length)

    def _line(self, at: int, column: int) -> int:
        """Read one line and everything nested in it; returns the offset where reading stopped."""
        begin, end = at - column, self.line_end(at)
        self._leave(column, is_dash=self._is_dash(at))
        at = self._dashes(at, begin, end)
        if at >= end or self.text[at] == "#":
            return end
        column, key = at - begin, _KEY.match(self.text, at)
        if key is None:
            return self._value_only(at, end, column)
        self._enter(column, _key_name(key[1]))
        return self._value(key.start(), key.end(1), self.indented(key.end(), end), end, column)

    def _dashes(self, at: int, begin: int, end: int) -> int:
        """Read the dashes at the beginning of a line; return the offset behind them."""
        while self._is_dash(at) and len(self._frames) < _MAX_DEPTH:
            self._leave(at - begin, is_dash=True)
            self._enter(at - begin)
            rest = self.indented(at + 1, end)
            self._add(at, at + 1, rest, rest, ValueStyle.NONE)
            if rest >= end and len(self.text) == end and rest > at + 1:
                self.last = CursorContext(CursorPlace.KEY, self.route(), "", rest)
            at = rest
        return at

    def _leave(self, column: int, *, is_dash: bool) -> None:
        """Leave what ends before this column; a key ends a list in its own column, too."""
        while self._frames:
            top = self._frames[-1]
            if top.column < column or (top.column == column and (is_dash or not top.is_list)):
                return
            self._frames.pop()

    def _enter(self, column: int, key: str | None = None) -> None:
        """Begin a key, or without one the next item of a list, at a column."""
        top = self._frames[-1] if self._frames else None
        if top is not None and top.column == column and top.is_list is (key is None):
            top.step, top.filled = int(top.step) + 1 if key is None else key, False
        else:
            self._fill()
            self._frames.append(_BlockFrame(column, 0 if key is None else key))

    def _value_only(self, at: int, end: int, column: int) -> int:
        """Read a line without a key: a list item, the continuation of a plain text, or a key that is being typed."""
        word, entry = self.text[at:end], self.found[-1] if self.found else None
        top = self._frame_around(column)
        is_item = top is not None and top.is_list and not top.filled
        is_key = end == len(self.text) and word[0] not in "\"'{[|>&*!" and (is_item or top is None)
        is_bracket = word[0] in "{[" and top is not None  # below its key
        if top is not None and entry is not None and (is_item or (is_bracket and entry.route == self.route())):
            end = self._value(entry.start, entry.end, at, end, top.column, is_second=True)
        if is_key:
            self.last = CursorContext(CursorPlace.KEY, self.route() if is_item else self._below(column), word, at)
        elif not is_item and not is_bracket and top is not None and entry is not None:
            self._continue_plain(entry, at, end)
        return end

    def _frame_around(self, column: int) -> _BlockFrame | None:
        return self._frames[-1] if self._frames and self._frames[-1].column < column else None

    def _continue_plain(self, entry: OutlineEntry, at: int, end: int) -> None:
        """Extend a plain text by a line, unless it has ended before a brace or a comment."""
        if entry.kind is ValueStyle.SCALAR and self.text[entry.stop : at].isspace():
            self.found[-1] = entry._replace(stop=self._plain_end(at, end))

    def _value(self, start: int, stop: int, value: int, end: int, column: int, *, is_second: bool = False) -> int:
        """Read the value of the key at `start:stop`, which begins at `value`; returns the offset where it ends."""
        properties = _PROPERTIES.match(self.text, value, end)
        begin = properties.end() if properties else value
        if is_second:
            self.found.pop()
        if begin >= end or self.text[begin] == "#":
            if begin >= end == len(self.text) and value > stop + 1:
                self.last = CursorContext(CursorPlace.VALUE, self.route(), "", end)
            self._add(start, stop, stop, stop, ValueStyle.NONE)
            return end
        self._fill()
        if self.text[begin] in "{[":
            index = len(self.found)
            self._add(start, stop, begin, begin, ValueStyle.FLOW)
            stop_at = _FlowReader(self, begin, column).read()
            self.found[index] = self.found[index]._replace(stop=stop_at)
        else:
            style, stop_at = self._scalar(begin, end, column)
            self._add(start, stop, begin, stop_at, style)
        return max(stop_at, value)

    def _scalar(self, begin: int, end: int, column: int) -> tuple[ValueStyle, int]:
        """Read a scalar; return its style, and where it ends. Where the text ends in it, the cursor may go on with it."""
        text, sign = self.text, self.text[begin]
        style, stop = ValueStyle.SCALAR, end
        if sign in "|>":
            style, stop = ValueStyle.BLOCK, self._block_end(end, column)
            if stop == len(text) and end < len(text):
                line = text.rfind("\n") + 1
                self.last = CursorContext(CursorPlace.TEXT, self.route(), text[line:], line)
        elif sign in "\"'":
            stop = self.quoted_end(begin, column)
            if stop == len(text) and not _is_closed(text, begin, stop):
                self.last = CursorContext(CursorPlace.VALUE, self.route(), text[begin + 1 :], begin + 1, quote=sign)
        else:
            stop = self._plain_end(begin, end)
            if stop == end == len(text):
                self.last = CursorContext(CursorPlace.VALUE, self.route(), text[begin:end], begin)
        return style, stop

    def _plain_end(self, begin: int, end: int) -> int:
        match = _PLAIN_END.search(self.text, begin, end + 1)
        return match.start() if match else end

    def _block_end(self, end: int, column: int) -> int:
        """Return the end of a block scalar. Trailing blank lines belong to it if they are indented like it or more of it
        follows."""
        length = len(self.text)
        block_end = at = end
        while at < length:
            begin = at + 1
            stop = self.line_end(begin)
            indent = self.indented(begin, stop) - begin
            if begin + indent < stop:
                if indent <= column:
                    break
                block_end = stop
            elif indent > column and stop == length:
                block_end = stop
            at = stop
        return block_end

    def quoted_end(self, at: int, column: int) -> int:
        """Behind the closing quote; of one that is not closed, the end of its line or of what is indented below it."""
        text, length, quote = self.text, len(self.text), self.text[at]
        at += 1
        while at < length:
            char = text[at]
            if char == quote:
                if quote == "'" and text[at + 1 : at + 2] == "'":
                    at += 1
                else:
                    return at + 1
            elif char == "\\" and quote == '"':
                at += 1
            elif char == "\n":
                stop = self.line_end(at + 1)
                following = self.indented(at + 1, stop)
                if following < stop and following - at - 1 <= column:
                    return at
            at += 1
        return length

    def _add(self, start: int, end: int, value: int, stop: int, kind: ValueStyle) -> None:
        self.found.append(OutlineEntry(self.route(), start, end, value, stop, kind))

    def _fill(self) -> None:
        if self._frames:
            self._frames[-1].filled = True

    def route(self) -> Route:
        return tuple(frame.step for frame in self._frames)

    def _below(self, column: int) -> Route:
        """Return the route of the mapping to which a key at this column would belong."""
        frames = list(self._frames)
        while frames and (frames[-1].column > column or (frames[-1].column == column and frames[-1].is_list)):
            frames.pop()
        if frames and frames[-1].column == column:
            frames.pop()
        return tuple(frame.step for frame in frames)

    def _is_dash(self, at: int) -> bool:
        return self.text[at : at + 1] == "-" and self.text[at + 1 : at + 2] in ("", " ", "\t", "\n")

    def indented(self, at: int, end: int) -> int:
        while at < end and self.text[at] in " \t":
            at += 1
        return at

    def line_end(self, at: int) -> int:
        line_break = self.text.find("\n", at)
        return len(self.text) if line_break < 0 else line_break


class _FlowReader:
    """Reads what stands between brackets, from the first one to the one that closes it, into the outline of its text.

    `token` is a scalar that may be a key or a value: the next colon, comma or bracket says which.
    """

    def __init__(self, outline: "_OutlineReader", at: int, column: int) -> None:
        self._outline, self._text, self._at, self._column = outline, outline.text, at, column
        self._base = outline.route()
        self._stack: list[_OpenBracket] = []
        self._token: tuple[int, int] | None = None

    def read(self) -> int:
        """Read, and return the offset behind the last bracket, or that where the text turns out to go on without it."""
        text = self._text
        while self._at < len(text):
            char, end = text[self._at], None
            if char in "{[":
                end = self._open(char)
            elif char in "}]":
                end = self._close()
            elif char == ",":
                self._take_token()
                self._stack[-1].go_on()
            elif char == "#" and text[self._at - 1].isspace():
                end = self._comment()
            elif char == "\n":
                end = self._line_break()
            elif char in "\"'":
                end = self._quoted(char)
            elif char == ":":
                self._colon()
            elif not char.isspace():
                plain = _FLOW_PLAIN.match(text, self._at)
                self._token = self._at, plain.end() if plain else self._at + 1
                self._at = self._token[1] - 1
            if end is not None:
                return end
            self._at += 1
        begin = self._token[0] if self._token is not None and self._token[1] == len(text) else len(text)
        self._cut_off(CursorContext(self._stack[-1].where, self._route(), text[begin:], begin, flow=True))
        return len(text)

    def _route(self) -> Route:
        return (*self._base, *(bracket.step for bracket in self._stack if bracket.step is not None))

    def _cut_off(self, context: CursorContext) -> None:
        """Note what could be written at the end of the text, which comes before the brackets are closed."""
        self._outline.last = context

    def _value(self, begin: int, end: int) -> int | None:
        """Add the value of the key before it, or an item of a list; return the place of its entry."""
        top, entries = self._stack[-1], self._outline.found
        if top.is_list:
            entries.append(OutlineEntry(self._route(), begin, begin, begin, end, ValueStyle.SCALAR))
            return len(entries) - 1
        if top.key is not None:
            entries[top.key] = entries[top.key]._replace(value=begin, stop=end, kind=ValueStyle.SCALAR)
        return top.key

    def _take_token(self) -> None:
        if self._token is not None:
            self._value(*self._token)
        self._token = None

    def _open(self, char: str) -> int | None:
        entry = self._value(self._at, self._at) if self._stack else None
        self._stack.append(_OpenBracket(char == "[", 0 if char == "[" else None, entry))
        self._token = None
        return len(self._text) if len(self._stack) > _MAX_DEPTH else None

    def _close(self) -> int | None:
        self._take_token()
        entry = self._stack.pop().entry
        if entry is not None:
            self._outline.found[entry] = self._outline.found[entry]._replace(stop=self._at + 1, kind=ValueStyle.FLOW)
        return None if self._stack else self._at + 1

    def _comment(self) -> int | None:
        end = self._outline.line_end(self._at)
        if end == len(self._text):
            self._cut_off(CursorContext(CursorPlace.NOTHING, (), "", end))
            return end
        self._at = end - 1
        return None

    def _line_break(self) -> int | None:
        """Stop where the next line is a key of the mapping around the brackets: somebody is typing, and has not closed them."""
        begin = self._at + 1
        following = self._outline.indented(begin, self._outline.line_end(begin))
        is_outside = following - begin <= self._column and _KEY.match(self._text, following)
        return self._at if is_outside and self._text[following] not in "\"'" else None

    def _quoted(self, quote: str) -> int | None:
        begin, end = self._at, self._outline.quoted_end(self._at, self._column)
        if end == len(self._text) and not _is_closed(self._text, begin, end):
            top = self._stack[-1]
            self._cut_off(CursorContext(top.where, self._route(), self._text[begin + 1 :], begin + 1, flow=True, quote=quote))
            return end
        self._token, self._at = (begin, end), end - 1
        return None

    def _colon(self) -> None:
        top, entries = self._stack[-1], self._outline.found
        if self._token is not None and not top.is_list and top.step is None:
            begin, end = self._token
            top.step, top.key = _key_name(self._text[begin:end]), len(entries)
            entries.append(OutlineEntry(self._route(), begin, end, self._at + 1, self._at + 1, ValueStyle.NONE))
        self._token = None


def _is_closed(text: str, begin: int, end: int) -> bool:
    return end - begin > 1 and text[end - 1] == text[begin]


def _key_name(key: str) -> str:
    if key[:1] in "\"'" and key[-1:] == key[:1] and len(key) > 1:
        return key[1:-1]
    return key.strip()
