"""The likely spend of a task: the cost of its runs of the last 30 days, times the number of starts to expect. Needs a
server."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal

from optio.model.effect import EffectKind
from optio.model.registry import CompiledTask
from optio.plan import hooks
from optio.plan.compare import Plan, TaskChange
from optio.plan.effect import HORIZON, Effect, Forecast
from optio.plan.fires import fires_of
from optio.plan.words import amount, pluralize


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """A task's runs that began within `over` (30 days, or less if there were very many): their number by trigger, how many wait
    or run (`active`), the known costs, and the shortest duration."""

    triggered: Mapping[str, int] = field(default_factory=dict)
    active: int = 0
    costs: tuple[Decimal, ...] = ()
    shortest: timedelta | None = None
    over: timedelta = HORIZON

    @property
    def runs(self) -> int:
        """The number of runs, whatever started them."""
        return sum(self.triggered.values())

    @property
    def mean(self) -> Decimal | None:
        """The mean cost of a run in USD; None when no cost is known."""
        return sum(self.costs, Decimal(0)) / len(self.costs) if self.costs else None

    def in_horizon(self, *triggers: str) -> int:
        """Return how many runs these triggers would start in 30 days at the same rate."""
        return round(sum(self.triggered.get(trigger, 0) for trigger in triggers) * (HORIZON / self.over))


def add_recent_runs(plan: Plan, past: Mapping[str, RunHistory]) -> Plan:
    """Return the plan with the recent runs of each removed task as a line; `past` is keyed by the ids before the change."""
    return replace(plan, changes=tuple(_add_recent_runs(change, past) for change in plan.changes))


def _add_recent_runs(change: TaskChange, past: Mapping[str, RunHistory]) -> TaskChange:
    task_past = past.get(change.task.id)
    if change.after is not None or task_past is None or not task_past.runs:
        return change
    starts = f"{pluralize(task_past.runs, 'run')} began in the last {_days_text(task_past.over)}"
    line = f"{starts}; {task_past.active:,} of them wait or run now"
    return replace(change, effects=tuple(_append_line(effect, line) for effect in change.effects))


def _append_line(effect: Effect, line: str) -> Effect:
    return replace(effect, lines=(*effect.lines, line)) if effect.kind is EffectKind.TASK_REMOVED else effect


def add_expected_spend(plan: Plan, past: Mapping[str, RunHistory]) -> Plan:
    """Return the plan with a sentence about the expected spend for each changed task that has a history."""
    return replace(plan, changes=tuple(_add_expected_spend(change, past, plan.outlook) for change in plan.changes))


def _add_expected_spend(change: TaskChange, past: Mapping[str, RunHistory], outlook: Forecast) -> TaskChange:
    task_past = past.get(change.before.id) if change.before is not None else None
    if task_past is None:
        return change
    return replace(change, expected=expected_spend(change.before, change.after, task_past, outlook))


def expected_spend(before: CompiledTask | None, after: CompiledTask | None, past: RunHistory, outlook: Forecast) -> str:
    """Describe the expected spend in a sentence. Fires of schedules are counted; webhooks and people are taken to go on as
    before."""
    was, now = _expected_starts(before, past, outlook), _expected_starts(after, past, outlook)
    runs = f"{pluralize(was, 'run')} -> {now:,}"
    if past.mean is None:
        return f"expected in 30 days: {runs}; the cost of a run is unknown"
    money = f"{_usd_text(was * past.mean)} -> {_usd_text(now * past.mean)}"
    mean_text = f"{_usd_text(past.mean)} each, as {pluralize(len(past.costs), 'run')} cost in the last {_days_text(past.over)}"
    return f"expected in 30 days: {money} ({runs}, at {mean_text})"


def _expected_starts(task: CompiledTask | None, past: RunHistory, outlook: Forecast) -> int:
    if task is None:
        return 0
    count = fires_of(task, outlook).count + past.in_horizon("manual")
    if hooks.config_of(task) is not None:
        count += past.in_horizon("webhook", "replay")
    if task.spec.start_limit is not None:
        count = min(count, task.spec.start_limit.count * -(-HORIZON // task.spec.start_limit.window))
    # An upper bound by measurement: runs back to back, each as short as the shortest one.
    if past.shortest:
        count = min(count, task.spec.max_concurrent * (HORIZON // past.shortest + 1))
    return count


def _days_text(over: timedelta) -> str:
    return pluralize(max(1, round(over / timedelta(days=1))), "day")


def _usd_text(usd: Decimal) -> str:
    return amount(usd.quantize(Decimal("0.01") if usd >= 1 or not usd else Decimal("0.0001")))
