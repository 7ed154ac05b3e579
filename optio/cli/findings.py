"""How findings look in a terminal."""

from collections.abc import Iterable, Iterator
from typing import Any

from optio.cli import show
from optio.model.finding import ERROR, OK, WARNING, Finding

_MARKS = {OK: ("ok", "32"), WARNING: ("warn", "33"), ERROR: ("FAIL", "31")}


def lines(found: Iterable[Finding]) -> Iterator[str]:
    """One line each, and one for its cure, as soon as it is found."""
    for each in found:
        word, colour = _MARKS[each.status]
        yield f"{show.coloured(f'{word:<4}', colour)}  {each.name:<12}  {show.safe(each.detail)}"
        if each.hint:
            yield f"{'':<4}  {'':<12}  -> {show.safe(each.hint)}"


def as_json(found: Iterable[Finding]) -> list[dict[str, Any]]:
    """For programs."""
    return [{"name": each.name, "status": each.status, "detail": each.detail, "hint": each.hint} for each in found]
