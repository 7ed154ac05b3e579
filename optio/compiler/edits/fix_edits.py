"""Fixes that insert or delete one whole key or list item and leave the text around it unchanged."""

from optio.compiler.diagnostics import Edit, Fix
from optio.compiler.layers import MergedDocument
from optio.compiler.source import Position, Span
from optio.compiler.yaml.document import Document
from optio.model.route import Route


def insert_key_before(document: Document | MergedDocument, route: Route, text: str, *, safe: bool = True) -> Fix | None:
    """Return a fix that inserts `text`, a key with its value, before the key at the route, or None if that key is not in the
    file."""
    layer, own_route = document.written(route)
    if not layer.has(own_route):
        return None
    start = layer.key_span(own_route).start
    after = ", " if layer.is_flow(own_route[:-1]) else "\n" + " " * (start.column - 1)
    return Fix((Edit(Span(start, start), text + after),), safe)


def delete_key(document: Document | MergedDocument, route: Route, *, safe: bool = True) -> Fix | None:
    """Return a fix that deletes a key with its line. Returns None if the line holds something else, or the value has further
    lines."""
    layer, own_route = document.written(route)
    if not layer.has(own_route) or layer.is_flow(own_route[:-1]):
        return None
    key, value = layer.key_span(own_route), layer.span(own_route)
    line = _line(layer, key.start.line)
    if line[: key.start.column - 1].strip() or value.end.line != key.start.line:
        return None
    return Fix((Edit(_whole(layer, key.start.line), ""),), safe)


def delete_item(document: Document | MergedDocument, route: Route, *, safe: bool = True) -> Fix | None:
    """Return a fix that deletes a list item, with its comma or its line. Returns None for the first item, which has no comma
    before it, for an alias, and for an item of several lines."""
    layer, own_route = document.written(route)
    *parent, index = own_route
    if not layer.has(own_route) or not isinstance(index, int) or index == 0:
        return None
    span = layer.span(own_route)
    before = layer.span((*parent, index - 1)).end
    if before > span.start:
        return None  # an alias, whose text stands elsewhere
    if layer.is_flow(tuple(parent)):
        return Fix((Edit(Span(before, span.end), ""),), safe)
    if span.end.line != span.start.line or _line(layer, span.start.line)[: span.start.column - 1].strip() != "-":
        return None
    return Fix((Edit(_whole(layer, span.start.line), ""),), safe)


def _line(document: Document, number: int) -> str:
    return document.text.split("\n", number)[number - 1]


def _whole(document: Document, number: int) -> Span:
    """Return the span of a line with its line end, if it has one."""
    if document.text.count("\n") >= number:
        return Span(Position(number, 1), Position(number + 1, 1))
    return Span(Position(number, 1), Position(number, len(_line(document, number)) + 1))
