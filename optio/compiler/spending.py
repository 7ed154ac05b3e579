"""The worst case of what a task's triggers may spend by its file, and the check against the ceilings of the policy."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.layers import POLICY
from optio.compiler.resolved_task import ResolvedTask
from optio.model.money import (
    DAY,
    MONTH,
    ZERO_USD,
    WorstCase,
    dollars,
    max_call_usd,
    max_catch_up_fires,
    max_run_usd,
    worst_case,
)
from optio.model.policy import Ceilings
from optio.model.route import Route
from optio.model.text import parse_money
from optio.model.trigger import ScheduleTrigger

# The maximum of `startLimit.count`.
_MAX_STARTS = 10_000
_LENGTHS = ((DAY, "in 24 hours"), (MONTH, "in 30 days"))


@dataclass(frozen=True, slots=True)
class Spending:
    """The worst case of any 24 hours and of 30 days, and the number of fires that it is computed from."""

    day: WorstCase
    month: WorstCase
    fires: tuple[int, int]


def worst_case_spending(task: ResolvedTask) -> Spending | None:
    """Return the worst-case spending of a task. Returns None if part of the task is unknown, and for a program without a
    budget, which need not cost anything."""
    spec = task.spec
    if task.gaps or (spec.budget_limit is None and spec.agent_runtime == "command"):
        return None
    fires = _fires(spec.schedule)
    if fires is None:
        return None
    day, month = (worst_case(spec, fires=fires[place], over=length) for place, (length, _) in enumerate(_LENGTHS))
    return Spending(day, month, fires)


def _fires(schedule: ScheduleTrigger | None) -> tuple[int, int] | None:
    """Return the most fires in 24 hours and in 30 days, or None for an invalid schedule."""
    if schedule is None or not schedule.enabled:
        return 0, 0
    from optio.scheduling.cron import CronError, check_expression
    from optio.scheduling.max_fires import max_fires

    expression, zone = schedule.config.cron_expression, schedule.config.timezone
    try:
        check_expression(expression)
        ZoneInfo(zone)
    except (CronError, ZoneInfoNotFoundError, ValueError, OSError):
        return None
    return max_fires(expression, zone, DAY.days), max_fires(expression, zone, MONTH.days)


def check(task: ResolvedTask, ceilings: Ceilings) -> Iterator[Diagnostic]:
    """Report spending in 24 hours or in 30 days above the ceiling for a single task."""
    if ceilings.day_usd is None and ceilings.month_usd is None:
        return
    spending = worst_case_spending(task)
    if spending is None or spending.day.is_nothing:
        return
    for code, cap, key, place in (("OPT603", ceilings.day_usd, "dayUsd", 0), ("OPT313", ceilings.month_usd, "monthUsd", 1)):
        if cap is None:
            continue
        worst, limit = (spending.day, spending.month)[place], parse_money(cap)
        length = _LENGTHS[place][1]
        if worst.lacks is not None:
            message = f"without `{worst.lacks}` the spending of the task's triggers {length} has no limit: {_allowed(key, cap)}"
            yield task.at(code, message, (worst.lacks,), key=True, hint=_cure(task, limit, place, worst)[1])
        elif worst.usd is not None and worst.usd > limit:
            message = f"the task's triggers may spend {dollars(worst.usd)} {length}, but {_allowed(key, cap)}"
            message = f"{message}: {_account(task, spending, place)}"
            route, hint = _cure(task, limit, place, worst)
            yield task.at(code, message, route, hint=hint)


def _allowed(key: str, cap: str) -> str:
    return f"the policy allows at most ${cap} (`ceilings.{key}`)"


def _account(task: ResolvedTask, spending: Spending, place: int) -> str:
    """Return the calculation behind the amount, for the message."""
    spec, worst = task.spec, (spending.day, spending.month)[place]
    call = max_call_usd(spec)
    run = f"at {dollars(spec.budget_limit or ZERO_USD)}" + (f" and one call of the model at {dollars(call)}" if call else "")
    if worst.limited:
        return f"{worst.runs:,} start{'s' * (worst.runs != 1)} by `startLimit` {run}"
    fires = spending.fires[place]
    missed = max_catch_up_fires(spec, fires)
    catch_up = f" and {missed:,} that may be caught up" if missed else ""
    return f"{fires:,} fire{'s' * (fires != 1)}{_clocks(spec.schedule, fires, place)}{catch_up} {run}"


def _clocks(schedule: ScheduleTrigger | None, fires: int, place: int) -> str:
    """Return a note on how many fires there would be without changes of the clocks, if the number differs."""
    even = None if schedule is None else _fires(schedule.replace(config=schedule.config.replace(timezone="UTC")))
    if even is None or even[place] == fires:
        return ""
    return f" ({even[place]:,} without a change of clocks)"


def _cure(task: ResolvedTask, limit: Decimal, place: int, worst: WorstCase) -> tuple[Route, str]:
    """Return the route of the value to change, and the hint: the number of starts if the amount pays for one a day, else the
    budget."""
    run = max_run_usd(task.spec)
    if run is None:
        return ("budgetUsd",), 'add `budgetUsd: "1.00"`, or what a run may cost'
    days = _LENGTHS[place][0].days
    count = min(int(limit / (run * days)), _MAX_STARTS) if run else 0
    if not count:
        return ("budgetUsd",), f"write a smaller `budgetUsd`, start it less often, or ask the owner of `{POLICY}`"
    hint = f"write `startLimit: {{count: {count}, per: 24h}}`, a smaller `budgetUsd`, or ask the owner of `{POLICY}`"
    schedule = next((index for index, trigger in enumerate(task.spec.triggers) if isinstance(trigger, ScheduleTrigger)), None)
    if worst.limited:
        return ("startLimit", "count"), hint
    if schedule is None or max_catch_up_fires(task.spec, 1):
        return ("budgetUsd",), hint
    often = f"let it fire at most {f'{count} times' if count > 1 else 'once'} in 24 hours"
    return ("triggers", schedule, "config", "cronExpression"), f"{often}, {hint}"
