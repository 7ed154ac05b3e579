"""Parameters of a task: where each is declared, supplied and used."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source import Span
from optio.lsp.outline import OutlineEntry, ValueStyle
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route
from optio.model.trigger import ManualTrigger

PROPERTIES: Route = ("paramsSchema", "properties")
REQUIRED: Route = ("paramsSchema", "required")
_OPEN_PLACEHOLDER = re.compile(r"\{\{[ \t]*([A-Za-z0-9_]*)\Z")


class ParamUse(NamedTuple):
    """A parameter's name at `start:end` of a text; `declares` for its declaration."""

    name: str
    start: int
    end: int
    declares: bool = False


def uses(text: str, entries: list[OutlineEntry]) -> Iterator[ParamUse]:
    """Yield every parameter name in a task file, in no particular order."""
    for entry in entries:
        route = entry.route
        if route[:-1] == PROPERTIES:
            yield ParamUse(str(route[-1]), entry.start, entry.end, declares=True)
        elif route[:-1] == REQUIRED and entry.kind is ValueStyle.SCALAR:
            yield _scalar(text, entry)
        elif _is_given(route):
            yield ParamUse(str(route[-1]), entry.start, entry.end)
        elif (route == ("promptTemplate",) or route == ("dedupe", "key")) and entry.kind is not ValueStyle.NONE:
            yield from placeholders(text, entry.value, entry.stop)


def _is_given(route: Route) -> bool:
    """Return whether the key supplies a parameter: in a trigger's mapping, or in a test."""
    if route[:1] == ("triggers",):
        return route[2:-1] == ("config", "paramMapping")
    return route[:1] == ("tests",) and route[2:-1] in (("params",), ("expect", "params"))


def _scalar(text: str, entry: OutlineEntry) -> ParamUse:
    start, end = entry.value, entry.stop
    if text[start : start + 1] in "\"'" and end - start > 1:
        start, end = start + 1, end - 1
    return ParamUse(text[start:end], start, end)


def placeholders(text: str, start: int, end: int) -> Iterator[ParamUse]:
    """Yield the parameters named in `{{...}}` between two offsets."""
    for match in PLACEHOLDER.finditer(text, start, end):
        yield ParamUse(match[1], match.start(1), match.end(1))


def use_at(uses: Iterator[ParamUse], offset: int) -> ParamUse | None:
    """Return the use at an offset, braces included."""
    return next((use for use in uses if use.start - 2 * (not use.declares) <= offset <= use.end + 1), None)


def open_placeholder(text: str, offset: int) -> str | None:
    """Return the part of a placeholder typed before an offset, or None outside of one."""
    match = _OPEN_PLACEHOLDER.search(text[max(0, offset - 200) : offset])
    return None if match is None else match[1]


def declared_params(task: ResolvedTask) -> dict[str, Any]:
    """Return the schemas of the declared parameters by name."""
    properties = (task.spec.params_schema or {}).get("properties")
    return dict(properties) if isinstance(properties, dict) else {}


def required_params(task: ResolvedTask) -> list[str]:
    """Return the names that the task's `paramsSchema` lists as required, in its order; what is not text is passed over."""
    names = (task.spec.params_schema or {}).get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def param_sources(task: ResolvedTask, name: str) -> list[tuple[str, Any]]:
    """Return (trigger type, path or value) for each trigger that supplies the parameter."""
    return [
        (str(trigger.type), mapping[name])
        for trigger in task.spec.triggers
        if not isinstance(trigger, ManualTrigger) and name in (mapping := trigger.config.param_mapping or {})
    ]


def declaration(task: ResolvedTask, name: str) -> tuple[str, Span] | None:
    """Return the file and span where the parameter is declared, possibly in a template; None if it is not."""
    route = (*PROPERTIES, name)
    if name not in declared_params(task):
        return None
    return task.document.path_at(route), task.document.key_span(route)
