"""The results of `optio doctor` and `optio db check` as text and as JSON."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from optio.cli.shared import render_run
from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult

_MARKS = {OK: ("ok", "32"), WARNING: ("warn", "33"), ERROR: ("FAIL", "31")}
_PROGRAMS = r"(?:optio|pip|npm|chmod|kubectl|sysctl|export|unset|openssl|apt-get)"
_COMMAND = re.compile(rf"{_PROGRAMS} .+|.*?`({_PROGRAMS} [^`]+)`.*", re.S)


def lines(found: Iterable[ProbeResult]) -> Iterator[str]:
    """Yield a line for each result as soon as it is there, then its cure, and the command to type where there is one."""
    for each in found:
        word, colour = _MARKS[each.status]
        yield f"{render_run.coloured(f'{word:<4}', colour)}  {each.name:<12}  {render_run.safe(each.detail)}"
        command = command_of(each)
        if each.hint and each.hint != command:
            yield f"{'':<4}  {'':<12}  -> {render_run.safe(each.hint)}"
        if command:
            yield f"{'':<4}  {'':<12}  $ {render_run.safe(command)}"


def groups(found: Sequence[ProbeResult]) -> Iterator[str]:
    """Yield the results by what to do about them: errors first, then warnings, then what is fine in one line."""
    for status, heading in ((ERROR, "Fix this first:"), (WARNING, "Then look at this:")):
        some = [each for each in found if each.status == status]
        if some:
            yield heading
            yield from lines(some)
            yield ""
    good = list(dict.fromkeys(each.name for each in found if each.status == OK))
    yield f"{render_run.coloured('ok  ', '32')}  {', '.join(good) or 'nothing'} (-v says more)"


def command_of(result: ProbeResult) -> str | None:
    """Return the command that cures, or shows more: the result's own, or the one in its hint."""
    if result.command is not None or result.hint is None or result.status == OK:
        return result.command
    match = _COMMAND.fullmatch(result.hint)
    return None if match is None else match[1] or match[0]


def as_json(found: Iterable[ProbeResult]) -> list[dict[str, Any]]:
    """Return the results as JSON objects."""
    return [
        {"name": each.name, "status": each.status, "detail": each.detail, "hint": each.hint, "command": command_of(each)}
        for each in found
    ]
