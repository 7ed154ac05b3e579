"""Mutants of a task: one thing of what it makes of a delivery, a time or parameters is changed, as a slip would change it."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from optio.compiler.resolved_task import ResolvedTask
from optio.model.mapping import compile_path
from optio.model.prompt import PLACEHOLDER
from optio.model.route import value_at
from optio.model.spec import to_json
from optio.model.task import TaskSpec

Change = Callable[[dict[str, Any]], object]
_QUOTED = re.compile(r"'([^']*)'")


class Mutant(NamedTuple):
    """What was changed, and the task with the change."""

    name: str
    task: ResolvedTask


def mutants(task: ResolvedTask) -> Iterator[Mutant]:
    """All of them."""
    document = to_json(task.spec, defaults=False)
    for name, change in _changes(task, document):
        changed = copy.deepcopy(document)
        change(changed)
        yield Mutant(f"{task.id}: {name}", replace(task, spec=TaskSpec.of(changed)))
    for found in PLACEHOLDER.finditer(task.prompt):
        without = task.prompt[: found.start()] + task.prompt[found.end() :]
        yield Mutant(f"{task.id}: prompt without {found[0]}", replace(task, prompt=without))


def _changes(task: ResolvedTask, document: dict[str, Any]) -> Iterator[tuple[str, Change]]:
    for index, trigger in enumerate(document.get("triggers", [])):
        config = trigger.get("config", {})
        at = ("triggers", index, "config")
        yield from _of_mapping(task, at, config.get("paramMapping", {}), trigger["type"])
        if trigger["type"] == "webhook":
            yield from _of_filters(at, config)
        if trigger["type"] == "schedule":
            yield from _of_times(at, config)
    schema = document.get("paramsSchema", {})
    for name, sub in schema.get("properties", {}).items():
        if "default" in sub:
            where = ("paramsSchema", "properties", name)
            yield f"default of {name} dropped", _dropped(where, "default")
            yield f"default of {name} changed", _set(where, "default", _other(sub["default"]))
    for name in schema.get("required", []):
        rest = [each for each in schema["required"] if each != name]
        yield f"{name} not required", _set(("paramsSchema",), "required", rest)


def _of_mapping(task: ResolvedTask, at: tuple[Any, ...], mapping: dict[str, Any], kind: str) -> Iterator[tuple[str, Change]]:
    where = (*at, "paramMapping")
    for name, source in mapping.items():
        yield f"{kind} mapping of {name} dropped", _dropped(where, name)
        is_path = kind == "webhook" and isinstance(source, str)
        sources = _other_paths(task, source) if is_path else [_other(source), [source], {"wrapped": source}]
        sources += [other for key, other in mapping.items() if key != name]
        for other in sources:
            yield f"{kind} mapping of {name}: {source} -> {other}", _set(where, name, other)


def _other_paths(task: ResolvedTask, source: str) -> list[Any]:
    """Siblings, what is above, what is absent, and a list."""
    steps = compile_path(source).steps
    assert steps, source
    found = {"$.nothing_of_the_kind", f"{source}.absent", _path(*steps[:-1]) if steps[1:] else "$", f"{_path(*steps[:-1])}[*]"}
    for sample in task.samples:
        parent = value_at(sample.payload, steps[:-1])
        found |= {_path(*steps[:-1], key) for key in (parent if isinstance(parent, dict) else ()) if key != steps[-1]}
    return [*sorted(found), {"literal": source}]


def _path(*steps: str | int) -> str:
    return "$" + "".join(f"[{json.dumps(step)}]" for step in steps)


def _of_filters(at: tuple[Any, ...], config: dict[str, Any]) -> Iterator[tuple[str, Change]]:
    if "secret" in config:
        yield "secret dropped", _dropped(at, "secret")
    if "events" in config:
        events = config["events"]
        yield "events dropped", _dropped(at, "events")
        yield "event added", _set(at, "events", [*events, "ping"])
        for event in events:
            yield f"event {event} dropped", _set(at, "events", [each for each in events if each != event])
            yield f"event {event} changed", _set(at, "events", [_other(each) if each == event else each for each in events])
    if "when" in config:
        when = config["when"]
        yield "when dropped", _dropped(at, "when")
        yield "when negated", _set(at, "when", f"!({when})")
        for found in _QUOTED.finditer(when):
            other = f"{when[: found.start()]}'{_other(found[1])}'{when[found.end() :]}"
            yield f"when {when} -> {other}", _set(at, "when", other)
        for operator, instead in (("==", "!="), ("!=", "=="), ("&&", "||"), ("||", "&&")):
            for found in re.finditer(re.escape(operator), when):
                other = when[: found.start()] + instead + when[found.end() :]
                yield f"when {when} -> {other}", _set(at, "when", other)


def _of_times(at: tuple[Any, ...], config: dict[str, Any]) -> Iterator[tuple[str, Change]]:
    expression = config["cronExpression"]
    minute, hour, rest = expression.split(" ", 2)
    for other in (f"{(int(minute) + 5) % 60} {hour} {rest}", f"{minute} {(int(hour) + 1) % 24} {rest}"):
        yield f"cron {expression} -> {other}", _set(at, "cronExpression", other)
    if "timezone" in config:
        yield "timezone dropped", _dropped(at, "timezone")
        yield "timezone changed", _set(at, "timezone", "Asia/Tokyo")


def _other(value: Any) -> Any:
    """One of the same type."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}x" if isinstance(value, str) else None


def _dropped(where: tuple[Any, ...], key: str) -> Change:
    return lambda document: value_at(document, where).pop(key)


def _set(where: tuple[Any, ...], key: str, value: Any) -> Change:
    return lambda document: value_at(document, where).update({key: value})
