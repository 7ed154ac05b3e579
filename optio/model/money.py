"""What runs may cost: what is left of a run's budget, and the most that a task's triggers may spend by its file.

A budget is a run's: all its attempts draw from it. What a call of a model costs is known when the call is over, so a run may
spend one call more than its budget.

The worst case counts the runs that a schedule or a webhook starts within a length of time, each at its whole budget and that
call. With `misfire: all` times that were missed before may come within it as well, as many as `maxCatchUp`. It does not count:
runs that people and programs start or retry by hand; runs that waited since before, in a queue or for a paused task, and with
`misfire: last` the one that was missed, which count when they were due; and what broken calls cost that no agent reported.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from optio.model import prices
from optio.model.task import StartLimit, TaskSpec

DAY, MONTH = timedelta(days=1), timedelta(days=30)
ZERO_USD = Decimal(0)
# What a webhook without a limit is advised to have.
PROPOSED_LIMIT = StartLimit(count=50, per="24h")
PROPOSED_TEXT = f"startLimit: {{count: {PROPOSED_LIMIT.count}, per: {PROPOSED_LIMIT.per}}}"


_CENT = Decimal("0.01")


def dollars(amount: Decimal) -> str:
    """Write an amount as people do, `$3.00`, and with all of its digits where it has more than cents."""
    exponent = amount.as_tuple().exponent
    return f"${amount.quantize(_CENT) if isinstance(exponent, int) and exponent > -2 else amount:f}"


def remaining_budget(spec: TaskSpec, spent: Decimal) -> Decimal | None:
    """What is left of a run's budget; None without a budget."""
    return None if spec.budget is None else max(spec.budget - spent, ZERO_USD)


def is_spent(budget: Decimal | None, spent: Decimal) -> bool:
    """Whether nothing is left for another attempt. What costs nothing needs nothing."""
    return budget is not None and spent > 0 and spent >= budget


def max_call_usd(spec: TaskSpec) -> Decimal | None:
    """The most that one call of the task's model costs; None where that is not known, and for programs of one's own."""
    return None if spec.agent_runtime == "command" or spec.model is None else prices.max_call_cost(spec.model)


def max_run_usd(spec: TaskSpec) -> Decimal | None:
    """What one run may cost with all its attempts; None without a budget. Programs of one's own count as agents do."""
    return None if spec.budget is None else spec.budget + (max_call_usd(spec) or ZERO_USD)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """Of the runs that triggers start within a length of time those that have a bound, and the US dollars that they cost.

    `usd` is None where a run has no budget. `lacks` is the key without which the file sets no bound: `budgetUsd`, or
    `startLimit` of a webhook, whose senders then start as many runs as they like. `limited` says that `startLimit` is what
    bounds the runs.
    """

    runs: int
    usd: Decimal | None
    lacks: str | None = None
    limited: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether no trigger starts anything."""
        return not self.runs and self.lacks is None


def max_catch_up_fires(spec: TaskSpec, fires: int) -> int:
    """The most missed times that may come beside so many fires."""
    if not fires or spec.schedule is None or spec.schedule.config.misfire != "all":
        return 0
    return spec.schedule.config.max_catch_up


def worst_case(spec: TaskSpec, *, fires: int, over: timedelta) -> WorstCase:
    """The worst case of a task whose schedule fires so often within `over` at most."""
    scheduled = spec.enabled and spec.schedule is not None and spec.schedule.enabled
    called = spec.enabled and spec.webhook is not None and spec.webhook.enabled
    runs = fires + max_catch_up_fires(spec, fires) if scheduled else 0
    limited = False
    if spec.start_limit is not None and (runs or called):
        # Of a window that is counted anywhere, so many lie in the time, and a retry is a start like any other.
        most = spec.start_limit.count * -(-over // spec.start_limit.window)
        limited = called or most < runs
        runs = most if called else min(runs, most)
    run = max_run_usd(spec)
    unlimited = called and spec.start_limit is None
    if run is None and (runs or unlimited):
        return WorstCase(runs=runs, usd=None, lacks="budgetUsd", limited=limited)
    return WorstCase(runs=runs, usd=runs * (run or ZERO_USD), lacks="startLimit" if unlimited else None, limited=limited)
