"""What a task may be expected to spend: by what its runs of the last 30 days cost, and how often it will be started."""

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
    """Runs of a task that began within `over`, 30 days or less where there were very many: their number by what triggered them,
    how many of them wait or run, what those cost of which it is known, and the shortest time that one took."""

    triggered: Mapping[str, int] = field(default_factory=dict)
    active: int = 0
    costs: tuple[Decimal, ...] = ()
    shortest: timedelta | None = None
    over: timedelta = HORIZON

    @property
    def runs(self) -> int:
        """All of them."""
        return sum(self.triggered.values())

    @property
    def mean(self) -> Decimal | None:
        """What a run cost; None where nobody knows."""
        return sum(self.costs, Decimal(0)) / len(self.costs) if self.costs else None

    def in_horizon(self, *triggers: str) -> int:
        """How many runs these would start in 30 days if they went on as they did."""
        return round(sum(self.triggered.get(each, 0) for each in triggers) * (HORIZON / self.over))


def add_recent_runs(plan: Plan, past: Mapping[str, RunHistory]) -> Plan:
    """The plan, with the runs of tasks that go; `past` is by the ids before the change."""
    return replace(plan, changes=tuple(_add_recent_runs(change, past) for change in plan.changes))


def _add_recent_runs(change: TaskChange, past: Mapping[str, RunHistory]) -> TaskChange:
    known = past.get(change.task.id)
    if change.after is not None or known is None or not known.runs:
        return change
    line = (
        f"{pluralize(known.runs, 'run')} began in the last {_days_text(known.over)}; {known.active:,} of them wait or run now"
    )
    return replace(change, effects=tuple(_append_line(each, line) for each in change.effects))


def _append_line(effect: Effect, line: str) -> Effect:
    return replace(effect, lines=(*effect.lines, line)) if effect.kind is EffectKind.TASK_REMOVED else effect


def add_expected_spend(plan: Plan, past: Mapping[str, RunHistory]) -> Plan:
    """The plan, with what each changed task may be expected to spend."""
    return replace(plan, changes=tuple(_add_expected_spend(change, past, plan.outlook) for change in plan.changes))


def _add_expected_spend(change: TaskChange, past: Mapping[str, RunHistory], outlook: Forecast) -> TaskChange:
    known = past.get(change.before.id) if change.before is not None else None
    if known is None:
        return change
    return replace(change, expected=expected_spend(change.before, change.after, known, outlook))


def expected_spend(before: CompiledTask | None, after: CompiledTask | None, past: RunHistory, outlook: Forecast) -> str:
    """In a sentence. A schedule starts what it will; webhooks and people go on as they did."""
    was, now = _expected_starts(before, past, outlook), _expected_starts(after, past, outlook)
    runs = f"{pluralize(was, 'run')} -> {now:,}"
    if past.mean is None:
        return f"expected in 30 days: {runs}; what one costs is not known"
    money = f"{_usd_text(was * past.mean)} -> {_usd_text(now * past.mean)}"
    each = f"{_usd_text(past.mean)} each, as {pluralize(len(past.costs), 'run')} cost in the last {_days_text(past.over)}"
    return f"expected in 30 days: {money} ({runs}, at {each})"


def _expected_starts(task: CompiledTask | None, past: RunHistory, outlook: Forecast) -> int:
    if task is None:
        return 0
    count = fires_of(task, outlook).count + past.in_horizon("manual")
    if hooks.config_of(task) is not None:
        count += past.in_horizon("webhook", "replay")
    if task.spec.start_limit is not None:
        count = min(count, task.spec.start_limit.count * -(-HORIZON // task.spec.start_limit.window))
    # Measured, not promised: so many runs one after the other, each as short as the shortest was.
    if past.shortest:
        count = min(count, task.spec.max_concurrent * (HORIZON // past.shortest + 1))
    return count


def _days_text(over: timedelta) -> str:
    return pluralize(max(1, round(over / timedelta(days=1))), "day")


def _usd_text(usd: Decimal) -> str:
    return amount(usd.quantize(Decimal("0.01") if usd >= 1 or not usd else Decimal("0.0001")))
