"""Parse: YAML text -> values and a place for every route. With `syntax`, the only module that knows PyYAML.

Values are built from the C parser's nodes with YAML 1.2 core types; no tag is ever looked up, so nothing can run. Places
are looked up in the nodes when they are asked for: a clean file pays for none. Columns count characters.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml
from yaml._yaml import CParser

from optio.compiler.diagnostics import MOST_OF_ONE_CODE_PER_FILE, Diagnostic, Related, finding
from optio.compiler.encoding import decode
from optio.compiler.limits import TooMuch, refuse_bombs
from optio.compiler.scalars import SWITCHES, WORDS, other_reading, scalar
from optio.compiler.source import START, Position, SourceFile, Span, position_at
from optio.compiler.syntax import BLANKS, braces, explain
from optio.model.route import Route

MAX_DEPTH = 64
MAX_NODES = 10_000
_NUMERIC = frozenset("0123456789+-.")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)+")
_OTHER_BREAKS = re.compile("[\x85\u2028\u2029]")
_NUL_ESCAPE = re.compile(r"\\(?:0|x00|u0000|U00000000)")


class _TooMany(Exception):
    """More nodes than a file may have: known long before the whole file is read."""


class _Composer(CParser):
    """Nodes without resolved tags: an explicit tag stays on its node, all others are None. Saves half the time."""

    count = MAX_NODES

    def resolve(self, kind: Any, value: Any, implicit: Any) -> None:
        return None

    def descend_resolver(self, parent: Any, index: Any) -> None:
        self.count -= 1
        if self.count < 0:
            raise _TooMany

    def ascend_resolver(self) -> None:
        return None


class _Place(NamedTuple):
    node: yaml.Node
    key: yaml.Node | None


@dataclass(frozen=True, eq=False)
class Document:
    """A parsed file. `odd` holds the routes of unquoted texts that YAML 1.1 readers take for something else."""

    path: str
    text: str
    value: Any
    root: yaml.Node
    odd: dict[Route, str] = field(default_factory=dict)

    def span(self, route: Route) -> Span:
        """The value's place; of what is absent, the nearest parent's key."""
        place = self._place(route)
        return self._span(place) if place is not None else self.key_span(route)

    def key_span(self, route: Route) -> Span:
        """The key's place; steps that do not exist are dropped."""
        while route:
            place = self._place(route)
            if place is not None:
                return _span(place.key, self.text) if place.key is not None else self._span(place)
            route = route[:-1]
        start = _span(self.root, self.text).start
        return Span(start, start)

    def plain(self, route: Route) -> str | None:
        """The text of an unquoted scalar."""
        place = self._place(route)
        if place is None or not isinstance(place.node, yaml.ScalarNode) or place.node.style:
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
        return Span(Position(line, column + start), Position(line, column + max(end, start + 1)))

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

    def source(self, route: Route) -> str:
        """A scalar as it is written, quotes included."""
        place = self._place(route)
        if place is None:
            return ""
        start, end = place.node.start_mark.index, place.node.end_mark.index
        return (
            _PROPERTIES.sub("", self.text[start:end], count=1) if self.text[start : start + 1] in "&!" else self.text[start:end]
        )

    def _text(self, route: Route) -> str | None:
        place = self._place(route)
        return str(place.node.value) if place is not None and isinstance(place.node, yaml.ScalarNode) else None

    def _span(self, place: _Place) -> Span:
        key = place.key
        if key is not None and place.node.start_mark.index < key.end_mark.index:
            # The value stands before its own key: it came through an alias, and the alias is the place to look at.
            alias = re.compile(r"\s*:\s*(\*[^\s,\]}]+)").match(self.text, key.end_mark.index)
            if alias:
                return Span(position_at(self.text, alias.start(1)), position_at(self.text, alias.end(1)))
        return _span(place.node, self.text)

    def _place(self, route: Route) -> _Place | None:
        node, key = self.root, None
        for step in route:
            found = _child(node, step)
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
        return None, [explain(err, file.path, text)]
    except _TooMany:
        return None, [finding("OPT014", f"more than {MAX_NODES:,} values", path=file.path, hint="split the file")]
    if not nodes:
        return None, [finding("OPT018", "holds no task", path=file.path, hint="write a task or delete the file")]
    if len(nodes) > 1:
        span = _span(nodes[1], text)
        return None, [finding("OPT013", "a second document", path=file.path, span=span, hint="one file, one task")]
    root = nodes[0]
    if "&" in text:
        try:
            refuse_bombs(root)
        except TooMuch as err:
            return None, [finding(err.code, err.message, path=file.path, span=_span(err.node, text), hint=err.hint)]
    return _Builder(file.path, text, root).document()


def _compose(text: str) -> list[yaml.Node]:
    loader = _Composer(text)
    nodes: list[yaml.Node] = []
    while loader.check_node():
        node = loader.get_node()
        if node is not None and not (isinstance(node, yaml.ScalarNode) and node.value == "" and not node.style):
            nodes.append(node)
    return nodes


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node | None] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return (node.value[step], None) if 0 <= step < len(node.value) else None
    if not isinstance(node, yaml.MappingNode):
        return None
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value == step:
                return value, key
            if key.value == "<<" and not key.style:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
    return next((found for part in merged if (found := _child(part, step)) is not None), None)


def _span(node: yaml.Node, text: str) -> Span:
    start, end = node.start_mark, node.end_mark
    if text[start.index : start.index + 1] in ("&", "!"):
        properties = _PROPERTIES.match(text, start.index)
        if properties and properties.end() < end.index:
            return _clip(text, properties.end(), end.index, node)
    if start.line == end.line and not _OTHER_BREAKS.search(text, 0, start.index):
        return Span(Position(start.line + 1, start.column + 1), Position(end.line + 1, end.column + 1))
    return _clip(text, start.index, end.index, node)


def _clip(text: str, start: int, end: int, node: yaml.Node) -> Span:
    """A block value ends where the next key starts: show its first line only. Flow and quoted values end where they end."""
    line_end = text.find("\n", start)
    block = node.style in ("|", ">") if isinstance(node, yaml.ScalarNode) else not getattr(node, "flow_style", False)
    if block and 0 <= line_end < end:
        end = line_end
    return Span(position_at(text, start), position_at(text, end))


class _Builder:
    """Builds the values in one walk. What it finds wrong keeps the walk going; `fatal` says the values cannot be used."""

    def __init__(self, path: str, text: str, root: yaml.Node) -> None:
        self._path, self._text, self._root = path, text, root
        self._found: list[Diagnostic] = []
        self._odd: list[yaml.Node] = []
        self._fatal = False

    def document(self) -> tuple[Document | None, list[Diagnostic]]:
        value = self._value(self._root, 1)
        if self._fatal:
            return None, self._found
        document = Document(self._path, self._text, value, self._root)
        if self._odd:
            self._locate_odd(document)
        if _NUL_ESCAPE.search(self._text):
            self._find_nuls(document)
        return document, self._found

    def _value(self, node: Any, depth: int) -> Any:
        if node.tag is not None:
            self._report(
                "OPT007", f"the tag `{_short_tag(node.tag)}`", node, "remove it: nothing is executed or included", at_tag=True
            )
        if node.__class__ is yaml.ScalarNode:
            text: str = node.value
            if node.style:
                return text
            if text in WORDS:
                return WORDS[text]
            if text[0] in _NUMERIC:
                if other_reading(text):
                    self._odd.append(node)
                return scalar(text)
            if text in SWITCHES:
                self._odd.append(node)
            return text
        if depth > MAX_DEPTH:
            if not self._fatal:
                self._report("OPT014", f"nested deeper than {MAX_DEPTH} levels", node, "flatten it")
            self._fatal = True
            return None
        if node.__class__ is yaml.SequenceNode:
            return [self._value(item, depth + 1) for item in node.value]
        return self._mapping(node, depth)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merges: list[yaml.Node] = []
        for key, value in node.value:
            if key.__class__ is not yaml.ScalarNode:
                self._bad_key(node, key)
                continue
            name: str = key.value
            if not key.style:
                if name == "<<":
                    merges.append(value)
                    continue
                if name in WORDS or name in SWITCHES or name[0] in _NUMERIC or name[0] in BLANKS:
                    self._check_key(key)
            if key.tag is not None:
                self._report("OPT007", f"the tag `{_short_tag(key.tag)}`", key, "remove it", at_tag=True)
            if name in values:
                self._twice(node, key)
                continue
            values[name] = self._value(value, depth + 1)
        for merge in merges:
            for name, inherited in self._merged(merge, depth):
                values.setdefault(name, inherited)
        return values

    def _merged(self, node: yaml.Node, depth: int) -> Iterator[tuple[str, Any]]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in parts:
            if isinstance(part, yaml.MappingNode):
                yield from self._value(part, depth + 1).items()
            else:
                self._report("OPT103", "`<<` needs a mapping", part, "give it an alias to a mapping")

    def _check_key(self, key: yaml.ScalarNode) -> None:
        text = key.value
        if text and text[0] in BLANKS:
            self._report("OPT005", f"U+{ord(text[0]):04X}, a blank that is no space, is used to indent", key, "use spaces")
            self._fatal = True  # what is nested in what can no longer be told
            return
        reading = other_reading(text)
        if reading:
            self._report("OPT006", f"the key `{text}` is {reading} to other YAML readers", key, f"write `'{text}':`")
        elif not isinstance(scalar(text), str):
            self._report("OPT017", f"the key `{text}` is no text" if text else "an empty key", key, f"write `'{text}':`")

    def _bad_key(self, node: yaml.MappingNode, key: yaml.Node) -> None:
        start = node.start_mark
        if isinstance(key, yaml.MappingNode) and self._text.startswith("{{", start.index):
            line_start = self._text.rfind("\n", 0, start.index) + 1
            line = self._text[line_start:].split("\n", 1)[0]
            message, hint = braces(line, start.index - line_start)
            self._report("OPT001", message, node, hint)
        else:
            self._report("OPT017", "a key that is a collection", key, "keys are text")
        self._fatal = True

    def _enough(self, code: str) -> bool:
        """Whether more of this rule than will be shown has been found."""
        return (
            len(self._found) > MOST_OF_ONE_CODE_PER_FILE
            and sum(d.code == code for d in self._found) >= MOST_OF_ONE_CODE_PER_FILE
        )

    def _twice(self, node: yaml.MappingNode, key: yaml.ScalarNode) -> None:
        if self._enough("OPT004"):
            return
        first = _span(next(k for k, _ in node.value if k.value == key.value), self._text)
        self._found.append(
            finding(
                "OPT004", f"`{key.value}` stands twice", path=self._path, span=_span(key, self._text),
                hint=f"first at {first.start.line}:{first.start.column}: keep one",
                related=(Related("first here", self._path, first),),
            )
        )  # fmt: skip

    def _report(self, code: str, message: str, node: yaml.Node, hint: str, *, at_tag: bool = False) -> None:
        if self._enough(code):
            return
        span = _span(node, self._text)
        if at_tag:
            found = re.compile(r"(?:&\S+\s+)?(!\S*)").match(self._text, node.start_mark.index)
            if found:
                span = Span(position_at(self._text, found.start(1)), position_at(self._text, found.end(1)))
        self._found.append(finding(code, message, path=self._path, span=span, hint=hint))

    def _locate_odd(self, document: Document) -> None:
        wanted = {id(node) for node in self._odd}
        for route, node in _walk(self._root, ()):
            if id(node) in wanted:
                document.odd.setdefault(route, node.value)

    def _find_nuls(self, document: Document) -> None:
        for route, node in _walk(self._root, ()):
            if isinstance(node, yaml.ScalarNode) and "\0" in node.value:
                span = document.span(route)
                hint = "delete it: no agent can take it"
                self._found.append(finding("OPT015", "a NUL character", path=self._path, span=span, route=route, hint=hint))


def _walk(node: yaml.Node, route: Route) -> Iterator[tuple[Route, yaml.Node]]:
    yield route, node
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*route, index))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield from _walk(value, route if key.value == "<<" and not key.style else (*route, key.value))


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!", 1)


__all__ = ["START", "Document", "parse", "scalar"]
