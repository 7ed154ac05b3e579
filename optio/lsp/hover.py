"""Hover: the Markdown shown for the key, value or parameter under the pointer."""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from optio.compiler.checks.deliveries import dry_run
from optio.compiler.emit import emit
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.rules.codes import RULES
from optio.lsp import keys, outline, params, task_connections
from optio.lsp.markdown import code_block, inline_code
from optio.lsp.outline import OutlineEntry, ValueStyle
from optio.lsp.pages import OpenPage
from optio.model import money
from optio.model.mapping import MappingFailed, PathSyntax, compile_path
from optio.model.params import apply_defaults
from optio.model.prompt import MAX_PROMPT_LENGTH, length, placeholders, render
from optio.scheduling import cron, max_fires
from optio.scheduling.calendar import fires
from optio.testing.trial import ImpossibleTest, try_example

_FIRES_SHOWN = 5
_PROMPTS = (("promptTemplate",), ("promptFile",))
_WEBHOOK_KEYS = ("scheme", "events", "when", "paramMapping")


class Hover(NamedTuple):
    """Markdown, and the offsets of the text that it describes."""

    text: str
    start: int
    end: int


def hover(page: OpenPage, offset: int, now: datetime) -> Hover | None:
    """Return the hover for an offset of a task file, or of a prompt's own file; None if there is nothing to say. `now` is the
    time from which the next fires are listed."""
    if not page.is_yaml:
        return _prompt_hover(page, offset)
    use = params.use_at(params.uses(page.text, page.entries), offset)
    task = page.task
    if use is not None and task is not None:
        text = _parameter(task, use.name)
        if text:
            return Hover(_join_parts([text, *_rules(page, offset)]), use.start, use.end)
    entry = outline.entry_at(page.entries, offset)
    if entry is None or not isinstance(entry.route[-1], str | int):
        return None
    on_key = entry.start <= offset <= entry.end
    parts = list(_entry_parts(page, entry, on_key=on_key, now=now))
    parts += _rules(page, offset)
    if not parts:
        return None
    return Hover(_join_parts(parts), entry.start if on_key else entry.value, entry.end if on_key else entry.stop)


def _join_parts(parts: list[str]) -> str:
    return "\n\n".join(parts)


def _entry_parts(page: OpenPage, entry: OutlineEntry, *, on_key: bool, now: datetime) -> Iterator[str]:
    schemas = keys.schemas_at(keys.schema_kind(page.path), entry.route, page.written)
    if on_key and isinstance(entry.route[-1], str) and schemas:
        yield keys.key_markdown(entry.route[-1], schemas[0])
    if not on_key and schemas and entry.kind is ValueStyle.SCALAR:
        text = page.scalar(entry)
        for choice in keys.allowed_values(schemas[0]):
            if choice.text == text and choice.meaning:
                yield f"`{choice.text}`: {choice.meaning}"
    name = task_connections.name_at(page, entry.route) if not on_key and keys.schema_kind(page.path) == "task" else None
    connection = None if name is None else task_connections.connection_of(page, name)
    if connection is not None:
        yield task_connections.describe(connection)
    if page.task is not None:
        yield from _task_parts(page, page.task, entry, on_key=on_key, now=now)


def _task_parts(page: OpenPage, task: ResolvedTask, entry: OutlineEntry, *, on_key: bool, now: datetime) -> Iterator[str]:
    """Yield what the task does with the value at a key: fires, cost, prompt, deliveries."""
    route = entry.route
    if route[-1] == "cronExpression":
        yield _schedule(task, page.scalar(entry), _zone(task), now)
    elif route == ("budgetUsd",):
        yield _worst_case_text(task)
    elif on_key and route in _PROMPTS:
        yield _rendered(page, task)
    elif on_key and len(route) == 4 and route[3] in _WEBHOOK_KEYS and task.spec.webhook is not None:
        numbers = dry_run(task, task.spec.webhook.config)
        yield "" if numbers is None else f"By what the sender publishes, {numbers.text}."
    elif not on_key and len(route) == 5 and route[3] == "paramMapping":
        yield from _sample_values(task, page.scalar(entry))


def _zone(task: ResolvedTask) -> str:
    return task.spec.schedule.config.timezone if task.spec.schedule is not None else "UTC"


def _schedule(task: ResolvedTask, expression: str, zone: str, now: datetime) -> str:
    """Return the schedule in words, and its next fires on the clock of its zone."""
    try:
        head = f"{cron.explain(expression)} ({zone})"
        coming = list(islice(fires(expression, zone, now), _FIRES_SHOWN))
    except (cron.CronError, KeyError, ValueError, OSError):
        return f"invalid cron expression {inline_code(expression)}"
    lines = (f"- {fire.at:%a %Y-%m-%d %H:%M %Z}" + (f": {fire.note}" if fire.note else "") for fire in coming)
    return "\n".join([head, "", *lines])


def _worst_case_text(task: ResolvedTask) -> str:
    """Return the most that a run may cost, and the most that its triggers may cost in 30 days."""
    spec = task.spec
    run, call = money.max_run_usd(spec), money.max_call_usd(spec)
    if run is None:
        return ""
    over = f": its budget, and one call of the model at ${call}" if call else ""
    lines = [f"A run costs ${run} at most, with all its retries{over}."]
    schedule = spec.schedule.config if spec.schedule is not None and spec.schedule.enabled else None
    count = 0
    if schedule is not None:
        try:
            count = max_fires.max_fires(schedule.cron_expression, schedule.timezone, money.MONTH.days)
        except (cron.CronError, KeyError, ValueError, OSError):
            return lines[0]
    worst = money.worst_case(spec, fires=count, over=money.MONTH)
    if worst.runs:
        by = "all its triggers, bounded by `startLimit`" if worst.limited else "its schedule"
        lines.append(f"- in any 30 days: {worst.runs:,} {_runs(worst.runs)}, ${worst.usd:,} at most, by {by}")
    if worst.lacks is not None:
        lines.append(f"- by its webhook: any number of runs; add `{worst.lacks}` to bound them")
    return "\n".join(lines)


def _runs(count: int) -> str:
    return "run" if count == 1 else "runs"


def _rendered(page: OpenPage, task: ResolvedTask) -> str:
    """Return the prompt of a run: rendered by the first test that can run, else with defaults alone."""
    compiled = emit(task)
    for example in task.spec.tests:
        body = None if example.webhook is None else page.beside(example.webhook)
        try:
            decision = try_example(compiled, example, body).judgement
        except (ImpossibleTest, ValueError, KeyError, OSError):
            continue
        if decision.prompt is not None:
            return f"The prompt, as the test {inline_code(example.label)} makes it:\n\n{code_block(decision.prompt)}"
    params = apply_defaults(task.spec.params_schema, {})
    if length(task.prompt, params) > MAX_PROMPT_LENGTH:
        params = {}
    left = [name for name in placeholders(task.prompt) if name not in params]
    manner = "with its defaults" if params else "as it stands"
    missing = f"; a run gives {', '.join(inline_code(name) for name in left)}" if left else ""
    return f"The prompt, {manner}{missing}:\n\n{code_block(render(task.prompt, params))}"


def _parameter(task: ResolvedTask, name: str) -> str:
    """Return the declaration of a parameter, and the triggers that supply it."""
    declaration = params.declared_params(task)
    if name not in declaration:
        return ""
    schema = declaration[name] if isinstance(declaration[name], dict) else {}
    kind = schema.get("type")
    notes = [str(kind)] if isinstance(kind, str) else []
    if name in params.required_params(task):
        notes.append("required")
    lines = [f"**`{name}`**" + (f": {', '.join(notes)}" if notes else "")]
    if isinstance(schema.get("description"), str):
        lines += ["", schema["description"]]
    lines.append("")
    if "default" in schema:
        lines.append(f"- default: {inline_code(_json(schema['default']))}")
    for trigger, source in params.param_sources(task, name):
        lines.append(f"- from the {trigger}: {inline_code(source if isinstance(source, str) else _json(source))}")
    rest = {key: value for key, value in schema.items() if key not in ("type", "description", "default")}
    if rest:
        lines.append(f"- {inline_code(_json(rest))}")
    return "\n".join(lines).rstrip()


def _sample_values(task: ResolvedTask, source: str) -> Iterator[str]:
    """Yield the values that a path finds in the payloads of the task's own tests."""
    if not source.startswith("$"):
        return
    try:
        path = compile_path(source)
    except PathSyntax:
        return
    for sample in task.samples:
        try:
            values = path.values(sample.payload)
        except MappingFailed:
            continue
        if not values and path.singular:
            yield f"In {inline_code(sample.path)} it finds nothing."
        else:
            yield f"In {inline_code(sample.path)} it finds {inline_code(_json(values[0] if path.singular else values))}"


def _rules(page: OpenPage, offset: int) -> list[str]:
    """Return the reasons for the findings at this place."""
    at = page.lines.position(offset)
    diagnostics = [
        diagnostic for diagnostic in (*page.alone, *page.shared) if diagnostic.span.start <= at <= diagnostic.span.end
    ]
    return [
        f"`{code}` {RULES[code].title}. {RULES[code].why}"
        for code in dict.fromkeys(diagnostic.code for diagnostic in diagnostics)
    ]


def _prompt_hover(page: OpenPage, offset: int) -> Hover | None:
    use = params.use_at(params.placeholders(page.text, 0, len(page.text)), offset)
    if use is None:
        return None
    found = [(task.path, text) for task in page.users() if (text := _parameter(task, use.name))]
    parts = [text if len(found) == 1 else f"{inline_code(path)}\n\n{text}" for path, text in found]
    return Hover(_join_parts(parts), use.start, use.end) if parts else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
