"""The results of `optio doctor` and `optio db check` as text and as JSON."""

from collections.abc import Iterable, Iterator
from typing import Any

from optio.cli.shared import render_run
from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult

_MARKS = {OK: ("ok", "32"), WARNING: ("warn", "33"), ERROR: ("FAIL", "31")}


def lines(found: Iterable[ProbeResult]) -> Iterator[str]:
    """Yield a line for each result as soon as it is there, and a line for its cure."""
    for each in found:
        word, colour = _MARKS[each.status]
        yield f"{render_run.coloured(f'{word:<4}', colour)}  {each.name:<12}  {render_run.safe(each.detail)}"
        if each.hint:
            yield f"{'':<4}  {'':<12}  -> {render_run.safe(each.hint)}"


def as_json(found: Iterable[ProbeResult]) -> list[dict[str, Any]]:
    """Return the results as JSON objects."""
    return [{"name": each.name, "status": each.status, "detail": each.detail, "hint": each.hint} for each in found]
