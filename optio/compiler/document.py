"""Parse: YAML text -> values and a span for every route. The only module that knows PyYAML.

Values are built from the C loader's nodes with YAML 1.2 core types, so `NO` is a text, `010` is ten, and no tag can run
anything. Columns count characters.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from optio.compiler.diagnostics import Diagnostic, Related, finding
from optio.compiler.source import START, Position, SourceFile, Span, span_at
from optio.model.route import Route

MAX_NODES = 10_000
MAX_DEPTH = 64
MAX_EXPANDED = 100_000

_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": float("inf"), ".Inf": float("inf"), ".INF": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"),
    ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mark:
    """A value's place, its key's place, and how a scalar was written (`plain` is its text when it had no quotes)."""

    span: Span
    key: Span | None
    plain: str | None


@dataclass(frozen=True)
class Document:
    """A parsed file."""

    path: str
    text: str
    value: Any
    marks: dict[Route, Mark] = field(default_factory=dict)

    def span(self, route: Route) -> Span:
        """The value's place; of what is absent, the nearest parent's key."""
        mark = self.marks.get(route)
        if mark is not None:
            return mark.span
        return self.key_span(route)

    def key_span(self, route: Route) -> Span:
        """The key's place; steps that do not exist are dropped."""
        while route:
            mark = self.marks.get(route)
            if mark is not None and mark.key is not None:
                return mark.key
            if mark is not None and isinstance(route[-1], int):
                return mark.span
            route = route[:-1]
        root = self.marks.get(())
        return Span(root.span.start, root.span.start) if root else START

    def plain(self, route: Route) -> str | None:
        """The text of an unquoted scalar."""
        mark = self.marks.get(route)
        return None if mark is None else mark.plain


def parse(file: SourceFile) -> tuple[Document | None, list[Diagnostic]]:
    """The document, or None with the reasons."""
    try:
        text = file.data.decode("utf-8")
    except UnicodeDecodeError as err:
        line = file.data.count(b"\n", 0, err.start) + 1
        at = Position(line, 1)
        found = finding(
            "OPT002", f"no UTF-8 at byte {err.start}", path=file.path, span=Span(at, at), hint="save the file as UTF-8"
        )
        return None, [found]
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    try:
        nodes = _compose(text)
    except yaml.YAMLError as err:
        return None, [_syntax(err, file.path, text)]
    if not nodes:
        return None, [finding("OPT018", "holds no task", path=file.path, hint="write a task or delete the file")]
    if len(nodes) > 1:
        span = _span(nodes[1], text)
        return None, [finding("OPT013", "a second document", path=file.path, span=span, hint="one file, one task")]
    builder = _Builder(file.path, text)
    value = builder.build(nodes[0])
    if builder.fatal:
        return None, builder.found
    return Document(file.path, text, value, builder.marks), builder.found


def _compose(text: str) -> list[yaml.Node]:
    loader = yaml.CSafeLoader(text)
    nodes = []
    try:
        while loader.check_node():
            nodes.append(loader.get_node())
    finally:
        loader.dispose()
    return nodes


def _syntax(err: yaml.YAMLError, path: str, text: str) -> Diagnostic:
    mark = getattr(err, "problem_mark", None)
    problem = getattr(err, "problem", None) or str(err)
    at = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
    return finding("OPT001", str(problem), path=path, span=Span(at, at))


def _span(node: yaml.Node, text: str) -> Span:
    start, end = node.start_mark, node.end_mark
    # A block collection ends where the next key starts: show its first line only.
    if end.line > start.line and not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        line_end = text.find("\n", start.index)
        width = (len(text) if line_end < 0 else line_end) - start.index
        return Span(Position(start.line + 1, start.column + 1), Position(start.line + 1, start.column + 1 + width))
    return Span(Position(start.line + 1, start.column + 1), Position(end.line + 1, end.column + 1))


class _Builder:
    """Walks the nodes once; `fatal` says that the values cannot be used."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text
        self.marks: dict[Route, Mark] = {}
        self.found: list[Diagnostic] = []
        self.fatal = False
        self._open: set[int] = set()
        self._count = 0

    def build(self, root: yaml.Node) -> Any:
        if self._too_much(root):
            return None
        return self._value(root, (), None)

    def _too_much(self, root: yaml.Node) -> bool:
        """Size of the expanded tree by a memo per node, so that a bomb costs only its own text."""
        sizes: dict[int, int] = {}
        stack: list[tuple[yaml.Node, int, bool]] = [(root, 1, False)]
        open_nodes: set[int] = set()
        while stack:
            node, depth, done = stack.pop()
            if done:
                sizes[id(node)] = 1 + sum(sizes[id(child)] for child in _children(node))
                open_nodes.discard(id(node))
                continue
            if id(node) in sizes:
                continue
            if id(node) in open_nodes:
                return self._refuse("OPT009", "an alias inside its own anchor", node)
            if depth > MAX_DEPTH:
                return self._refuse("OPT014", f"nested deeper than {MAX_DEPTH} levels", node, "flatten it")
            open_nodes.add(id(node))
            stack.append((node, depth, True))
            stack.extend((child, depth + 1, False) for child in _children(node))
        if len(sizes) > MAX_NODES:
            return self._refuse("OPT014", f"more than {MAX_NODES:,} values", root, "split the file")
        if sizes[id(root)] > MAX_EXPANDED:
            return self._refuse("OPT008", f"aliases expand to {sizes[id(root)]:,} values", root, "write the values out")
        return False

    def _refuse(self, code: str, message: str, node: yaml.Node, hint: str | None = None) -> bool:
        self.fatal = True
        self.found.append(finding(code, message, path=self.path, span=_span(node, self.text), hint=hint))
        return True

    def _value(self, node: yaml.Node, route: Route, key: Span | None) -> Any:
        span = _span(node, self.text)
        if isinstance(node, yaml.ScalarNode):
            plain = None if node.style else node.value
            self.marks[route] = Mark(span, key, plain)
            return scalar(node.value) if plain is not None else node.value
        self.marks[route] = Mark(span, key, None)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*route, index), None) for index, item in enumerate(node.value)]
        return self._mapping(node, route)

    def _mapping(self, node: yaml.MappingNode, route: Route) -> dict[str, Any]:
        values: dict[str, Any] = {}
        places: dict[str, Span] = {}
        for key_node, value_node in node.value:
            key_span = _span(key_node, self.text)
            if not isinstance(key_node, yaml.ScalarNode):
                self.found.append(finding("OPT017", "a key that is no text", path=self.path, span=key_span, route=route))
                continue
            name = key_node.value
            if name in places:
                first = places[name]
                self.found.append(
                    finding(
                        "OPT004",
                        f"`{name}` stands twice",
                        path=self.path,
                        span=key_span,
                        route=(*route, name),
                        hint=f"first at {first.start.line}:{first.start.column}: keep one",
                        related=(Related("first here", self.path, first),),
                    )
                )
                continue
            places[name] = key_span
            values[name] = self._value(value_node, (*route, name), key_span)
        return values


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def scalar(text: str) -> Any:
    """The YAML 1.2 core value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first.isdigit() or first in "+-.":
        if _INT.fullmatch(text):
            return int(text) if len(text) < 4_000 else text
        if _FLOAT.fullmatch(text):
            return float(text)
        if _OCT.fullmatch(text):
            return int(text[2:], 8)
        if _HEX.fullmatch(text):
            return int(text[2:], 16)
    return text


def inside(document: Document, route: Route, start: int, end: int) -> Span:
    """The place of characters `start:end` of a one-line scalar's value; the whole value when it is written otherwise."""
    span = document.span(route)
    if span.start.line != span.end.line:
        return span
    mark = document.marks.get(route)
    shift = 0 if mark is not None and mark.plain is not None else 1
    line, column = span.start.line, span.start.column + shift
    return Span(Position(line, column + start), Position(line, column + max(end, start + 1)))


__all__ = ["Document", "Mark", "inside", "parse", "scalar", "span_at"]
