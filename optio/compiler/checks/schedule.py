"""Check schedules: the cron expression, the time zone, and the parameters of the runs that they start."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from optio.compiler.checks.zone_names import ABBREVIATIONS, MACHINE_ZONES, suggest_zone
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters, parameter_names
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source import Span
from optio.compiler.suggest import suggest
from optio.compiler.yaml.emit import flow
from optio.model.params import apply_defaults, iter_faults
from optio.model.route import Route, show, value_at
from optio.model.trigger import ScheduleTrigger

if TYPE_CHECKING:
    from optio.scheduling.cron import CronError

_FIELDS = "minute, hour, day of month, month, day of week"
RANGES = ("minute is 0-59", "hour is 0-23", "day of month is 1-31", "month is 1-12 or JAN-DEC", "day of week is 0-7 or SUN-SAT")
# The days of the month on which the first to fourth of a weekday falls.
_WEEKS = {"1-7": "first", "8-14": "second", "15-21": "third", "22-28": "fourth"}
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
# Words of other systems for a start without a time.
_NO_TIMES = frozenset({"none", "null", "never", "off", "disabled", "manual", "false", "once", "no", "reboot", "startup"})
_LIMITS = (
    (r"(?i)(?<!\S)L-\d", ": that is the last day itself, because days before it cannot be counted"),
    (r"(?i)\dW(?!\S)", ": that is the day itself, because the nearest weekday cannot be expressed"),
    (r"(?i)\d ?s(?:ec\w*)?\b|\bsec", ": a schedule fires once a minute at most"),
)
# Templates that other systems fill in when a run begins.
_TEMPLATE = r"\$?\{\{[^{}\n]{1,100}\}\}|\{%[^%{}\n]{1,100}%\}|\$\{[^{}\n]{1,100}\}|\$\([^()\n]{1,100}\)"
# More names than these are no help in a hint.
_MAX_NAMED = 4
# Values of a hint for a parameter whose schema and tests name none.
_PLACEHOLDER_VALUES = ("hello", "example-value", "acme/shop", "a", "A1", "main")


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
    minute, hour, day, month, weekday = fields = expand(expression).split()
    both = f"write `{minute} {hour} {day} {month} *` for the days of the month, "
    both += f"`{minute} {hour} * {month} {weekday}` for the weekdays"
    if day in ("*", "?") or weekday in ("*", "?"):
        return
    if day[0] in "*?" or weekday[0] in "*?":
        message = f"`{expression}` fires where `{day}` of the month and weekday `{weekday}` both match"
        message += "; in Kubernetes, where either matches"
        yield task.at("OPT304", message, route, hint=f"{both}; or keep it if both must match")
        return
    message = f"`{expression}` fires on day {day} of the month and also on weekday {weekday}"
    if day in _WEEKS and re.fullmatch(r"[0-7]|[A-Za-z]{3}", weekday):
        name = next(
            name for at, name in enumerate((*_DAYS, _DAYS[0])) if weekday == str(at) or name.startswith(weekday.capitalize())
        )
        nth = f"{' '.join([*fields[:2], '*', month])} {weekday}#{list(_WEEKS).index(day) + 1}"
        both = f"for the {_WEEKS[day]} {name} of the month write `{nth}`"
    yield task.at("OPT304", message, route, hint=f"{both}; or keep it if either may match")


def _cron_error(task: ResolvedTask, route: Route, expression: str, err: "CronError") -> Diagnostic:
    from optio.compiler.conversions.cron_suggestions import suggest_cron  # imported only for a file with a mistake

    words, suggestion = expression.split(), suggest_cron(expression)
    if suggestion is not None and suggestion.zone is not None:
        hint = f"write `{suggestion.expression}`, and `timezone: {suggestion.zone}` beside it"
        return task.at("OPT301", f"`{expression}` holds a time zone", route, hint=hint)
    better = None if suggestion is None else suggestion.expression
    limit = next((limit for pattern, limit in _LIMITS if re.search(pattern, expression)), "")
    if err.field is None or len(words) != len(RANGES):
        return _not_five_fields(task, route, expression, better, limit)
    field, span = err.field, field_span(task, route, expression, err.field)
    if err.never:
        hint = "write `L` for the last day of the month, or another day; to switch a trigger off write `enabled: false`"
        return task.at("OPT302", f"`{expression}` never fires: no month has such a day", route, span=span, hint=hint)
    message = f"bad {RANGES[field].split(' is ')[0]} `{words[field]}`"
    hint = _in_range(words, field)
    if better is not None:
        is_alone = [word for word in better.split() if word not in words] == [better.split()[field]]
        hint = f"write `{better.split()[field] if is_alone else better}`{limit}"
    return task.at("OPT301", message, route, span=span, hint=hint, value=better, safe=False)


def _not_five_fields(task: ResolvedTask, route: Route, expression: str, better: str | None, limit: str) -> Diagnostic:
    from optio.scheduling.cron import is_sound  # imported only for a file with a schedule

    count, word = len(expression.split()), expression.strip().lower()
    is_word = word.startswith("@") or word in _NO_TIMES
    code = "OPT303" if count in (6, 7) else "OPT301"
    message = f"`{expression}` is not a schedule" if is_word else f"`{expression}` has {count} field{'s' * (count != 1)}, not 5"
    if better is not None:
        hint = f"write `{better}`{limit}"
    elif count == len(RANGES) - 1 and is_sound(f"{expression} *"):
        hint = f"write `{expression} *` for every day of the week; the fields are {_FIELDS}"
    elif word.removeprefix("@") in _NO_TIMES:
        hint = "delete this trigger: a schedule repeats, and `optio run` or a request starts the task without it"
    elif is_word:
        hint = "write `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, or five fields"
    else:
        hint = f"write five fields, {_FIELDS}, such as `0 9 * * 1`"
    return task.at(code, message, route, hint=hint, value=better, safe=False)


def _in_range(words: list[str], field: int) -> str:
    """Return the hint with the field's range and an example of its form. The nearest valid number is no cure: what was meant
    is not known."""
    text = words[field]
    if text.endswith("/0"):
        return f"a step is 1 or more, as in `{text[:-1]}5`"
    if text == "?":
        is_numbered = any(re.match("[1-7]", word) for word in words[4:])
        return "write `*`" + (": `1` is Monday here, where Quartz and Amazon have Sunday" if is_numbered else "")
    from optio.scheduling.cron import is_sound  # imported only for a file with a schedule

    example = " ".join([*words[:field], ("0", "9", "1", "1", "1")[field], *words[field + 1 :]])
    return f"{RANGES[field]}, as in `{example if is_sound(example) else '0 9 * * 1'}`"


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
        hint, known = suggest_zone(name)
        message = f"`{name}` is an abbreviation and no place: it does not follow the clocks of one"
        yield task.at("OPT306", message, route, hint=hint, value=known, safe=False)
        return
    variant, _, plain_name = name.partition("/")
    if variant in ("right", "posix") and plain_name:
        message = f"`{name}` is not a time zone on every machine" + (", and counts leap seconds" if variant == "right" else "")
        yield task.at("OPT306", message, route, hint=f"write `{plain_name}`", value=plain_name, safe=False)
        return
    try:
        if name in MACHINE_ZONES:
            raise ZoneInfoNotFoundError(name)
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint, known = suggest_zone(name)
        is_spelling = known is not None and known.lower() == name.lower()
        yield task.at("OPT306", f"unknown time zone `{name}`", route, hint=hint, value=known, safe=is_spelling)


def _params(task: ResolvedTask, route: Route, mapping: dict[str, Any]) -> Iterator[Diagnostic]:
    """Report parameters that the task does not have, those that the schedule does not give, and values that do not fit."""
    parameters = declared_parameters(task)
    if parameters is None or not task.is_known(route):
        return
    names = parameter_names(task, parameters)
    unknown = [name for name in mapping if names is not None and name not in names]
    absent = parameters.missing(mapping)
    pair = absent[0] if len(unknown) == len(absent) == 1 else None
    similar = {name: suggest(name, names or ()) for name in unknown}
    for name in unknown:
        yield _unknown(task, route, name, mapping, similar[name], pair, sorted((names or set()) - mapping.keys()))
    misspelt = {*similar.values(), pair} if unknown else set()
    for name in absent:
        if name not in misspelt:
            yield _missing(task, route, parameters, name)
    reported = misspelt.union(unknown, absent, parameters.undeclared)
    faults = list(_faults(task, route, mapping, parameters, reported, open_names=names is None))
    yield from faults
    at_faults = [fault.route for fault in faults]
    for name, value in mapping.items():
        text = _unfilled(value)
        if text is not None and (*route, name) not in at_faults:
            is_path = isinstance(value, str) and value.startswith("$.")
            message = (
                f"`{name}` is the text `{text}`, not a path"
                if is_path
                else f"`{name}` holds `{text}` as a text, which is not replaced"
            )
            yield task.at("OPT311", message, (*route, name), hint=_constant(parameters, name))


def _unknown(
    task: ResolvedTask,
    route: Route,
    name: str,
    mapping: dict[str, Any],
    similar: str | None,
    pair: str | None,
    left: list[str],
) -> Diagnostic:
    hint = f"did you mean `{similar or pair}`?"
    if similar is None and pair is None:
        hint = _declare(task, name, mapping)
        if 0 < len(left) <= _MAX_NAMED:
            hint = f"write {' or '.join(f'`{other}`' for other in left)}, which the task has, or {hint}"
    write = similar if similar not in mapping else None
    message = f"`{name}` is not a parameter of this task"
    return task.at("OPT310", message, (*route, name), key=True, hint=hint, write=write, safe=False)


def _missing(task: ResolvedTask, route: Route, parameters: DeclaredParameters, name: str) -> Diagnostic:
    from optio.compiler.conversions.entries import fitting_value  # imported only for a file with a mistake

    tested = next((test.params[name] for test in task.spec.tests if test.params and name in test.params), None)
    value = fitting_value(parameters.properties.get(name), tested)
    note = f", with your own value in the place of `{value}`" if value in _PLACEHOLDER_VALUES else ""
    entry = f"{name}: {value or '...'}"
    # Several of them share one `paramMapping`.
    is_only = parameters.missing({}) == [name] and value_at(task.document.value, route) is None
    hint = f"add `paramMapping: {{{entry}}}`{note}" if is_only else f"add `{entry}` under `paramMapping`{note}"
    return task.at("OPT308", f"the schedule gives no value for `{name}`", (*route, name), key=True, hint=hint)


def _faults(
    task: ResolvedTask,
    route: Route,
    mapping: dict[str, Any],
    parameters: DeclaredParameters,
    reported: set[str | None],
    *,
    open_names: bool,
) -> Iterator[Diagnostic]:
    """Report values that would keep every fire from becoming a run. A default that does not fit is reported in the schema."""
    for place, message, word in iter_faults(parameters.schema, apply_defaults(parameters.schema, mapping)):
        if not place:
            if not reported:
                message = f"the schedule gives no valid parameters: what it gives {message}"
                yield task.at("OPT309", message, route, key=True, hint="give values that fit `paramsSchema`")
        elif len(place) == 1 and word == "required":
            if place[0] not in reported:
                yield _missing(task, route, parameters, str(place[0]))
        elif len(place) == 1 and word == "additionalProperties":
            if open_names and place[0] not in reported:
                hint = _declare(task, str(place[0]), mapping)
                yield task.at("OPT310", f"`{place[0]}` {message}", route + place, key=True, hint=hint)
        elif place[0] in mapping:
            hint, member = _fitting(task, route, parameters, mapping, place, word)
            yield task.at("OPT309", f"`{show(place)}` {message}", route + place, hint=hint, value=member, safe=False)


def _fitting(
    task: ResolvedTask, route: Route, parameters: DeclaredParameters, mapping: dict[str, Any], place: Route, word: str | None
) -> tuple[str, str | None]:
    """Return the hint for a value that does not fit, and the member of an `enum` that it is a misspelling of."""
    # Imported only for a file with a mistake.
    from optio.compiler.conversions.entries import hint_for_value
    from optio.compiler.shape.messages import hint_for_commented_value

    given = value_at(mapping, place)
    member = _member(parameters, place, given) if word == "enum" else None
    if member is not None:
        return f"did you mean `{member}`?", member
    if given is None and (hint := hint_for_commented_value(task.document, route + place)) is not None:
        return hint, None
    if _unfilled(mapping[str(place[0])]) is not None:
        return _constant(parameters, str(place[0])), None
    if isinstance(given, dict) and list(given) in (["literal"], ["value"], ["const"], ["default"]):
        return f"write `{flow(next(iter(given.values())))}`: a schedule's values stand for themselves", None
    schema: Any = parameters.schema
    for step in place:
        schema = value_at(schema, ("items",) if isinstance(step, int) else ("properties", step))
    hint = hint_for_value(schema, given) if word not in ("required", "additionalProperties") else None
    return hint or "give a value that fits `paramsSchema`", None


def _member(parameters: DeclaredParameters, place: Route, given: Any) -> str | None:
    schema = parameters.properties.get(str(place[0])) if len(place) == 1 else None
    if not isinstance(given, str) or not isinstance(schema, dict):
        return None
    members = [member for member in schema.get("enum", ()) if isinstance(member, str)]
    return next((member for member in members if member.casefold() == given.casefold()), suggest(given, members))


def _declare(task: ResolvedTask, name: str, mapping: dict[str, Any]) -> str:
    from optio.compiler.conversions.entries import declaration_hint  # imported only for a file with a mistake

    return f"delete it, or {declaration_hint(task.document.value, name, mapping.get(name))}"


def _unfilled(value: object) -> str | None:
    """Return the part of a text that a webhook or another system would fill in."""
    if not isinstance(value, str) or {"{", "(", "$"}.isdisjoint(value):
        return None
    match = re.search(_TEMPLATE, value)
    return value if value.startswith("$.") else match and match[0]


def _constant(parameters: DeclaredParameters, name: str) -> str:
    from optio.compiler.conversions.entries import fitting_value  # imported only for a file with a mistake

    value = fitting_value(parameters.properties.get(name))
    example = "" if value is None or value in _PLACEHOLDER_VALUES else f", such as `{name}: {value}`"
    return f"write the value itself{example}: a schedule fills nothing in, and has no payload"
