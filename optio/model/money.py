"""Costs of runs: the rest of a run's budget, and the most that a task's triggers may spend according to its file.

A budget belongs to a run: all its attempts draw from it. The cost of a model call is known only when the call is over, so a run
may spend one call more than its budget.

The worst case counts the runs that a schedule or a webhook starts within a length of time, each with its whole budget and that
one call. With `misfire: all` up to `maxCatchUp` missed times are added. It does not count: runs that people and programs start
or retry by hand; runs that waited since before, in a queue or for a paused task, and with `misfire: last` the one that was
missed, which count when they were due; and the cost of broken calls that no agent reported.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal

from optio.model import prices
from optio.model.task import StartLimit, TaskSpec

DAY, MONTH = timedelta(days=1), timedelta(days=30)
ZERO_USD = Decimal(0)
# The limit that diagnostics propose for a webhook without one.
PROPOSED_LIMIT = StartLimit(count=50, per="24h")
PROPOSED_TEXT = f"startLimit: {{count: {PROPOSED_LIMIT.count}, per: {PROPOSED_LIMIT.per}}}"


_CENT = Decimal("0.01")


def dollars(amount: Decimal, *, exact: bool = False) -> str:
    """Return an amount as people write it: `$1,234.50`. From a dollar on, parts of a cent are rounded up, because most amounts
    are the most of something; less than a dollar, or `exact`, has all its digits."""
    shown = amount.quantize(_CENT, ROUND_CEILING) if amount >= 1 and not exact else amount.normalize()
    exponent = shown.as_tuple().exponent
    return f"${shown.quantize(_CENT) if isinstance(exponent, int) and exponent > -2 else shown:,f}"


def remaining_budget(spec: TaskSpec, spent: Decimal) -> Decimal | None:
    """Return the US dollars left of a run's budget after `spent`, never below zero; None for a task without a budget."""
    return None if spec.budget is None else max(spec.budget - spent, ZERO_USD)


def is_spent(budget: Decimal | None, spent: Decimal) -> bool:
    """Return whether nothing is left of the budget for another attempt. Attempts that cost nothing may go on with a budget of
    zero."""
    return budget is not None and spent > 0 and spent >= budget


def max_call_usd(spec: TaskSpec) -> Decimal | None:
    """Return the most that one call of the task's model costs; None where the model's price is unknown, and for `command`
    tasks."""
    return None if spec.agent_runtime == "command" or spec.model is None else prices.max_call_cost(spec.model)


def max_run_usd(spec: TaskSpec) -> Decimal | None:
    """Return the most that one run may cost with all its attempts: the budget and one call. None without a budget. `command`
    tasks count like agents."""
    return None if spec.budget is None else spec.budget + (max_call_usd(spec) or ZERO_USD)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """The most that the triggers of a task may start and spend within a length of time.

    `runs` counts the runs that have a bound and `usd` is their cost, None where a run has no budget. `lacks` is the key without
    which the file sets no bound: `budgetUsd`, or `startLimit` of a webhook, whose senders then start as many runs as they like.
    `limited` says that `startLimit` is what bounds the runs.
    """

    runs: int
    usd: Decimal | None
    lacks: str | None = None
    limited: bool = False

    @property
    def is_nothing(self) -> bool:
        """Return whether no trigger starts anything, so that reports can leave the task out."""
        return not self.runs and self.lacks is None


def max_catch_up_fires(spec: TaskSpec, fires: int) -> int:
    """Return the most missed fires that `misfire: all` may add to `fires` regular ones."""
    if not fires or spec.schedule is None or spec.schedule.config.misfire != "all":
        return 0
    return spec.schedule.config.max_catch_up


def worst_case(spec: TaskSpec, *, fires: int, over: timedelta) -> WorstCase:
    """Return the worst case of a task whose schedule fires at most `fires` times within `over`; the caller counts them with
    `scheduling.max_fires`."""
    scheduled = spec.enabled and spec.schedule is not None and spec.schedule.enabled
    called = spec.enabled and spec.webhook is not None and spec.webhook.enabled
    runs = fires + max_catch_up_fires(spec, fires) if scheduled else 0
    limited = False
    if spec.start_limit is not None:
        # The limit holds in every window, so this many starts fit into the time; a retry is a start like any other.
        most = spec.start_limit.count * -(-over // spec.start_limit.window)
        limited = called or most < runs
        runs = most if called else min(runs, most)
    run = max_run_usd(spec)
    unlimited = called and spec.start_limit is None
    if run is None and (runs or unlimited):
        return WorstCase(runs=runs, usd=None, lacks="budgetUsd", limited=limited)
    return WorstCase(runs=runs, usd=runs * (run or ZERO_USD), lacks="startLimit" if unlimited else None, limited=limited)
