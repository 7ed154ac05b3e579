"""Check schedules: the cron expression, the time zone, and the parameters of the runs that they start."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from optio.compiler.checks.mapped_names import MappedNames, compare_names, report_unknown
from optio.compiler.checks.zone_names import ABBREVIATIONS, MACHINE_ZONES, suggest_zone
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source import Span
from optio.model.params import apply_defaults, iter_faults
from optio.model.route import Route, show, value_at
from optio.model.trigger import ScheduleTrigger

if TYPE_CHECKING:
    from optio.scheduling.cron import CronError

EXAMPLE = "0 9 * * 1"
_FIELDS = "minute, hour, day of month, month, day of week"
RANGES = ("minute is 0-59", "hour is 0-23", "day of month is 1-31", "month is 1-12 or JAN-DEC", "day of week is 0-7 or SUN-SAT")
# A word for a schedule that never fires, or only once.
_NO_TIMES = frozenset({"none", "null", "never", "off", "disabled", "manual", "false", "once", "no", "reboot", "startup"})
# What cron cannot say: days before the last one, the weekday nearest to a day, and seconds.
_NOT_IN_CRON = r"(?i)(?<!\S)L-\d|\dW(?!\S)|\d ?s(?:ec\w*)?\b|\bsec"
# Templates that other systems fill in when a run begins.
_TEMPLATE = r"\$?\{\{[^{}\n]{1,100}\}\}|\{%[^%{}\n]{1,100}%\}|\$\{[^{}\n]{1,100}\}|\$\([^()\n]{1,100}\)"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of every schedule of the task, including a superfluous one."""
    for index, trigger in enumerate(task.spec.triggers):
        if isinstance(trigger, ScheduleTrigger):
            route: Route = ("triggers", index, "config")
            if task.is_known((*route, "cronExpression")):
                yield from _expression(task, (*route, "cronExpression"), trigger.config.cron_expression)
            yield from _zone(task, (*route, "timezone"), trigger.config.timezone)
            yield from _params(task, (*route, "paramMapping"), trigger.config.param_mapping)


def _expression(task: ResolvedTask, route: Route, expression: str) -> Iterator[Diagnostic]:
    # Imported here: a tree without schedules does not pay for it.
    from optio.scheduling.cron import CronError, check_expression, expand

    try:
        check_expression(expression)
    except CronError as err:
        yield _cron_error(task, route, expression, err)
        return
    minute, hour, day, month, weekday = expand(expression).split()
    if day in ("*", "?") or weekday in ("*", "?"):
        return
    message = f"`{expression}` fires on day {day} of the month and also on weekday {weekday}"
    if day[0] in "*?" or weekday[0] in "*?":
        message = f"`{expression}` fires where `{day}` of the month and weekday `{weekday}` both match"
        message += "; in Kubernetes, where either matches"
    days, weekdays = f"`{minute} {hour} {day} {month} *`", f"`{minute} {hour} * {month} {weekday}`"
    hint = f"write {days} for the days of the month, {weekdays} for the weekdays; or keep it if that is intended"
    yield task.at("OPT304", message, route, hint=hint)


def _cron_error(task: ResolvedTask, route: Route, expression: str, err: "CronError") -> Diagnostic:
    from optio.compiler.conversions.cron_suggestions import suggest_cron  # imported only for a file with a mistake

    words, suggestion = expression.split(), suggest_cron(expression)
    if suggestion is not None and suggestion.zone is not None:
        hint = f"write `{suggestion.expression}`, and `timezone: {suggestion.zone}` beside it"
        return task.at("OPT301", f"`{expression}` holds a time zone", route, hint=hint)
    better = None if suggestion is None or re.search(_NOT_IN_CRON, expression) else suggestion.expression
    if err.field is None or len(words) != len(RANGES):
        return _not_five_fields(task, route, expression, better)
    field, span = err.field, field_span(task, route, expression, err.field)
    if err.never:
        hint = "write `L` for the last day of the month, or another day; to switch a trigger off write `enabled: false`"
        return task.at("OPT302", f"`{expression}` never fires: no month has such a day", route, span=span, hint=hint)
    hint = f"{RANGES[field]}, as in `{EXAMPLE}`"
    if words[field].endswith("/0"):
        hint = f"a step is 1 or more, as in `{words[field][:-1]}5`"
    if better is not None:
        hint = f"write `{better}`"
    message = f"bad {RANGES[field].split(' is ')[0]} `{words[field]}`"
    return task.at("OPT301", message, route, span=span, hint=hint, value=better, safe=False)


def _not_five_fields(task: ResolvedTask, route: Route, expression: str, better: str | None) -> Diagnostic:
    count, word = len(expression.split()), expression.strip().lower()
    message = f"`{expression}` has {count} field{'s' * (count != 1)}, not 5"
    hint = f"write five fields, {_FIELDS}, such as `{EXAMPLE}`"
    if word.startswith("@") or word in _NO_TIMES:
        message = f"`{expression}` is not a schedule"
        hint = "write `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, or five fields"
    if word.removeprefix("@") in _NO_TIMES:
        hint = "delete this trigger: a schedule repeats, and `optio run` or a request starts the task without it"
    if better is not None:
        hint = f"write `{better}`"
    return task.at("OPT303" if count in (6, 7) else "OPT301", message, route, hint=hint, value=better, safe=False)


def field_span(task: ResolvedTask, route: Route, expression: str, index: int) -> Span:
    """Return the span of one of the five fields, or of the whole value where a word such as `@daily` stands for all of them."""
    words = expression.split()
    if index >= len(words):
        return task.span(route)
    offset = 0
    for word in words[:index]:
        offset = expression.index(word, offset) + len(word)
    start = expression.index(words[index], offset)
    return task.document.inside(route, start, start + len(words[index]))


def _zone(task: ResolvedTask, route: Route, name: str) -> Iterator[Diagnostic]:
    if name in ABBREVIATIONS:
        hint, zone = suggest_zone(name)
        message = f"`{name}` is an abbreviation and no place: it does not follow the clocks of one"
        yield task.at("OPT306", message, route, hint=hint, value=zone, safe=False)
        return
    try:
        if name in MACHINE_ZONES:
            raise ZoneInfoNotFoundError(name)
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint, zone = suggest_zone(name)
        is_spelling = zone is not None and zone.lower() == name.lower()
        yield task.at("OPT306", f"unknown time zone `{name}`", route, hint=hint, value=zone, safe=is_spelling)


def _params(task: ResolvedTask, route: Route, mapping: dict[str, Any]) -> Iterator[Diagnostic]:
    """Report parameters that the task does not have, those that the schedule does not give, and values that do not fit."""
    parameters = declared_parameters(task)
    if parameters is None or not task.is_known(route):
        return
    names = compare_names(task, parameters, mapping)
    yield from report_unknown(task, "OPT310", route, mapping, names)
    for name in names.absent:
        yield _missing(task, route, parameters, name)
    faults = list(_faults(task, route, mapping, parameters, names))
    yield from faults
    at_faults = [fault.route for fault in faults]
    for name, value in mapping.items():
        text = _unfilled(value)
        if text is not None and (*route, name) not in at_faults:
            message = f"`{name}` holds `{text}` as a text, which is not replaced"
            hint = f"{_value_hint(parameters.properties.get(name))}: a schedule fills nothing in, and has no payload"
            yield task.at("OPT311", message, (*route, name), hint=hint)


def _missing(task: ResolvedTask, route: Route, parameters: DeclaredParameters, name: str) -> Diagnostic:
    from optio.compiler.conversions.entries import fitting_value  # imported only for a file with a mistake

    entry = f"{name}: {fitting_value(parameters.properties.get(name)) or '...'}"
    # Several of them share one `paramMapping`.
    is_only = parameters.missing({}) == [name] and value_at(task.document.value, route) is None
    hint = f"add `paramMapping: {{{entry}}}`" if is_only else f"add `{entry}` under `paramMapping`"
    message = f"the schedule gives no value for `{name}`"
    return task.at("OPT308", message, (*route, name), key=True, hint=f"{hint}, or another value")


def _faults(
    task: ResolvedTask, route: Route, mapping: dict[str, Any], parameters: DeclaredParameters, names: MappedNames
) -> Iterator[Diagnostic]:
    """Report values that would keep every fire from becoming a run. A default that does not fit is reported in the schema."""
    reported = {*names.unknown, *names.absent, *names.misspelt, *parameters.undeclared}
    for place, message, word in iter_faults(parameters.schema, apply_defaults(parameters.schema, mapping)):
        if not place:
            if not reported:
                message = f"the schedule gives no valid parameters: what it gives {message}"
                yield task.at("OPT309", message, route, key=True, hint="give values that fit `paramsSchema`")
        elif len(place) == 1 and word == "required":
            if place[0] not in reported:
                yield _missing(task, route, parameters, str(place[0]))
        elif len(place) == 1 and word == "additionalProperties":
            if names.is_open and place[0] not in reported:
                hint = "delete it, or declare it under `paramsSchema.properties`"
                yield task.at("OPT310", f"`{place[0]}` {message}", route + place, key=True, hint=hint)
        elif place[0] in mapping:
            is_value = word not in ("required", "additionalProperties")
            hint = _fitting(task, route, parameters, mapping, place) if is_value else _value_hint(None)
            yield task.at("OPT309", f"`{show(place)}` {message}", route + place, hint=hint)


def _fitting(task: ResolvedTask, route: Route, parameters: DeclaredParameters, mapping: dict[str, Any], place: Route) -> str:
    """Return the hint for a value that does not fit."""
    from optio.compiler.shape.messages import hint_for_commented_value  # imported only for a file with a mistake

    value, schema = value_at(mapping, place), parameters.schema
    for step in place:
        schema = value_at(schema, ("items",) if isinstance(step, int) else ("properties", step))
    commented = hint_for_commented_value(task.document, route + place) if value is None else None
    return commented or _value_hint(schema, None if _unfilled(value) else value)


def _value_hint(schema: Any, value: Any = None) -> str:
    from optio.compiler.conversions.entries import hint_for_value  # imported only for a file with a mistake

    return hint_for_value(schema, value) or "give a value that fits `paramsSchema`"


def _unfilled(value: object) -> str | None:
    """Return the part of a text that a webhook or another system would fill in."""
    if not isinstance(value, str) or {"{", "(", "$"}.isdisjoint(value):
        return None
    match = re.search(_TEMPLATE, value)
    return value if value.startswith("$.") else match and match[0]
