"""Document symbols: the outline of a file as the editor lists it."""

from dataclasses import dataclass, field

from optio.lsp.outline import OutlineEntry, ValueStyle
from optio.lsp.pages import OpenPage

_MAX_SYMBOLS = 2_000
_MAX_NAME_LENGTH = 80


@dataclass(slots=True)
class Symbol:
    """A key or item with its children; offsets of its whole text and of its name."""

    name: str
    detail: str
    start: int
    end: int
    name_end: int
    below: list["Symbol"] = field(default_factory=list)
    is_item: bool = False


def symbols(page: OpenPage) -> list[Symbol]:
    """Return the top-level symbols of a file, nested as its values are."""
    top: list[Symbol] = []
    by_route: dict[tuple[str | int, ...], Symbol] = {}
    for entry in page.entries[:_MAX_SYMBOLS]:
        symbol = _symbol(page, entry)
        parent = by_route.get(entry.route[:-1])
        (top if parent is None else parent.below).append(symbol)
        by_route[entry.route] = symbol
    for symbol_at_top in top:
        _extend_to_children(symbol_at_top)
    return top


def _symbol(page: OpenPage, entry: OutlineEntry) -> Symbol:
    detail = page.scalar(entry)[:_MAX_NAME_LENGTH] if entry.kind is ValueStyle.SCALAR else ""
    step, end = entry.route[-1], max(entry.end, entry.stop)
    if isinstance(step, str):
        return Symbol(step or "''", detail, entry.start, end, entry.end)
    name = page.written((*entry.route, "type")) or detail or str(step + 1)
    return Symbol(name, "", entry.start, end, entry.end, is_item=True)


def _extend_to_children(symbol: Symbol) -> None:
    for child in symbol.below:
        _extend_to_children(child)
        symbol.end = max(symbol.end, child.end)
