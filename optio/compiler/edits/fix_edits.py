"""Mending: edits that add or take away a whole key or item, and leave what stands around it as it is."""

from optio.compiler.diagnostics import Edit, Fix
from optio.compiler.layers import MergedDocument
from optio.compiler.source import Position, Span
from optio.compiler.yaml.document import Document
from optio.model.route import Route


def insert_key_before(document: Document | MergedDocument, route: Route, text: str, *, safe: bool = True) -> Fix | None:
    """One more key, `text`, before the one at the route; None when that is not written out."""
    own, there = document.written(route)
    if not own.has(there):
        return None
    start = own.key_span(there).start
    after = ", " if own.is_flow(there[:-1]) else "\n" + " " * (start.column - 1)
    return Fix((Edit(Span(start, start), text + after),), safe)


def delete_key(document: Document | MergedDocument, route: Route, *, safe: bool = True) -> Fix | None:
    """A key goes with its line, where it has one to itself."""
    own, there = document.written(route)
    if not own.has(there) or own.is_flow(there[:-1]):
        return None
    key, value = own.key_span(there), own.span(there)
    line = _line(own, key.start.line)
    if line[: key.start.column - 1].strip() or value.end.line != key.start.line:
        return None
    return Fix((Edit(_whole(own, key.start.line), ""),), safe)


def delete_item(document: Document | MergedDocument, route: Route, *, safe: bool = True) -> Fix | None:
    """An item of a list goes, with its comma or its line; the first one has no comma before it, and stays."""
    own, there = document.written(route)
    *above, index = there
    if not own.has(there) or not isinstance(index, int) or index == 0:
        return None
    span = own.span(there)
    if own.is_flow(tuple(above)):
        return Fix((Edit(Span(own.span((*above, index - 1)).end, span.end), ""),), safe)
    if span.end.line != span.start.line or _line(own, span.start.line)[: span.start.column - 1].strip() != "-":
        return None
    return Fix((Edit(_whole(own, span.start.line), ""),), safe)


def _line(document: Document, number: int) -> str:
    return document.text.split("\n", number)[number - 1]


def _whole(document: Document, number: int) -> Span:
    """A line with its end; of the last one, which may have none, with the end before it."""
    if document.text.count("\n") >= number:
        return Span(Position(number, 1), Position(number + 1, 1))
    return Span(Position(number, 1), Position(number, len(_line(document, number)) + 1))
