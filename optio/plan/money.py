"""Effects on the worst case: the most that a task's triggers may spend in any 24 hours and in any 30 days. `optio.model.money`
defines what counts."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from optio.model.effect import EffectKind, EffectWeight
from optio.model.money import (
    DAY,
    MONTH,
    PROPOSED_LIMIT,
    PROPOSED_TEXT,
    ZERO_USD,
    WorstCase,
    max_call_usd,
    max_catch_up_fires,
    max_run_usd,
    worst_case,
)
from optio.model.policy import Fleet
from optio.model.registry import CompiledTask
from optio.model.text import parse_money
from optio.model.trigger import ScheduleConfig
from optio.plan import hooks
from optio.plan.effect import Effect, Forecast
from optio.plan.fires import config_of
from optio.plan.words import amount, brief, listed, pluralize
from optio.scheduling import max_fires

_MAX_NAMES = 3


@dataclass(frozen=True, slots=True)
class TaskSpend:
    """The worst case of one task. A `command` task without a budget is not `counted`: it may well cost nothing."""

    day: WorstCase
    month: WorstCase
    counted: bool = True

    @property
    def bound(self) -> Decimal | None:
        """The bound on 30 days in USD; None if there is none."""
        return None if self.month.lacks else self.month.usd


@dataclass(frozen=True, slots=True)
class TotalSpend:
    """The worst case of several tasks: the sum of those with a bound, and for each task without one the key that it lacks, by
    id."""

    day: Decimal = ZERO_USD
    month: Decimal = ZERO_USD
    lacking: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.lacking:
            return f"{amount(self.month)} a month"
        without = f"no bound for {pluralize(len(self.lacking), 'task')}"
        return f"{amount(self.month)} a month and {without}" if self.month else without

    @property
    def cure(self) -> str:
        """The keys to write, such as `budgetUsd`, for the tasks without a bound."""
        cures = []
        for key, text in (("budgetUsd", "budgetUsd"), ("startLimit", PROPOSED_TEXT)):
            ids = sorted(task_id for task_id, lacks in self.lacking.items() if lacks == key)
            if ids:
                cures.append(f"`{text}` for {listed(ids, _MAX_NAMES)}")
        return " and ".join(cures)


def task_spend(task: CompiledTask | None) -> TaskSpend:
    """Return the worst case of a task; zero for None."""
    if task is None:
        return _NO_SPEND
    day, month = _fires(config_of(task))
    return TaskSpend(
        worst_case(task.spec, fires=day, over=DAY),
        worst_case(task.spec, fires=month, over=MONTH),
        counted=task.spec.budget_limit is not None or task.spec.agent_runtime != "command",
    )


_NO_RUNS = WorstCase(runs=0, usd=ZERO_USD)
_NO_SPEND = TaskSpend(_NO_RUNS, _NO_RUNS)


def _fires(config: ScheduleConfig | None) -> tuple[int, int]:
    """Return the most fires in any 24 hours and in any 30 days."""
    if config is None:
        return 0, 0
    day, month = (max_fires.max_fires(config.cron_expression, config.timezone, length.days) for length in (DAY, MONTH))
    return day, month


def lost_budget(before: CompiledTask | None, after: CompiledTask | None) -> bool:
    """Return whether a `command` task lost its budget: having had one shows that it costs something, so it counts."""
    return (
        before is not None
        and after is not None
        and before.spec.budget_limit is not None
        and after.spec.budget_limit is None
        and after.spec.agent_runtime == "command"
    )


def total_spend(tasks: Iterable[CompiledTask], unbound: Collection[str] = ()) -> TotalSpend:
    """Return the worst case of a tree. Of `command` tasks without a budget, only those with an id in `unbound` count."""
    spends = {task.id: task_spend(task) for task in tasks}
    counted_spends = {task_id: spend for task_id, spend in spends.items() if spend.counted or task_id in unbound}
    return TotalSpend(
        day=_sum(spend.day for spend in counted_spends.values()),
        month=_sum(spend.month for spend in counted_spends.values()),
        lacking={task_id: spend.month.lacks for task_id, spend in counted_spends.items() if spend.month.lacks is not None},
    )


def _sum(parts: Iterable[WorstCase]) -> Decimal:
    return sum((part.usd for part in parts if part.usd is not None), ZERO_USD)


def fleet_effects(before: tuple[TotalSpend, Fleet], after: tuple[TotalSpend, Fleet]) -> Iterator[Effect]:
    """Yield totals beyond the policy's fleet limits, if they grew or were within the limits before."""
    (old, was), (new, now) = before, after
    for key, length, limits, spends in (
        ("dayUsd", "in 24 hours", (was.day_usd, now.day_usd), (old.day, new.day)),
        ("monthUsd", "in 30 days", (was.month_usd, now.month_usd), (old.month, new.month)),
    ):
        limit = None if limits[1] is None else parse_money(limits[1])
        if limit is None:
            continue
        is_new = limits[0] is None or spends[0] <= parse_money(limits[0])
        if spends[1] > limit and (is_new or spends[1] > spends[0]):
            text = f"all triggers together may spend {amount(spends[1])} {length}: `fleet.{key}` allows {amount(limit)}"
            yield _fleet_excess(text, amount(spends[0]), amount(spends[1]), key)
        unbounded = sorted(set(new.lacking) - (set(old.lacking) if limits[0] is not None else set()))
        if unbounded:
            text = f"unbounded spend of {listed(unbounded, _MAX_NAMES)} {length}: `fleet.{key}` allows {amount(limit)}"
            yield _fleet_excess(text, str(old), str(new), key)


def _fleet_excess(text: str, was: str, now: str, key: str) -> Effect:
    return Effect(kind=EffectKind.MONEY_UP, text=text, weight=EffectWeight.DANGER, before=was, after=now, route=("fleet", key))


def effects(before: CompiledTask | None, after: CompiledTask | None, outlook: Forecast) -> Iterator[Effect]:
    """Yield the worst case of one task if it differs."""
    old, new = task_spend(before), task_spend(after)
    if not old.counted and (after is None or after.spec.agent_runtime != "command"):
        old = _NO_SPEND
    if not new.counted and not lost_budget(before, after):
        new = _NO_SPEND if old.counted else old
    if _figures(old) == _figures(new):
        return
    up = _has_risen(old, new)
    was, now = _worst_text(old.month), _worst_text(new.month)
    text = f"worst case in 30 days: {was} -> {now}; in 24 hours: {_worst_text(old.day)} -> {_worst_text(new.day)}"
    yield Effect(
        kind=EffectKind.MONEY_UP if up else EffectKind.MONEY_DOWN,
        text=text,
        weight=_weight(old, new, outlook.new_month_usd) if up else EffectWeight.INFO,
        before=was,
        after=now,
        lines=tuple(_spend_breakdown(after, new)),
        route=("startLimit",) if new.month.lacks == "startLimit" else ("budgetUsd",),
    )


def _figures(spend: TaskSpend) -> tuple[object, ...]:
    return spend.month.lacks, spend.day.usd, spend.month.usd


def _worst_text(worst: WorstCase) -> str:
    """Return `no bound, $40.00 by its schedule` if only deliveries have no bound."""
    if worst.lacks is None:
        return amount(worst.usd)
    return f"no bound, {amount(worst.usd)} by its schedule" if worst.usd else "no bound"


def _has_risen(old: TaskSpend, new: TaskSpend) -> bool:
    if old.month.lacks != new.month.lacks:
        # A missing budget is worse than a missing start limit.
        order = (None, "startLimit", "budgetUsd")
        return order.index(new.month.lacks) > order.index(old.month.lacks)
    for was, now in ((old.month.usd, new.month.usd), (old.day.usd, new.day.usd)):
        if was != now:
            return now is None or (was is not None and now > was)
    return False


def _weight(old: TaskSpend, new: TaskSpend, limit: Decimal) -> EffectWeight:
    """Return DANGER for a lost bound, for twice as much as before, and for more than `most` where nothing was spent."""
    if new.month.lacks == "budgetUsd" or new.bound is None:
        return EffectWeight.DANGER
    limit = 2 * old.month.usd if old.month.usd else limit
    return EffectWeight.DANGER if new.bound >= limit else EffectWeight.NOTICE


def _spend_breakdown(task: CompiledTask | None, new: TaskSpend) -> Iterator[str]:
    """Yield the lines that explain the worst case."""
    if task is None or new.month.is_nothing:
        return
    spec, config = task.spec, config_of(task)
    sources = [] if config is None else [f"at most {pluralize(_fires(config)[1], 'fire')}"]
    if hooks.config_of(task) is not None:
        sources.append("any number of deliveries")
    limit = f"; `startLimit` lets {pluralize(new.month.runs, 'run')} start" if new.month.limited else ""
    yield f"{' and '.join(sources)} in any 30 days{limit}"
    if config is not None:
        yield from _clock_change_text(config)
    if config is not None and (missed := max_catch_up_fires(spec, _fires(config)[1])):
        yield f"{pluralize(missed, 'time')} missed before may be caught up in them: `misfire: all`"
    if spec.budget_limit is None:
        yield "no `budgetUsd`: the cost of a run is unbounded"
        return
    yield f"each run at most {_run_cost_text(task)}"
    if new.month.lacks == "startLimit":
        usd = worst_case(spec.replace(start_limit=PROPOSED_LIMIT), fires=0, over=MONTH).usd
        yield f"no bound: write `{PROPOSED_TEXT}` for at most {amount(usd)} in 30 days"


def _run_cost_text(task: CompiledTask) -> str:
    """Describe the budget of a run, and how far one model call may exceed it."""
    spec, call = task.spec, max_call_usd(task.spec)
    if spec.agent_runtime == "command":
        return amount(spec.budget_limit)
    if call is None:
        reason = "no `model` is named" if spec.model is None else f"the price of `{brief(spec.model)}` is unknown"
        return f"{amount(spec.budget_limit)}, plus one model call, which is not counted: {reason}"
    return (
        f"{amount(max_run_usd(spec))}: its budget of {amount(spec.budget_limit)}, and one call of the model at {amount(call)}"
    )


def _clock_change_text(config: ScheduleConfig) -> Iterator[str]:
    """Yield a line if the days of a clock change have more fires than any other day."""
    even, odd = _fires(config.replace(timezone="UTC")), _fires(config)
    if odd != even:
        fires = f"{pluralize(odd[0], 'fire')} in 24 hours and {odd[1]:,} in 30 days"
        yield f"{fires} are possible around clock changes of {config.timezone}, otherwise {even[0]:,} and {even[1]:,}"
