"""What a task's triggers may spend at the worst, in any 24 hours and in any 30 days of so many.

What is counted and what is not is said in `optio.model.money`.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from optio.model.bound import most
from optio.model.effect import Kind, Weight
from optio.model.money import DAY, MONTH, NOTHING, Worst, a_run, deliveries_within, worst
from optio.model.registry import CompiledTask
from optio.model.trigger import ScheduleConfig
from optio.plan import hooks
from optio.plan.effect import Effect, Outlook
from optio.plan.fires import config_of
from optio.plan.words import amount, number


@dataclass(frozen=True, slots=True)
class Spend:
    """The worst of a day and of 30 days, and of 30 days in which no webhook is called. A program without a budget is not
    `counted`, for it need not cost anything."""

    day: Worst
    month: Worst
    scheduled: Worst
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Total:
    """The worst of several tasks together: what has a bound as a sum, what of it schedules alone may spend in a month, and the
    ids of the tasks that have no bound."""

    day: Decimal = NOTHING
    month: Decimal = NOTHING
    scheduled: Decimal = NOTHING
    unbounded: frozenset[str] = frozenset()

    def __str__(self) -> str:
        if not self.unbounded:
            return f"{amount(self.month)} a month"
        without = f"no bound for {number(len(self.unbounded), 'task')}"
        return f"{amount(self.month)} a month and {without}" if self.month else without


def spend(task: CompiledTask | None, outlook: Outlook) -> Spend:
    """Nothing for a task that is not there."""
    if task is None:
        return _NONE
    day, month = _fires(config_of(task))
    rate = outlook.rate_per_minute
    return Spend(
        worst(task.spec, fires=day, deliveries=deliveries_within(rate, DAY), over=DAY),
        worst(task.spec, fires=month, deliveries=deliveries_within(rate, MONTH), over=MONTH),
        worst(task.spec, fires=month, deliveries=0, over=MONTH),
        counted=task.spec.budget is not None or task.spec.agent_runtime != "command",
    )


_NOTHING = Worst(runs=0, attempts=0, usd=NOTHING)
_NONE = Spend(_NOTHING, _NOTHING, _NOTHING)


def _fires(config: ScheduleConfig | None) -> tuple[int, int]:
    """In 24 hours and in 30 days."""
    if config is None:
        return 0, 0
    day, month = (most(config.cron_expression, config.timezone, length.days) for length in (DAY, MONTH))
    return day, month


def unbound(before: CompiledTask | None, after: CompiledTask | None) -> bool:
    """Whether a program had a budget that it has no more: then it counts, for somebody knew that it costs something."""
    return (
        before is not None
        and after is not None
        and before.spec.budget is not None
        and after.spec.budget is None
        and after.spec.agent_runtime == "command"
    )


def total(tasks: Iterable[CompiledTask], outlook: Outlook, unbound: Collection[str] = ()) -> Total:
    """Of all tasks of a tree; of programs without a budget, only those of these ids."""
    spends = {task.id: spend(task, outlook) for task in tasks}
    found = {task_id: each for task_id, each in spends.items() if each.counted or task_id in unbound}
    return Total(
        day=_sum(each.day for each in found.values()),
        month=_sum(each.month for each in found.values()),
        scheduled=_sum(each.scheduled for each in found.values()),
        unbounded=frozenset(task_id for task_id, each in found.items() if each.month.usd is None),
    )


def _sum(parts: Iterable[Worst]) -> Decimal:
    return sum((each.usd for each in parts if each.usd is not None), NOTHING)


def effects(before: CompiledTask | None, after: CompiledTask | None, outlook: Outlook) -> Iterator[Effect]:
    """The worst case, if it is another."""
    old, new = spend(before, outlook), spend(after, outlook)
    if not old.counted and (after is None or after.spec.agent_runtime != "command"):
        old = _NONE
    if not new.counted and not unbound(before, after):
        new = _NONE if old.counted else old
    if (old.day.usd, old.month.usd) == (new.day.usd, new.month.usd):
        return
    up = _is_up(old, new)
    was, now = amount(old.month.usd), amount(new.month.usd)
    text = f"worst case in 30 days: {was} -> {now}; in 24 hours: {amount(old.day.usd)} -> {amount(new.day.usd)}"
    yield Effect(
        kind=Kind.MONEY_UP if up else Kind.MONEY_DOWN,
        text=text,
        weight=_weight(before, old, new) if up else Weight.INFO,
        before=was,
        after=now,
        lines=(*_apart(old, new), *_account(before, after, new, outlook)),
        route=("budgetUsd",),
    )


def _apart(old: Spend, new: Spend) -> Iterator[str]:
    """Of a task that strangers may start too, what comes of itself."""
    webhooks = any(each.scheduled.runs and each.scheduled.usd != each.month.usd for each in (old, new))
    if webhooks and old.scheduled.usd != new.scheduled.usd:
        yield f"of it by its schedule alone: {amount(old.scheduled.usd)} -> {amount(new.scheduled.usd)}"


def _is_up(old: Spend, new: Spend) -> bool:
    for was, now in ((old.month.usd, new.month.usd), (old.day.usd, new.day.usd)):
        if was != now:
            return now is None or (was is not None and now > was)
    return False


def _weight(before: CompiledTask | None, old: Spend, new: Spend) -> Weight:
    """What has no bound any more, or is twice as much."""
    if new.month.usd is None:
        return Weight.DANGER
    if before is None or not old.month.usd:
        return Weight.NOTICE
    return Weight.DANGER if new.month.usd >= 2 * old.month.usd else Weight.NOTICE


def _account(before: CompiledTask | None, task: CompiledTask | None, new: Spend, outlook: Outlook) -> Iterator[str]:
    """How it comes to that."""
    if task is None or not new.month.runs:
        return
    sources = []
    config = config_of(task)
    if config is not None:
        sources.append(number(_fires(config)[1], "fire"))
    if hooks.config_of(task) is not None:
        many = deliveries_within(outlook.rate_per_minute, MONTH)
        sources.append(f"{number(many, 'delivery', 'deliveries')} at {outlook.rate_per_minute} a minute")
    spec = task.spec
    what = f"at most {' and '.join(sources)} in any 30 days"
    if spec.max_retries:
        what += f", each with {number(spec.max_retries, 'retry', 'retries')}"
    if new.month.limited and spec.start_limit is not None:
        what += f"; of these attempts `startLimit` lets {new.month.attempts:,} start"
    else:
        what += f": {number(new.month.attempts, 'attempt')}"
    yield what
    if config is not None:
        yield from _clocks(config)
    if spec.budget is None:
        yield "no `budgetUsd`: an attempt may cost whatever it comes to"
    else:
        # Of a new task, and where it is another, this stands above.
        same = before is not None and a_run(before.spec) == a_run(spec)
        yield f"each attempt at most {amount(spec.budget)}" + (f"; by hand a run at most {amount(a_run(spec))}" if same else "")


def _clocks(config: ScheduleConfig) -> Iterator[str]:
    """What of it comes when clocks are set, and on no other day."""
    even, odd = _fires(config.but(timezone="UTC")), _fires(config)
    if odd != even:
        fires = f"{number(odd[0], 'fire')} in 24 hours and {odd[1]:,} in 30 days"
        yield f"{fires} may come when the clocks of {config.timezone} are set: else {even[0]:,} and {even[1]:,}"
