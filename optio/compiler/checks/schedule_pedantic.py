"""Advise on schedules that are valid and may not fire as they read: steps that are too long or leave an uneven gap, runs that
overlap, days that few years have, and nights on which the clocks change."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice

from optio.compiler.checks.schedule import field_span
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route, value_at
from optio.model.text import parse_duration
from optio.model.trigger import ScheduleConfig, ScheduleTrigger

# Number of values of a field. A step that does not divide it leaves an uneven gap at the end.
_SIZES = (60, 24)
_NAMES = ("minute", "hour")
# Signs that not every cron supports.
_DIALECT = frozenset("LW#?@")
# With a longer step, only the field's first value is left.
_MAX_STEPS = (59, 23, 30, 11, 6)
_FIRST = ("at minute 0", "at hour 0", "on day 1", "in month 1", "on day 0")
_AROUND = ("hour", "day", "month", "year", "week")
# Any start will do, because the pattern repeats.
_START = datetime(2024, 1, 1, tzinfo=UTC)
_MAX_FIRES_EXAMINED = 500
_MAX_TIMES_SHOWN = 4
_MAX_SHOWN_LENGTH = 10
# When the schedule fires on such a night.
_ENDS = {
    "moved": "it fires at {:%H:%M}",
    "skipped": "it does not fire",
    "once": "it fires once, at the first of the two",
    "twice": "it fires both times",
}
_DAYS_OF_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTH, _DAY, _MINUTE = timedelta(days=30), timedelta(days=1), timedelta(minutes=1)
# With more slots, overlapping runs do not matter.
_MAX_SLOTS = 50
# No zone changes its clocks by more in one night.
_MAX_CLOCK_CHANGE = timedelta(hours=2)


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the advice for every schedule that parses; `schedule` reports those that do not."""
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config", "cronExpression")
        if not isinstance(trigger, ScheduleTrigger) or not task.is_known(route):
            continue
        from optio.scheduling.cron import CronError, check_expression, expand

        expression = trigger.config.cron_expression
        try:
            check_expression(expression)
        except CronError:
            continue
        fields, has_step = expand(expression).split(), "/" in expression
        if has_step:
            yield from _long_step(task, route, expression, fields)
            yield from _half_step(task, route, expression, fields)
        each_minute = list(_each_minute(task, route, expression, fields))
        yield from each_minute
        if has_step:
            yield from _uneven(task, route, expression, fields)
        if not _DIALECT.isdisjoint(expression):
            yield from _dialect(task, route, expression, fields)
        yield from () if each_minute else _overlap(task, route, trigger, fields)
        yield from _start_limit(task, route, trigger)
        yield from _rare(task, route, expression, fields)
        yield from _lacking_days(task, route, expression, fields)
        yield from _odd_nights(task, route, trigger.config, fields)


def _long_step(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    for index, (field, longest) in enumerate(zip(fields, _MAX_STEPS, strict=True)):
        whole, _, step = field.partition("/")
        if whole != "*" or not step.isdigit() or int(step) <= longest:
            continue
        shown = step if len(step) <= _MAX_SHOWN_LENGTH else step[:_MAX_SHOWN_LENGTH] + "..."
        message = f"a step of {shown} is longer than the {_AROUND[index]}: it fires {_FIRST[index]} of each"
        first = "1" if index in (2, 3) else "0"
        hint = f"write `{' '.join([*fields[:index], first, *fields[index + 1 :]])}` if that is intended"
        hours = next((n for n in (1, 2, 3, 4, 6, 8, 12, 24) if int(step) <= n * 60), None)
        if index == 0 and hours is not None and fields[1] == "*":
            each = ("*", "0")[hours == 24] if hours in (1, 24) else f"*/{hours}"
            hint = f"write `{' '.join(['0', each, *fields[2:]])}` for every {f'{hours} hours' if hours > 1 else 'hour'}"
            if int(step) != hours * 60:
                hint += f", or `{' '.join(['0', *fields[1:]])}` for every hour: no schedule fires every {shown} minutes"
        elif index < len(_NAMES):
            hint += f"; no schedule fires every {shown} {_NAMES[index]}s"
        yield task.at("OPT317", message, route, hint=hint, span=field_span(task, route, expression, index))


def _half_step(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    """Report `*/40`: a step longer than half of the hour or day fires twice at most, and never at that interval."""
    for index, (field, size, name) in enumerate(zip(fields, _SIZES, _NAMES, strict=False)):
        found = re.fullmatch(rf"(\*|\d{{1,2}})(?:-{size - 1})?/(\d{{1,2}})", field)
        if found is None or not size // 2 < int(found[2]) < size:
            continue
        step, values = int(found[2]), range(0 if found[1] == "*" else int(found[1]), size, int(found[2]))
        first, around = values[0], _AROUND[index]
        listed = f"{name} {first}" if len(values) == 1 else f"{name}s {' and '.join(map(str, values))}"
        message = f"`{field}` fires at {listed} of each {around}, not every {step} {name}s"

        def written(word: str, index: int = index) -> str:
            return f"`{' '.join([*fields[:index], word, *fields[index + 1 :]])}`"

        half = size // 2
        halves = f"*/{half}" if first == 0 else f"{first % half},{first % half + half}"
        hint = (
            f"write {written(','.join(map(str, values)))} if that is intended, {written(halves)} for every {half} {name}s, "
            f"or {written(str(first))} for once in each {around}"
        )
        yield task.at("OPT317", message, route, hint=hint, span=field_span(task, route, expression, index))


def _each_minute(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    """Report `* 3 * * *`, which names an hour and fires in each minute of it."""
    if fields[0] not in ("*", "*/1", "0-59") or not re.fullmatch(r"[0-9]+(?:[,-][0-9]+)*", fields[1]):
        return
    from optio.scheduling.cron import minutes_of_day

    count = len(minutes_of_day(expression))
    message = f"`{expression}` fires {count:,} times a day: each minute of hour {fields[1]}"
    once, often = (" ".join([minute, *fields[1:]]) for minute in ("0", "*/15"))
    where = "that hour" if fields[1].isdigit() else "each of these hours"
    hint = f"write `{once}` for one run in {where}, or `{often}` for four"
    yield task.at("OPT318", message, route, hint=hint, span=field_span(task, route, expression, 0))


def _lacking_days(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    """Report a day that some of the named months lack."""
    days, months = fields[2:4]
    if days in ("29", "30", "31") and fields[4] == "*" and (months == "*" or re.fullmatch(r"\d{1,2}(?:,\d{1,2})+", months)):
        named = [int(month) for month in months.split(",")] if months != "*" else list(range(1, 13))
        lacking = [month for month in named if _DAYS_OF_MONTHS[month - 1] < int(days)]
        if lacking and len(lacking) < len(named):
            message = f"`{expression}` does not fire in {_months(lacking)}: no day {days}"
            hint = f"write `{' '.join([*fields[:2], 'L', *fields[3:]])}` for the last day of each month"
            yield task.at("OPT319", message, route, hint=hint, span=field_span(task, route, expression, 2))


def _months(numbers: list[int]) -> str:
    *most, last = (datetime(2024, month, 1, tzinfo=UTC).strftime("%B") for month in numbers)
    return f"{', '.join(most)} and {last}" if most else last


def _uneven(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    for index, (field, size, name) in enumerate(zip(fields, _SIZES, _NAMES, strict=False)):
        whole, _, step = field.partition("/")
        is_whole = whole in ("*", "0", f"0-{size - 1}")
        if is_whole and step.isdigit() and 0 < int(step) <= size // 2 and size % int(step):
            last = size - 1 - (size - 1) % int(step)
            message = f"every {step} {name}s, but {size - last} from {name} {last} to 0"
            steps = [n for n in range(2, size) if size % n == 0]
            near = min(steps, key=lambda n: (abs(n - int(step)), n))
            span = field_span(task, route, expression, index)
            yield task.at("OPT305", message, route, hint=f"`*/{near}` divides {size}", span=span)


def _dialect(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    odd = next(
        (sign for sign in ("L", "W", "#", "?") if sign in expression and any(_has(field, sign) for field in fields)), None
    )
    if odd is not None or expression.strip().startswith("@"):
        what = f"`{odd}`" if odd else f"`{expression.strip()}`"
        hint = f"in five plain fields: `{' '.join(fields)}`" if odd is None else "keep it if only Optio reads it"
        yield task.at("OPT316", f"{what} is not supported by every cron", route, hint=hint)


def _has(field: str, sign: str) -> bool:
    if sign in "#?":
        return sign in field
    # `JUL` and `WED` are names; `L`, `15W` and `5L` are not.
    return any(part == sign or (part.endswith(sign) and not part.isalpha()) for part in field.split(","))


def _overlap(task: ResolvedTask, route: Route, trigger: ScheduleTrigger, fields: list[str]) -> Iterator[Diagnostic]:
    """Report schedules that can start more runs than may run at once, if each run takes its whole timeout."""
    spec, config = task.spec, trigger.config
    if (
        spec.timeout is None
        or config.overlap == "skip"
        or not (task.is_known(("timeout",)) and task.is_known(("maxConcurrent",)))
    ):
        return
    slots, timeout = spec.max_concurrent, parse_duration(spec.timeout)
    if slots > _MAX_SLOTS or _least_gap(fields[0], fields[1], slots) - _MAX_CLOCK_CHANGE >= timeout:
        return
    try:
        gap = shortest_gap(config.cron_expression, config.timezone, slots)
        if gap >= timeout:
            return
        enough = next(
            (n for n in range(slots, _MAX_SLOTS) if shortest_gap(config.cron_expression, config.timezone, n) >= timeout), None
        )
    except (KeyError, ValueError, OSError):  # an invalid zone is reported by `schedule`
        return
    if slots == 1:
        message = f"fires every {_words(gap)} at times, but a run may take {spec.timeout}: runs queue up"
    else:
        runs = f"only {slots} runs of up to {spec.timeout} run at once"
        message = f"fires {slots + 1} times in {_words(gap)} at times, but {runs}"
    raised = f", or `maxConcurrent: {enough}`" if enough is not None else ", or fewer fires"
    yield task.at("OPT314", message, route, hint=f"write `overlap: skip`, a shorter `timeout`{raised}")


def _start_limit(task: ResolvedTask, route: Route, trigger: ScheduleTrigger) -> Iterator[Diagnostic]:
    """Report schedules that fire more often than `startLimit` lets runs start, month after month."""
    limit, config = task.spec.start_limit, trigger.config
    if limit is None or not task.is_known(("startLimit",)):
        return
    from optio.scheduling.max_fires import max_fires

    # UTC, because a night that repeats an hour adds fires once a year, and the queue empties again.
    fires, starts = max_fires(config.cron_expression, "UTC", _MONTH.days), -(-_MONTH // limit.window) * limit.count
    if fires > starts:
        ends = "slots are left out" if config.overlap == "skip" else "runs queue up"
        message = f"the schedule fires {fires} times in 30 days, but `startLimit` allows {starts} starts: {ends}"
        if (often := _fires_per(config.cron_expression, limit.window)) is not None:
            message = f"the schedule fires {often} times in {limit.per}, but `startLimit` allows {limit.count}: {ends}"
        tries = 1 + task.spec.max_retries if value_at(task.document.value, ("maxRetries",)) else 1
        enough = f"startLimit: {{count: {-(-fires * limit.window // _MONTH) * tries}, per: {limit.per}}}"
        hint = f"write `{enough}` or more, or let it fire less often"
        yield task.at("OPT324", message, ("startLimit",), key=True, hint=hint)
    elif (
        (fires == starts or limit.count <= task.spec.max_retries)
        and value_at(task.document.value, ("maxRetries",))
        and task.spec.max_retries
    ):
        message = "a retry counts as a start, and `startLimit` leaves none for it: the retry waits, or the next run does"
        with_retries = f"startLimit: {{count: {limit.count * (1 + task.spec.max_retries)}, per: {limit.per}}}"
        hint = f"write `{with_retries}`, or `maxRetries: 0`"
        yield task.at("OPT324", message, ("startLimit",), key=True, hint=hint)


def _fires_per(expression: str, window: timedelta) -> int | None:
    """Return how often the schedule fires in each window of this length, or None if not in each the same number of times."""
    from optio.scheduling.cron import expand, minutes_of_day

    times = minutes_of_day(expression)
    gap = _DAY / len(times)
    is_even = all(times[0] * _MINUTE + place * gap == at * _MINUTE for place, at in enumerate(times))
    each_day = expand(expression).split()[2:] == ["*", "*", "*"]
    return window // gap if each_day and not window % (gap if is_even else _DAY) else None


def _rare(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    from optio.scheduling.cron import longest_gap

    # Whoever writes 29 February knows that day.
    gap = (
        None if fields[2] == "29" and fields[3].upper() in ("2", "02", "FEB") and fields[4] == "*" else longest_gap(expression)
    )
    if gap is None:
        return
    before, after = gap
    years = after.year - before.year
    message = (
        f"not every year has such a day: it pauses for {years} years, for instance from {before:%Y-%m-%d} to {after:%Y-%m-%d}"
    )
    yield task.at("OPT315", message, route, hint="keep it if that is intended")


def _odd_nights(task: ResolvedTask, route: Route, config: ScheduleConfig, fields: list[str]) -> Iterator[Diagnostic]:
    """Report fires that a change of the clocks skips or repeats. The rules of the zone decide, not today's date, so a file that
    was clean yesterday stays clean."""
    # An interval such as `*/2` fires again soon, whatever the clocks do.
    if config.timezone == "UTC" or fields[1].startswith("*"):
        return
    from optio.scheduling.dst import dst_effects

    try:
        found = dst_effects(config.cron_expression, config.timezone)
    except (KeyError, ValueError, OSError):  # an invalid zone is reported by `schedule`
        return
    if not found:
        return
    facts: list[str] = []
    for change, odd in found:
        same = facts and _times(odd.times) == _times(found[0][1].times)
        times = ("it" if len(odd.times) == 1 else "them") if same else _times(odd.times)
        where = "another" if facts else "one night"
        facts.append(f"skip {times} in {where}" if change.skips else f"show {times} twice in {where}")
    message = f"the clocks of {config.timezone} {' and '.join(facts)}"
    ends = [f"when they go {'forward' if each.skips else 'back'} {_ENDS[odd.what].format(each.new)}" for each, odd in found]
    hint = f"{', '.join(ends)}; {_even(fields, config.timezone)}"
    span = field_span(task, route, config.cron_expression, 1)
    yield task.at("OPT307", message, route, hint=hint, span=span)


def _times(times: Sequence[datetime]) -> str:
    if len(times) > _MAX_TIMES_SHOWN:
        return f"{times[0]:%H:%M} to {times[-1]:%H:%M}"
    *most, last = (f"{at:%H:%M}" for at in times)
    return f"{', '.join(most)} and {last}" if most else last


def _even(fields: list[str], zone: str) -> str:
    """Return a variant of the schedule that no change of the clocks affects."""
    from optio.scheduling.dst import dst_effects

    if fields[1].isdigit():
        for hour in range(int(fields[1]) + 1, 24):
            moved = " ".join([fields[0], str(hour), *fields[2:]])
            if not dst_effects(moved, zone):
                return f"`{moved}` avoids these nights"
    return "`timezone: UTC` never changes its clocks"


@lru_cache(maxsize=4096)
def shortest_gap(expression: str, zone: str, fires_on: int) -> timedelta:
    """Return the shortest time between a fire and the one `fires_on` later, within the first fires of the schedule."""
    from optio.scheduling.cron import fires

    times = list(islice(fires(expression, zone, _START), _MAX_FIRES_EXAMINED + fires_on))
    return min((b - a for a, b in zip(times, times[fires_on:], strict=False)), default=timedelta.max)


@lru_cache(maxsize=4096)
def _least_gap(minute: str, hour: str, fires_on: int) -> timedelta:
    """Return a cheap lower bound of `shortest_gap`: the same time if every day counted and no clock changed."""
    from optio.scheduling.cron import minutes_of_day

    times = minutes_of_day(f"{minute} {hour} * * *")
    later = (divmod(place + fires_on, len(times)) for place in range(len(times)))
    return min(days * _DAY + (times[place] - at) * _MINUTE for at, (days, place) in zip(times, later, strict=True))


def _words(gap: timedelta) -> str:
    minutes = int(gap.total_seconds() // 60)
    return f"{minutes // 60} h" if minutes and minutes % 60 == 0 else f"{minutes} min"
