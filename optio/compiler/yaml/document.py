"""Parse YAML text into values, with a place in the text for every route. Only this module and `syntax` know PyYAML.

Values are built from the nodes of the C parser with the YAML 1.2 core types. Tags are never resolved, so nothing in a file can
run. Places are looked up in the nodes on demand. Columns count characters.
"""

import operator
import re
from dataclasses import dataclass, field
from functools import cached_property
from types import NoneType
from typing import Any, NamedTuple

import yaml
from yaml._yaml import CParser

from optio.compiler.diagnostics import Diagnostic, Fix, diagnostic
from optio.compiler.source import Position, SourceFile, Span, position_at, span_at
from optio.compiler.yaml.emit import flow
from optio.compiler.yaml.encoding import decode
from optio.compiler.yaml.limits import DocumentTooLarge, refuse_bombs
from optio.compiler.yaml.nodes import PROPERTIES, Node, alias_inside, child, span_of
from optio.compiler.yaml.scalars import single_quoted
from optio.compiler.yaml.syntax import explain_syntax_error
from optio.compiler.yaml.values import Builder
from optio.model.route import Route

MAX_NODES = 10_000
# Mappings with at least this many keys get an index.
_MIN_INDEXED_KEYS = 30


# A number with a unit, which every YAML reader reads as text.
_AMOUNT = r"[1-9][0-9]*[a-zA-Z]+"
_EMPTY_HINT = "write `name:`, `agentRuntime:` and `promptTemplate:`, or delete the file"


class _TooManyNodes(Exception):
    """More nodes than a file may have; raised while composing, before the whole file is in memory."""


class _Composer(CParser):
    """A composer that does not resolve tags: an explicit tag stays on its node, and other nodes have none. The parser calls
    these methods for every node, so they are as short as can be; two are functions in C without an effect."""

    descend_resolver: Any = staticmethod(operator.is_)
    ascend_resolver: Any = staticmethod(NoneType)

    @staticmethod
    def resolve(kind: Any, value: Any, implicit: Any) -> None:
        return None


class _CountingComposer(_Composer):
    """A composer for a text that is long enough for too many nodes."""

    count = MAX_NODES

    def descend_resolver(self, parent: Any, index: Any) -> None:
        self.count -= 1
        if self.count < 0:
            raise _TooManyNodes


class _Place(NamedTuple):
    node: Node
    key: Node | None


@dataclass(frozen=True, eq=False)
class Document:
    """A parsed file with places. `line` is where its value begins, and `odd` holds the routes of unquoted texts that YAML 1.1
    readers take for another value."""

    path: str
    text: str
    value: Any
    odd: dict[Route, str] = field(default_factory=dict)
    line: int = 1

    @cached_property
    def root(self) -> Node:
        """Return the root node. After `release_nodes` it is composed again from the text when a place is needed."""
        return _compose(self.text)[0]

    @cached_property
    def _keys(self) -> dict[int, dict[str, _Place]]:
        """Return a cache of key lookups in large mappings, by the identity of their nodes."""
        return {}

    def release_nodes(self) -> None:
        """Drop the nodes from memory, which are far larger than the text."""
        self.__dict__.pop("root", None)
        self.__dict__.pop("_keys", None)

    def span(self, route: Route) -> Span:
        """Return the value's span; for an absent value, the nearest parent's key."""
        place = self._place(route)
        return self._span(place) if place is not None else self.key_span(route)

    def key_span(self, route: Route) -> Span:
        """Return the span of the key at the route. Steps that do not exist are dropped from the end."""
        while route:
            place = self._place(route)
            if place is not None:
                return span_of(place.key, self.text) if place.key is not None else self._span(place)
            route = route[:-1]
        start = span_of(self.root, self.text).start
        return Span(start, start)

    def plain(self, route: Route) -> str | None:
        """Return the text of an unquoted scalar as written, or None for any other value."""
        place = self._place(route)
        if place is None or place.node.id != "scalar" or place.node.style:
            return None
        return str(place.node.value)

    def inside(self, route: Route, start: int, end: int) -> Span:
        """Return the span of characters `start:end` of a one-line scalar's value, or the whole value where escapes or line
        breaks make the offsets differ."""
        span = self.span(route)
        source = self.source(route)
        value = source if self.plain(route) is not None else source[1:-1]
        if "\n" in source or value != self._text(route):
            return span
        shift = 0 if self.plain(route) is not None else 1
        line, column = span.start.line, span.start.column + shift
        # A position at the end is shown at the closing quote, or behind the last character of the line.
        last = len(self.text.split("\n", line)[line - 1]) + 1
        return Span(Position(line, column + start), Position(line, min(column + max(end, start + 1), last)))

    def find(self, route: Route, needle: str, nth: int = 0) -> Span:
        """Return the span of the nth occurrence of a text in a scalar as written, or the whole value if escapes hide it."""
        place = self._place(route)
        if place is None:
            return self.key_span(route)
        offset, end = place.node.start_mark.index, place.node.end_mark.index
        for _ in range(nth + 1):
            offset = self.text.find(needle, offset, end) + 1
            if not offset:
                return self._span(place)
        return Span(position_at(self.text, offset - 1), position_at(self.text, offset - 1 + len(needle)))

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """Return (path, text) of every file that the value comes from."""
        return ((self.path, self.text),)

    def path_at(self, route: Route) -> str:
        """Return the path of the file that wrote the value at the route."""
        return self.path

    def written(self, route: Route) -> "tuple[Document, Route]":
        """Return the document that wrote the value, and the value's route in it."""
        return self, route

    def has(self, route: Route) -> bool:
        """Return True if the file itself has a value at the route."""
        return self._place(route) is not None

    def is_flow(self, route: Route) -> bool:
        """Return True if the value is written between brackets, or inside some."""
        node = self.root
        for step in route:
            child_place = self._child(node, step)
            if getattr(node, "flow_style", False) or child_place is None:
                break
            node = child_place[0]
        return bool(getattr(node, "flow_style", False))

    def text_at(self, span: Span, route: Route) -> str | None:
        """Return the text at the span, if it is on one line of the file that wrote the value at the route."""
        if span.start.line != span.end.line:
            return None
        return self.text.split("\n", span.start.line)[span.start.line - 1][span.start.column - 1 : span.end.column - 1]

    def source(self, route: Route) -> str:
        """Return a scalar as written, quotes included, or an empty text where nothing is written."""
        place = self._place(route)
        if place is None:
            return ""
        start, end = place.node.start_mark.index, place.node.end_mark.index
        return (
            PROPERTIES.sub("", self.text[start:end], count=1) if self.text[start : start + 1] in "&!" else self.text[start:end]
        )

    def restyled(self, route: Route, text: str) -> str:
        """Return another text in the quoting style of the scalar at the route, or with quotes of its own if it needs them."""
        quote = self.source(route)[:1]
        if quote == '"' and text.isprintable():
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if quote not in ("'", '"') and re.fullmatch(_AMOUNT, text):
            return text
        return single_quoted(text) if quote == "'" and text.isprintable() else flow(text)

    def rewritten(self, route: Route, text: str, *, safe: bool = True) -> Fix | None:
        """Return the fix that replaces the value at the route by `text`. Returns None for an absent value, for block texts
        below `|` or `>`, for a mapping or list with a comment in it, and for an anchored value, which others share."""
        place = self._place(route)
        if place is None or (place.node.id == "scalar" and place.node.style in ("|", ">")):
            return None
        span = self.span(route)
        if place.node.id != "scalar" and self._has_comment(span):
            return None
        if self.text.startswith("&", place.node.start_mark.index) and span == span_of(place.node, self.text):
            return None
        return Fix.write(text, span, safe=safe)

    def _has_comment(self, span: Span) -> bool:
        """Return whether a comment may be in the text at a span. Quotes are not looked at."""
        lines = self.text.split("\n")[span.start.line - 1 : span.end.line]
        lines[-1] = lines[-1][: span.end.column - 1]
        return any(" #" in line for line in lines)

    def _text(self, route: Route) -> str | None:
        place = self._place(route)
        return str(place.node.value) if place is not None and place.node.id == "scalar" else None

    def _span(self, place: _Place) -> Span:
        key = place.key
        if key is not None and place.node.start_mark.index < key.end_mark.index:
            # The value begins before its key, so it came through an alias; point at the alias.
            alias = re.compile(r"\s*:\s*(\*[^\s,\]}]+)").match(self.text, key.end_mark.index)
            if alias:
                return Span(position_at(self.text, alias.start(1)), position_at(self.text, alias.end(1)))
        return span_of(place.node, self.text)

    def _child(self, node: Node, step: str | int) -> tuple[Node, Node | None] | None:
        if node.id != "mapping" or len(node.value) < _MIN_INDEXED_KEYS:
            return child(node, step)
        if id(node) not in self._keys:
            # The first of equal keys wins, and merged entries come last.
            places = reversed([(key.value, _Place(value, key)) for key, value in node.value if key.id == "scalar"])
            self._keys[id(node)] = dict(places)
        return self._keys[id(node)].get(str(step)) or child(node, step)

    def _place(self, route: Route) -> _Place | None:
        node, key = self.root, None
        for step in route:
            child_place = self._child(node, step)
            if child_place is None:
                return None
            node, key = child_place
        return _Place(node, key)


def parse(file: SourceFile) -> tuple[Document | None, list[Diagnostic]]:
    """Return the document and the findings; the document is None if the text is not usable YAML."""
    text, findings = decode(file)
    if text is None:
        return None, findings
    try:
        nodes = _compose(text)
    except yaml.YAMLError as err:
        return None, [explain_syntax_error(err, file.path, text)]
    except _TooManyNodes:
        return None, [diagnostic("OPT014", f"more than {MAX_NODES:,} values", path=file.path, hint="split the file")]
    if not nodes:
        return None, [diagnostic("OPT018", "the file holds no task", path=file.path, hint=_EMPTY_HINT)]
    if len(nodes) > 1:
        marker = text.rfind("\n---", 0, nodes[1].start_mark.index) + 1
        span = span_at(text, marker, marker + 3) if marker else span_of(nodes[1], text)
        hint = "move it into its own file: each file holds one task"
        return None, [diagnostic("OPT013", "a second document", path=file.path, span=span, hint=hint)]
    root = nodes[0]
    if "&" in text:
        try:
            refuse_bombs(root)
        except DocumentTooLarge as err:
            span = alias_inside(err.node, text) if err.code == "OPT009" else span_of(err.node, text)
            return None, [diagnostic(err.code, err.message, path=file.path, span=span, hint=err.hint)]
    builder = Builder(file.path, text, root)
    values = builder.build()
    if values is None:
        return None, builder.found
    line = span_of(root, text).start.line
    document = Document(file.path, text, values.value, values.odd, line)
    document.__dict__["root"] = root
    return document, builder.found


def _compose(text: str) -> list[Node]:
    # No text has two nodes for each character: the densest that is known, `[?],` in a mapping, has five in four characters.
    loader = (_Composer if len(text) < MAX_NODES // 2 else _CountingComposer)(text)
    nodes: list[Node] = []
    while loader.check_node():
        node: Node = loader.get_node()
        if node is not None and not (node.id == "scalar" and node.value == "" and not node.style):
            nodes.append(node)
    return nodes
