"""Advise on schedules that are valid and may not fire as they read: steps that are too long or leave an uneven gap, months
that are left out, and nights on which the clocks change."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise

from optio.compiler.checks.schedule import field_span
from optio.compiler.diagnostics import Diagnostic, shorten
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route, value_at
from optio.model.trigger import ScheduleConfig, ScheduleTrigger

# Of each field: how many values it has, its first one, its name with its preposition, and what it divides.
_STEPPED = (
    (60, 0, "at minute", "hour"), (24, 0, "at hour", "day"), (31, 1, "on day", "month"), (12, 1, "in month", "year"),
    (7, 0, "on day", "week"),
)  # fmt: skip
# Any start will do, because the pattern repeats.
_START = datetime(2024, 1, 1, tzinfo=UTC)
_MAX_FIRES_EXAMINED = 500
_MAX_TIMES_SHOWN = 4
_MAX_SHOWN_LENGTH = 10
# When the schedule fires on such a night.
_RESULTS = {
    "moved": "it fires at {:%H:%M}",
    "skipped": "it does not fire",
    "once": "it fires once, at the first of the two",
    "twice": "it fires both times",
}
_DAYS_OF_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTH, _DAY, _MINUTE = timedelta(days=30), timedelta(days=1), timedelta(minutes=1)
# What a schedule may cost in 30 days without a word about it, in US dollars.
_COSTLY_USD = 1_000


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
        fields = expand(expression).split()
        yield from _steps(task, route, expression, fields) if "/" in expression else ()
        yield from _each_minute(task, route, expression, fields)
        yield from _start_limit(task, trigger)
        yield from _month_cost(task, route, expression)
        yield from _short_months(task, route, expression, fields)
        yield from _clock_changes(task, route, trigger.config, fields)


def _steps(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    """Report steps that are not an interval: `*/90`, of which only the first value is left, `*/40`, which fires twice in an
    hour, and `*/7`, which leaves an uneven gap at the end."""
    for index, (field, (size, least, at, period)) in enumerate(zip(fields, _STEPPED, strict=True)):
        stepped = re.fullmatch(rf"(\*|\d{{1,2}})(?:-{size - 1 + least})?/([1-9]\d*)", field)
        if stepped is None or (index > 1 and (int(stepped[2]) < size or stepped[1] != "*")):
            continue
        first, step = (least if stepped[1] == "*" else int(stepped[1])), int(stepped[2])
        values = range(first, size + least, step)
        better = " ".join([*fields[:index], ",".join(map(str, values)), *fields[index + 1 :]]) if step > size // 2 else ""
        name, span = at.partition(" ")[2], field_span(task, route, expression, index)
        interval = f"{shorten(str(step), _MAX_SHOWN_LENGTH)} {name}s"
        if (step >= size and stepped[1] == "*") or (size // 2 < step < size and index < 2):
            times = f"{at} {' and '.join(map(str, values))}"
            message = f"`{shorten(field, _MAX_SHOWN_LENGTH)}` fires {times} of each {period}, not every {interval}"
            code = "OPT317" if step >= size else "OPT305"
            yield task.at(code, message, route, hint=f"write `{better}` if that is intended", span=span)
        elif first == 0 and index < 2 and size % step:
            message = f"every {interval}, but {size - values[-1]} from {name} {values[-1]} to 0"
            near = min((divisor for divisor in range(2, size) if not size % divisor), key=lambda n: (abs(n - step), n))
            yield task.at("OPT305", message, route, hint=f"`*/{near}` divides {size}", span=span)


def _each_minute(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    """Report `* 3 * * *`, which names an hour and fires in each minute of it."""
    if fields[0] not in ("*", "*/1", "0-59") or not re.fullmatch(r"[0-9]+(?:[,-][0-9]+)*", fields[1]):
        return
    from optio.scheduling.cron import minutes_of_day

    count = len(minutes_of_day(expression))
    message = f"`{expression}` fires {count:,} times a day: each minute of hour {fields[1]}"
    hint = f"write `{' '.join(['0', *fields[1:]])}` for one run in an hour"
    yield task.at("OPT318", message, route, hint=hint, span=field_span(task, route, expression, 0))


def _short_months(task: ResolvedTask, route: Route, expression: str, fields: list[str]) -> Iterator[Diagnostic]:
    """Report a day that some of the named months do not have."""
    day, month = fields[2:4]
    if day in ("29", "30", "31") and fields[4] == "*" and (month == "*" or re.fullmatch(r"\d{1,2}(?:,\d{1,2})+", month)):
        months = [int(number) for number in month.split(",")] if month != "*" else list(range(1, 13))
        short = [number for number in months if _DAYS_OF_MONTHS[number - 1] < int(day)]
        if short and len(short) < len(months):
            names = [datetime(2024, number, 1, tzinfo=UTC).strftime("%B") for number in short]
            message = f"`{expression}` does not fire in {_listed(names)}: no day {day}"
            hint = f"write `{' '.join([*fields[:2], 'L', *fields[3:]])}` for the last day of each month"
            yield task.at("OPT319", message, route, hint=hint, span=field_span(task, route, expression, 2))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _start_limit(task: ResolvedTask, trigger: ScheduleTrigger) -> Iterator[Diagnostic]:
    """Report schedules that fire more often than `startLimit` lets runs start, month after month."""
    limit, config = task.spec.start_limit, trigger.config
    if limit is None or not task.is_known(("startLimit",)):
        return
    from optio.scheduling.max_fires import max_fires

    # UTC, because a night that repeats an hour adds fires once a year, and the queue empties again.
    fires, starts = max_fires(config.cron_expression, "UTC", _MONTH.days), -(-_MONTH // limit.window) * limit.count
    tries = 1 + task.spec.max_retries if value_at(task.document.value, ("maxRetries",)) else 1
    if fires > starts:
        result = "slots are left out" if config.overlap == "skip" else "runs queue up"
        message = f"the schedule fires {fires} times in 30 days, but `startLimit` allows {starts} starts: {result}"
        enough = f"startLimit: {{count: {-(-fires * limit.window // _MONTH) * tries}, per: {limit.per}}}"
        hint = f"write `{enough}` or more, or let it fire less often"
        yield task.at("OPT324", message, ("startLimit",), key=True, hint=hint)
    elif tries > 1 and (fires == starts or limit.count < tries):
        message = "a retry counts as a start, and `startLimit` leaves none for it: the retry waits, or the next run does"
        hint = f"write `startLimit: {{count: {limit.count * tries}, per: {limit.per}}}`, or `maxRetries: 0`"
        yield task.at("OPT324", message, ("startLimit",), key=True, hint=hint)


def _month_cost(task: ResolvedTask, route: Route, expression: str) -> Iterator[Diagnostic]:
    """Report what the budgets of all runs of a month add up to, if that is much."""
    budget, limit = task.spec.budget_limit, task.spec.start_limit
    if budget is None or limit is not None or not task.is_known(("budgetUsd",)):
        return
    from optio.scheduling.cron import minutes_of_day

    if len(minutes_of_day(expression)) * _MONTH.days * budget <= _COSTLY_USD:
        return
    from optio.model.money import dollars
    from optio.scheduling.max_fires import max_fires

    fires = max_fires(expression, "UTC", _MONTH.days)
    if fires * budget > _COSTLY_USD:
        message = f"{fires:,} runs in 30 days at {dollars(budget)} each may cost {dollars(fires * budget)}"
        hint = "keep it if that is intended, or write a smaller `budgetUsd` or a `startLimit`"
        yield task.at("OPT325", message, route, hint=hint)


def _clock_changes(task: ResolvedTask, route: Route, config: ScheduleConfig, fields: list[str]) -> Iterator[Diagnostic]:
    """Report fires that a change of the clocks skips or repeats. The rules of the zone decide, not today's date, so a file that
    was clean yesterday stays clean."""
    # An interval such as `*/2` fires again soon, whatever the clocks do.
    if config.timezone == "UTC" or fields[1].startswith("*"):
        return
    from optio.scheduling.dst import dst_effects

    try:
        effects = dst_effects(config.cron_expression, config.timezone)
    except (KeyError, ValueError, OSError):  # an invalid zone is reported by `schedule`
        return
    if not effects:
        return
    facts = [
        f"skip {_times(night.times)}" if change.skips else f"show {_times(night.times)} twice" for change, night in effects
    ]
    results = [
        f"when they go {'forward' if change.skips else 'back'} {_RESULTS[night.what].format(change.new)}"
        for change, night in effects
    ]
    message = f"the clocks of {config.timezone} {' and '.join(facts)} on some nights"
    hint = f"{', '.join(results)}; write another hour, or `timezone: UTC`, which never changes its clocks"
    yield task.at("OPT307", message, route, hint=hint, span=field_span(task, route, config.cron_expression, 1))


def _times(times: Sequence[datetime]) -> str:
    if len(times) > _MAX_TIMES_SHOWN:
        return f"{times[0]:%H:%M} to {times[-1]:%H:%M}"
    return _listed([f"{time:%H:%M}" for time in times])


@lru_cache(maxsize=4096)
def shortest_gap(expression: str) -> timedelta:
    """Return the shortest time between two fires of the schedule in UTC, within its first fires."""
    from optio.scheduling.cron import fires

    times = islice(fires(expression, "UTC", _START), _MAX_FIRES_EXAMINED)
    return min((later - earlier for earlier, later in pairwise(times)), default=timedelta.max)
