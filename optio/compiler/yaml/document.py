"""Parse: YAML text -> values and a place for every route. With `syntax`, the only module that knows PyYAML.

Values are built from the C parser's nodes with YAML 1.2 core types; no tag is ever looked up, so nothing can run. Places
are looked up in the nodes when they are asked for. Columns count characters.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import yaml
from yaml._yaml import CParser

from optio.compiler.diagnostics import Diagnostic, Fix, diagnostic
from optio.compiler.source import Position, SourceFile, Span, position_at
from optio.compiler.yaml.encoding import decode
from optio.compiler.yaml.limits import DocumentTooLarge, refuse_bombs
from optio.compiler.yaml.nodes import PROPERTIES, Node, alias_inside, child, span_of
from optio.compiler.yaml.scalars import single_quoted
from optio.compiler.yaml.syntax import explain_syntax_error
from optio.compiler.yaml.values import Builder
from optio.model.route import Route

MAX_NODES = 10_000
# So many keys are not looked through for each that is asked for.
_MIN_INDEXED_KEYS = 30


# A number with a unit, which every reader takes for text.
_AMOUNT = r"[1-9][0-9]*[a-zA-Z]+"
_EMPTY_HINT = "write `name:`, `agentRuntime:` and `promptTemplate:`, or delete the file"


class _TooManyNodes(Exception):
    """More nodes than a file may have: known long before the whole file is read."""


class _Composer(CParser):
    """Nodes without resolved tags: an explicit tag stays on its node, all others are None. Saves half the time."""

    count = MAX_NODES

    def resolve(self, kind: Any, value: Any, implicit: Any) -> None:
        return None

    def descend_resolver(self, parent: Any, index: Any) -> None:
        self.count -= 1
        if self.count < 0:
            raise _TooManyNodes

    def ascend_resolver(self) -> None:
        return None


class _Place(NamedTuple):
    node: Node
    key: Node | None


@dataclass(frozen=True, eq=False)
class Document:
    """A parsed file; `line` is where its value begins.

    `odd` holds the routes of unquoted texts that YAML 1.1 readers take for something else.
    """

    path: str
    text: str
    value: Any
    odd: dict[Route, str] = field(default_factory=dict)
    line: int = 1

    @cached_property
    def root(self) -> Node:
        """The nodes: there from the start, and composed again when a place is asked for after they were let go."""
        return _compose(self.text)[0]

    @cached_property
    def _keys(self) -> dict[int, dict[str, _Place]]:
        """What was looked up in large mappings, by the identity of their nodes."""
        return {}

    def release_nodes(self) -> None:
        """Keep no nodes in memory: they are far larger than the text."""
        self.__dict__.pop("root", None)
        self.__dict__.pop("_keys", None)

    def span(self, route: Route) -> Span:
        """The value's place; of what is absent, the nearest parent's key."""
        place = self._place(route)
        return self._span(place) if place is not None else self.key_span(route)

    def key_span(self, route: Route) -> Span:
        """The key's place; steps that do not exist are dropped."""
        while route:
            place = self._place(route)
            if place is not None:
                return span_of(place.key, self.text) if place.key is not None else self._span(place)
            route = route[:-1]
        start = span_of(self.root, self.text).start
        return Span(start, start)

    def plain(self, route: Route) -> str | None:
        """The text of an unquoted scalar."""
        place = self._place(route)
        if place is None or place.node.id != "scalar" or place.node.style:
            return None
        return str(place.node.value)

    def inside(self, route: Route, start: int, end: int) -> Span:
        """The place of characters `start:end` of a one-line scalar's value; the whole value when it is written otherwise."""
        span = self.span(route)
        source = self.source(route)
        value = source if self.plain(route) is not None else source[1:-1]
        if "\n" in source or value != self._text(route):
            return span
        shift = 0 if self.plain(route) is not None else 1
        line, column = span.start.line, span.start.column + shift
        # What is missing at the end is shown at the closing quote, or behind the last character of the line.
        last = len(self.text.split("\n", line)[line - 1]) + 1
        return Span(Position(line, column + start), Position(line, min(column + max(end, start + 1), last)))

    def find(self, route: Route, needle: str, nth: int = 0) -> Span:
        """The place of the nth occurrence of a text in a scalar as it is written; the whole value if escapes hide it."""
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
        """(path, text) of every file that the value comes from."""
        return ((self.path, self.text),)

    def path_at(self, route: Route) -> str:
        """The file that wrote the value there."""
        return self.path

    def written(self, route: Route) -> "tuple[Document, Route]":
        """The file that wrote the value there, and where in it."""
        return self, route

    def has(self, route: Route) -> bool:
        """Whether the file itself says something there."""
        return self._place(route) is not None

    def is_flow(self, route: Route) -> bool:
        """Whether what stands there is written between brackets, or within some."""
        node = self.root
        for step in route:
            found = self._child(node, step)
            if getattr(node, "flow_style", False) or found is None:
                break
            node = found[0]
        return bool(getattr(node, "flow_style", False))

    def text_at(self, span: Span, route: Route) -> str | None:
        """What is written there, on one line of the file that wrote the value."""
        if span.start.line != span.end.line:
            return None
        return self.text.split("\n", span.start.line)[span.start.line - 1][span.start.column - 1 : span.end.column - 1]

    def source(self, route: Route) -> str:
        """A scalar as it is written, quotes included."""
        place = self._place(route)
        if place is None:
            return ""
        start, end = place.node.start_mark.index, place.node.end_mark.index
        return (
            PROPERTIES.sub("", self.text[start:end], count=1) if self.text[start : start + 1] in "&!" else self.text[start:end]
        )

    def restyled(self, route: Route, text: str) -> str:
        """Another text as it is written in the quotes of the scalar there, or in quotes of its own where it needs them."""
        from optio.compiler.yaml.emit import flow

        quote = self.source(route)[:1]
        if quote == '"' and text.isprintable():
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if quote not in ("'", '"') and re.fullmatch(_AMOUNT, text):
            return text
        return single_quoted(text) if quote == "'" and text.isprintable() else flow(text)

    def rewritten(self, route: Route, text: str, *, safe: bool = True) -> Fix | None:
        """Return the fix that writes `text` for the value there: None where nothing stands, where its lines stand below `|` or
        `>`, and where an anchor gives it to others, too."""
        place = self._place(route)
        if place is None or (place.node.id == "scalar" and place.node.style in ("|", ">")):
            return None
        span = self.span(route)
        if self.text.startswith("&", place.node.start_mark.index) and span == span_of(place.node, self.text):
            return None
        return Fix.write(text, span, safe=safe)

    def _text(self, route: Route) -> str | None:
        place = self._place(route)
        return str(place.node.value) if place is not None and place.node.id == "scalar" else None

    def _span(self, place: _Place) -> Span:
        key = place.key
        if key is not None and place.node.start_mark.index < key.end_mark.index:
            # The value stands before its own key: it came through an alias, and the alias is the place to look at.
            alias = re.compile(r"\s*:\s*(\*[^\s,\]}]+)").match(self.text, key.end_mark.index)
            if alias:
                return Span(position_at(self.text, alias.start(1)), position_at(self.text, alias.end(1)))
        return span_of(place.node, self.text)

    def _child(self, node: Node, step: str | int) -> tuple[Node, Node | None] | None:
        if node.id != "mapping" or len(node.value) < _MIN_INDEXED_KEYS:
            return child(node, step)
        if id(node) not in self._keys:
            # The first of equal keys counts, and what is merged in comes last.
            places = reversed([(key.value, _Place(value, key)) for key, value in node.value if key.id == "scalar"])
            self._keys[id(node)] = dict(places)
        return self._keys[id(node)].get(str(step)) or child(node, step)

    def _place(self, route: Route) -> _Place | None:
        node, key = self.root, None
        for step in route:
            found = self._child(node, step)
            if found is None:
                return None
            node, key = found
        return _Place(node, key)


def parse(file: SourceFile) -> tuple[Document | None, list[Diagnostic]]:
    """The document, or None with the reasons."""
    text, found = decode(file)
    if text is None:
        return None, found
    try:
        nodes = _compose(text)
    except yaml.YAMLError as err:
        return None, [explain_syntax_error(err, file.path, text)]
    except _TooManyNodes:
        return None, [diagnostic("OPT014", f"more than {MAX_NODES:,} values", path=file.path, hint="split the file")]
    if not nodes:
        return None, [diagnostic("OPT018", "the file holds no task", path=file.path, hint=_EMPTY_HINT)]
    if len(nodes) > 1:
        span = span_of(nodes[1], text)
        hint = "move it into a file of its own: one file, one task"
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
    loader = _Composer(text)
    nodes: list[Node] = []
    while loader.check_node():
        node: Node = loader.get_node()
        if node is not None and not (node.id == "scalar" and node.value == "" and not node.style):
            nodes.append(node)
    return nodes
