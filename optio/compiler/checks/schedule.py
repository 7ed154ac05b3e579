"""Check schedules: the cron expression, the time zone, and the parameters of the runs that they start."""

import re
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from optio.compiler.checks.zone_names import ABBREVIATIONS, MACHINE_ZONES, suggest_zone
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import ROUTE, DeclaredParameters, declared_parameters, parameter_names
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source import Span
from optio.compiler.suggest import suggest
from optio.compiler.yaml.emit import flow
from optio.model.params import apply_defaults, iter_faults
from optio.model.route import Route, show, value_at
from optio.model.trigger import ScheduleTrigger

_FIELDS = "minute, hour, day of month, month, day of week"
RANGES = ("minute is 0-59", "hour is 0-23", "day of month is 1-31", "month is 1-12 or JAN-DEC", "day of week is 0-7 or SUN-SAT")
# The days of the month on which the first to fourth of a weekday falls.
_WEEKS = ("1-7", "8-14", "15-21", "22-28")
_NTH = ("first", "second", "third", "fourth")
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
# Words of other systems for a start without a time.
_NEVER = frozenset({"none", "null", "never", "off", "disabled", "manual", "false", "once", "no"})
_NO_TIMES = ("@once", "@reboot", "@none", "@never", "@manual", "@startup", "@continuous")
# Templates that other systems fill in when a run begins.
_FILLED = r"\$?\{\{[^{}\n]{1,100}\}\}|\{%[^%{}\n]{1,100}%\}|\$\{[^{}\n]{1,100}\}|\$\([^()\n]{1,100}\)"
# More names than these are no help in a hint.
_MAX_NAMED = 4
_WORDS = ("hourly", "daily", "weekly", "monthly", "yearly")
# Values of a hint for a parameter whose schema and tests name none.
_STANDS_FOR_ANY = ("hello", "example-value", "acme/shop", "a", "A1", "main")
_NO_SUCH_DAYS = (
    (r"(?i)(?<!\S)L-\d", "that is the last day itself, because days before it cannot be counted"),
    (r"(?i)\dW(?!\S)", "that is the day itself, because the nearest weekday cannot be expressed"),
)
# Names of a parameter that is the day of the run, and dates.
_DAY_OF_RUN = r"(?i)(?:(?:run|report|current|todays?|execution|logical)_?)?date|today|now|ds"
_DATE = r"(?:19|20)\d\d-\d\d-\d\d(?:[T ][\d:.Z+-]+)?"
_SECONDS = r"\s*[0-9*/,-]+(?:\s+[0-9*/,?A-Z-]+){5}\s*\Z"


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
        yield _cron_error(task, route, expression, err.field, err.never, str(err))
        return
    fields = expand(expression).split()
    days, weekdays = fields[2], fields[4]
    if ({days, weekdays}.isdisjoint("*?") and days[0] in "*?") or (weekdays[0] in "*?" and {days, weekdays}.isdisjoint("*?")):
        message = (
            f"`{expression}` fires where `{days}` of the month and weekday `{weekdays}` both match; in "
            "Kubernetes, where either matches"
        )
        yield task.at("OPT304", message, route, hint=f"{_either(fields)}; or keep it if both must match")
    elif fields[2][0] not in "*?" and fields[4][0] not in "*?":
        message = f"`{expression}` fires on day {fields[2]} of the month and also on weekday {fields[4]}"
        hint = f"{_either(fields)}; or keep it if either may match"
        if days in _WEEKS and re.fullmatch(r"[0-7]|[A-Za-z]{3}", weekdays):
            nth = f"{' '.join([*fields[:2], '*', fields[3]])} {weekdays}#{_WEEKS.index(days) + 1}"
            first, day = _NTH[int(nth[-1]) - 1], _weekday(weekdays)
            hint = f"for the {first} {day} of the month write `{nth}`; or keep it if either may match"
        yield task.at("OPT304", message, route, hint=hint)


def _weekday(field: str) -> str:
    return _DAYS[int(field) % 7] if field.isdigit() else next(day for day in _DAYS if day.startswith(field.capitalize()))


def _either(fields: list[str]) -> str:
    minute, hour, day, month, weekday = fields
    days, weekdays = f"{minute} {hour} {day} {month} *", f"{minute} {hour} * {month} {weekday}"
    return f"write `{days}` for the days of the month, `{weekdays}` for the weekdays"


def _cron_error(task: ResolvedTask, route: Route, expression: str, field: int | None, never: bool, message: str) -> Diagnostic:
    from optio.compiler.conversions.cron_suggestions import suggest_cron  # imported only for a file with a mistake
    from optio.compiler.conversions.quantities import CURLY

    words, meant = expression.split(), suggest_cron(expression)
    if meant is not None and meant.zone is not None:
        hint = f"write `{meant.expression}`, and `timezone: {meant.zone}` beside it"
        return task.at("OPT301", f"`{expression}` holds a time zone", route, hint=hint)
    write = meant.expression if meant is not None else None
    lost = next((f": {said}" for pattern, said in _NO_SUCH_DAYS if re.search(pattern, expression)), "")
    most = ": a schedule fires once a minute at most" if re.search(r"(?i)\d ?s(?:ec\w*)?\b|\bsec", expression) else ""
    if field is None:
        if len(words) in (6, 7):
            hint = f"a schedule has 5: {_FIELDS}"
            hint += f"; write `{write}`{lost}" if write else "; leave out the seconds" if re.match(_SECONDS, expression) else ""
            return task.at("OPT303", f"`{expression}` has {len(words)} fields", route, hint=hint, value=write, safe=False)
        if expression.strip().startswith("@"):
            if write is not None:
                message = f"`{expression}` is not a schedule that Optio supports"
                return task.at("OPT301", message, route, hint=f"write `{write}`{most}", value=write, safe=False)
            named = next((f"@{word}" for word in _WORDS if word[:3] in expression.lower()), None)
            hint = (
                f"write `{named}`" if named else "write `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, or five fields"
            )
            if expression.strip().lower() in _NO_TIMES:
                hint = "delete this trigger: a schedule repeats, and `optio run` or a request starts the task without it"
            return task.at("OPT301", f"`{expression}` is not a schedule", route, hint=hint)
        hint = f"write `{write}`{most}" if write else f"{_FIELDS}: `0 9 * * 1`"
        if write is None and expression.strip().lower() in _NEVER:
            hint = "delete this trigger: a task without a schedule starts by `optio run` or by a request"
        if write is None and len(words) == len(RANGES) - 1 and suggest_cron(f"'{expression} *'") is not None:
            hint = f"write `{expression} *` for every day of the week; the fields are {_FIELDS}"
        message = f"`{expression}` has {len(words)} field{'s' if len(words) != 1 else ''}, not 5"
        return task.at("OPT301", message, route, hint=hint, value=write, safe=False)
    if len(words) != len(RANGES):  # a word such as `@daily`, which is always valid
        return task.at("OPT301", message, route)
    span = field_span(task, route, expression, field)
    if never:
        message = f"`{expression}` never fires: no month has such a day"
        return task.at(
            "OPT302",
            message,
            route,
            span=span,
            hint="write `L` for the last day of the month, or another day; to switch a trigger off write `enabled: false`",
        )
    hint = (
        f"a step is 1 or more: write `{words[field][:-1]}1`, or another one"
        if words[field].endswith("/0")
        else "write `*`"
        if words[field] == "?"
        else _in_range(words, field)
    )
    if write is not None:
        others_stay = all(a == b for index, (a, b) in enumerate(zip(words, write.split(), strict=True)) if index != field)
        hint = f"write `{write.split()[field] if others_stay else write}`{lost}"
    message = f"bad {RANGES[field].split(' is ')[0]} `{words[field]}`"
    if expression[0] in CURLY:
        message = f"`{expression}` holds typographic quotes, which are part of the value"
    return task.at("OPT301", message, route, span=span, hint=hint, value=write, safe=False)


def _in_range(words: list[str], field: int) -> str:
    """Return the hint with the field's range, and the nearest valid number for one that is out of range (hour 24 is
    midnight)."""
    others = [*words[:field], *words[field + 1 :]]
    if not words[field].isdigit() and not all(re.fullmatch(r"[0-9*/,A-Z?L#-]+", word) for word in others):
        return f"{_FIELDS}: `0 9 * * 1`"
    if not words[field].isdigit():
        return f"{RANGES[field]}, as in `{' '.join([*words[:field], ('0', '9', '1', '1', '1')[field], *words[field + 1 :]])}`"
    meant = {"24": "0"}.get(words[field]) if field == 1 else "0" if field == 0 else None
    meant = meant or ("1" if field in (2, 3) and int(words[field]) == 0 else ("59", "23", "28", "12", "0")[field])
    return f"{RANGES[field]}: write `{meant}`, or another one"


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


def _missing(task: ResolvedTask, route: Route, name: str) -> Diagnostic:
    from optio.compiler.conversions.entries import fitting_value  # imported only for a file with a mistake

    known = declared_parameters(task)
    tried = next((each.params[name] for each in task.spec.tests if each.params and name in each.params), None)
    shown = fitting_value(known.properties.get(name), tried) if known is not None else None
    if known is not None and shown in _STANDS_FOR_ANY:
        named = f"my-{name.lower().replace('_', '-')}"
        shown = named if fitting_value(known.properties.get(name), named) == named else shown
    entry = f"{name}: {shown or '...'}"
    # Several of them share one `paramMapping`.
    is_only = known is not None and known.missing({}) == [name] and value_at(task.document.value, route) is None
    hint = f"add `paramMapping: {{{entry}}}`" if is_only else f"add `{entry}` under `paramMapping`"
    if shown in _STANDS_FOR_ANY or (shown or "").startswith("my-"):
        hint += f", with your own value in the place of `{shown}`"
    return task.at("OPT308", f"the schedule gives no value for `{name}`", (*route, name), key=True, hint=hint)


def _refused(
    task: ResolvedTask,
    route: Route,
    mapping: dict[str, Any],
    known: DeclaredParameters,
    told: set[str | None],
    *,
    open_names: bool,
) -> Iterator[Diagnostic]:
    """Report values that would keep every fire from becoming a run. A default that does not fit is reported in the schema."""
    for place, message, word in iter_faults(known.schema, apply_defaults(known.schema, mapping)):
        if not place:
            if not told:
                message = f"the schedule gives no valid parameters: what it gives {message}"
                yield task.at("OPT309", message, route, key=True, hint="give values that fit `paramsSchema`")
        elif len(place) == 1 and word == "required":
            if place[0] not in told:
                yield _missing(task, route, str(place[0]))
        elif len(place) == 1 and word == "additionalProperties":
            if open_names and place[0] not in told:
                yield task.at(
                    "OPT310", f"`{place[0]}` {message}", route + place, key=True, hint=_declare(task, place[0], mapping)
                )
        elif str(mapping.get(str(place[0]))).startswith("$."):
            yield task.at("OPT309", f"`{show(place)}` {message}", route + place, hint=_no_payload(known, str(place[0])))
        elif place[0] in mapping:
            meant = _member(known, place, mapping[place[0]]) if word == "enum" else None
            hint = f"did you mean `{meant}`?" if meant else _commented(task, route + place, mapping[place[0]])
            if hint is None and _filled_part(mapping[place[0]]) is not None:
                hint = _not_filled(task, known, str(place[0]))
            hint = hint or _fitting(known, place, mapping, word)
            yield task.at("OPT309", f"`{show(place)}` {message}", route + place, hint=hint, value=meant, safe=False)


def _commented(task: ResolvedTask, route: Route, value: object) -> str | None:
    from optio.compiler.shape.messages import hint_for_commented_value  # imported only for a file with a mistake

    return hint_for_commented_value(task.document, route) if value is None else None


def _declare(task: ResolvedTask, name: Any, mapping: dict[str, Any]) -> str:
    from optio.compiler.conversions.entries import declaration_hint  # imported only for a file with a mistake

    return f"delete it, or {declaration_hint(task.document.value, str(name), mapping.get(name))}"


def _fitting(known: DeclaredParameters, place: Route, mapping: dict[str, Any], word: str | None) -> str:
    """Return the hint for a value that is not valid, if it is the value of one parameter."""
    from optio.compiler.conversions.entries import hint_for_value  # imported only for a file with a mistake

    given = value_at(mapping, place)
    if (
        isinstance(given, dict)
        and len(given) == 1
        and (word_of := next(iter(given))) in ("literal", "value", "const", "default")
    ):
        return f"write `{flow(given[word_of])}`: a schedule's values stand for themselves"
    schema: Any = known.schema
    for step in place:
        schema = value_at(schema, ("items",) if isinstance(step, int) else ("properties", step))
    cure = hint_for_value(schema, value_at(mapping, place)) if word not in ("required", "additionalProperties") else None
    return cure or "give a value that fits `paramsSchema`"


def _member(known: DeclaredParameters, place: Route, given: Any) -> str | None:
    """Return the member of an `enum` that a text outside it was probably meant to be."""
    sub = known.properties.get(str(place[0])) if len(place) == 1 else None
    members = [member for member in sub.get("enum", ()) if isinstance(member, str)] if isinstance(sub, dict) else []
    meant = suggest(given, members) if isinstance(given, str) else None
    return next((each for each in members if isinstance(given, str) and each.casefold() == given.casefold()), meant)


def _instance(known: DeclaredParameters, name: str) -> str:
    from optio.compiler.conversions.entries import fitting_value  # imported only for a file with a mistake

    shown = fitting_value(known.properties.get(name))
    return "" if shown is None else f", such as `{name}: {shown}`"


def _no_payload(known: DeclaredParameters, name: str) -> str:
    if re.fullmatch(_DAY_OF_RUN, name):
        return f"write `{name}: today`: a schedule has no payload, and the agent knows the day"
    return f"write the value itself{_instance(known, name)}: a schedule has no payload"


def _params(task: ResolvedTask, route: Route, mapping: dict[str, Any]) -> Iterator[Diagnostic]:
    known = declared_parameters(task)
    if known is None or not task.is_known(route):
        return
    names = parameter_names(task, known)
    unknown = [name for name in mapping if names is not None and name not in names]
    absent = known.missing(mapping)
    paired = absent[0] if len(unknown) == len(absent) == 1 else None
    for name in unknown:
        meant = suggest(name, names or ())
        hint = f"did you mean `{meant}`?" if meant else _declare(task, name, mapping)
        if meant is None and paired is not None:
            hint = f"did you mean `{paired}`, which nothing else gives? else {hint}"
        elif meant is None and 0 < len(left := sorted((names or set()) - mapping.keys())) <= _MAX_NAMED:
            hint = f"write {' or '.join(f'`{each}`' for each in left)}, which the task has, or {hint}"
        write = meant if meant not in mapping else None
        message = f"`{name}` is not a parameter of this task"
        yield task.at("OPT310", message, (*route, name), key=True, hint=hint, write=write, safe=False)
    meant_by_typo = {suggest(name, names or ()) for name in unknown} | ({paired} if paired is not None else set())
    for name in absent:
        if name not in meant_by_typo:
            yield _missing(task, route, name)
    told = meant_by_typo.union(unknown, absent, known.undeclared)
    refused = list(_refused(task, route, mapping, known, told, open_names=names is None))
    yield from refused
    at_refused = [each.route for each in refused]
    yield from _one_day(task, route, mapping, known)
    for name, value in mapping.items():
        if not isinstance(value, str) or (*route, name) in at_refused:
            continue
        if value.startswith("$."):
            hint = _no_payload(known, name)
            yield task.at("OPT311", f"`{name}` is the text `{value}`, not a path", (*route, name), hint=hint)
        elif (found := _filled_part(value)) is not None:
            message = f"`{name}` holds `{found}` as a text, which is not replaced"
            yield task.at("OPT311", message, (*route, name), hint=_not_filled(task, known, name))


def _one_day(task: ResolvedTask, route: Route, mapping: dict[str, Any], known: DeclaredParameters) -> Iterator[Diagnostic]:
    """Report a parameter named after the day of the run, for which the schedule gives one date."""
    for name, sub in known.properties.items():
        given = mapping.get(name, sub.get("default") if isinstance(sub, dict) else None)
        if not isinstance(given, str) or not given[:1].isdigit():
            continue
        if not re.fullmatch(_DATE, given) or not re.fullmatch(_DAY_OF_RUN, name):
            continue
        place: Route = (*route, name) if name in mapping else (*ROUTE, "properties", name, "default")
        is_read = task.spec.agent_runtime != "command"
        takes_words = is_read and isinstance(sub, dict) and {"format", "pattern", "enum", "const"}.isdisjoint(sub)
        instead = (
            f"write `today` in the prompt in the place of `{{{{{name}}}}}`" if is_read else "let the program ask the clock"
        )
        hint = "write `today`, which the agent understands" if takes_words else f"delete the parameter, and {instead}"
        message = f"`{name}` is `{given}` in each run of the schedule, which fills in no day"
        yield task.at("OPT311", message, place, hint=hint, value="today" if takes_words else None, safe=False)


def _filled_part(value: object) -> str | None:
    """Return the part of a text that another system would fill in."""
    if not isinstance(value, str) or {"{", "("}.isdisjoint(value):
        return None
    found = re.search(_FILLED, value)
    return found and found[0]


def _not_filled(task: ResolvedTask, known: DeclaredParameters, name: str) -> str:
    write = f"write the value itself{_instance(known, name)}: a schedule fills nothing in"
    if task.spec.agent_runtime == "command" and name in known.required:
        return (
            f"a schedule fills nothing in: take `{name}` out of `required`, delete the line, and let the program find out what "
            f"changes from run to run; or write one value for all runs{_instance(known, name)}"
        )
    if task.spec.agent_runtime == "command":
        return f"{write}, so a program must find out itself what changes from run to run"
    return f"{write}, but the prompt can ask the agent for the time"
