"""The results of `optio doctor` and `optio db check` as text and as JSON."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from optio.cli.shared import render_run
from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult

_MARKS = {OK: ("ok", "32"), WARNING: ("warn", "33"), ERROR: ("FAIL", "31")}


def lines(results: Iterable[ProbeResult]) -> Iterator[str]:
    """Yield a line for each result as soon as it is there, then its cure, and the command to type where there is one."""
    for result in results:
        word, colour = _MARKS[result.status]
        yield f"{render_run.coloured(f'{word:<4}', colour)}  {result.name:<12}  {render_run.safe(result.detail)}"
        if result.hint:
            yield f"{'':<4}  {'':<12}  -> {render_run.safe(result.hint)}"
        if result.command:
            yield f"{'':<4}  {'':<12}  $ {render_run.safe(result.command)}"


def groups(results: Sequence[ProbeResult]) -> Iterator[str]:
    """Yield the results by what to do about them: errors first, then warnings, then what is fine in one line."""
    for status, heading in ((ERROR, "Fix this first:"), (WARNING, "Then look at this:")):
        members = [result for result in results if result.status == status]
        if members:
            yield heading
            yield from lines(members)
            yield ""
    good = list(dict.fromkeys(result.name for result in results if result.status == OK))
    yield f"{render_run.coloured('ok  ', '32')}  {', '.join(good) or 'nothing'} (-v says more)"


def as_json(results: Iterable[ProbeResult]) -> list[dict[str, Any]]:
    """Return the results as JSON objects."""
    return [asdict(result) for result in results]
