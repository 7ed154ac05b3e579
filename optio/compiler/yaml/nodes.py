"""Places and children of the nodes that the YAML parser composed. Nodes are told apart by their `id` (`scalar`, `sequence`,
`mapping`), so that only `document` and `syntax` import the library."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.source import Position, Span, position_at
from optio.model.route import Route

Node = Any
PROPERTIES = re.compile(r"(?:[&!]\S*\s+)+")
_ANCHOR = re.compile(r"(?:!\S*\s+)?&([^\s,\[\]{}]+)")
OTHER_BREAKS = re.compile("[\x85\u2028\u2029]")


def child(node: Node, step: str | int) -> tuple[Node, Node | None] | None:
    """Return the node below a key or an index with its key node, or None. Merged entries (`<<`) come after the mapping's
    own."""
    if node.id == "sequence" and isinstance(step, int):
        return (node.value[step], None) if 0 <= step < len(node.value) else None
    if node.id != "mapping":
        return None
    merged_nodes: list[Node] = []
    for key, value in node.value:
        if key.id == "scalar":
            if key.value == step:
                return value, key
            if key.value == "<<" and not key.style:
                merged_nodes += value.value if value.id == "sequence" else [value]
    return next((place for part in merged_nodes if (place := child(part, step)) is not None), None)


def node_at(root: Node, route: Route) -> Node:
    """Return the node at the end of a route, or None."""
    node = root
    for step in route:
        place = child(node, step)
        if place is None:
            return None
        node = place[0]
    return node


def span_of(node: Node, text: str) -> Span:
    """Return the span of a node, without its anchor and tag."""
    start, end = node.start_mark, node.end_mark
    if text[start.index : start.index + 1] in ("&", "!"):
        properties = PROPERTIES.match(text, start.index)
        if properties and properties.end() < end.index:
            return _clip(text, properties.end(), end.index, node)
    if start.line == end.line and (text.isascii() or not OTHER_BREAKS.search(text, 0, start.index)):
        return Span(Position(start.line + 1, start.column + 1), Position(end.line + 1, end.column + 1))
    return _clip(text, start.index, end.index, node)


def _clip(text: str, start: int, end: int, node: Node) -> Span:
    """Shorten the span of a block value to its first line, because its end mark is where the next key starts."""
    line_end = text.find("\n", start)
    block = node.style in ("|", ">") if node.id == "scalar" else not getattr(node, "flow_style", False)
    if block and 0 <= line_end < end:
        end = line_end
    return Span(position_at(text, start), position_at(text, end))


def walk(node: Node, route: Route) -> Iterator[tuple[Route, Node]]:
    """Yield every node below with its route, itself first; aliases are followed."""
    yield route, node
    if node.id == "sequence":
        for index, item in enumerate(node.value):
            yield from walk(item, (*route, index))
    elif node.id == "mapping":
        for key, value in node.value:
            if key.id != "scalar":
                continue
            if key.value == "<<" and not key.style:
                for part in value.value if value.id == "sequence" else [value]:
                    yield from walk(part, route)
            else:
                yield from walk(value, (*route, key.value))


def alias_inside(node: Node, text: str) -> Span:
    """Return the span of the first alias of this node's anchor inside the node."""
    anchor = _ANCHOR.match(text, node.start_mark.index)
    alias = anchor and re.compile(rf"\*{re.escape(anchor[1])}(?=[\s,\[\]{{}}:]|\Z)").search(text, anchor.end())
    if not alias:
        return span_of(node, text)
    return Span(position_at(text, alias.start()), position_at(text, alias.end()))


def short_tag(tag: str) -> str:
    """Return a tag as people write it, such as `!!str`."""
    return tag.replace("tag:yaml.org,2002:", "!!", 1)
