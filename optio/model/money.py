"""Costs of runs: the rest of a run's budget, and the most that a task's triggers may spend according to its file.

A budget belongs to a run: all its attempts draw from it. The cost of a model call is known only when the call is over, so a run
may spend one call more than its budget.

The worst case counts the runs that a schedule or a webhook starts within a length of time, each with its whole budget and that
one call. With `misfire: all` up to `maxCatchUp` missed times are added. It does not count: runs that people and programs start
or retry by hand; runs that waited since before, in a queue or for a paused task, and with `misfire: last` the one that was
missed, which count when they were due; and the cost of broken calls that no agent reported.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal

from optio.model import prices
from optio.model.runtimes import DECLARED, declaration_of
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
    rounded = amount.quantize(_CENT, ROUND_CEILING) if amount >= 1 and not exact else amount.normalize()
    exponent = rounded.as_tuple().exponent
    return f"${rounded.quantize(_CENT) if isinstance(exponent, int) and exponent > -2 else rounded:,f}"


@dataclass(frozen=True, slots=True)
class RunBudget:
    """The budget of a run: its limit in US dollars, None for none, and what its ended attempts have spent of it. With
    `is_enforced` nothing is spent that cannot be counted; `is_unknown` says that an attempt has spent such an amount."""

    limit: Decimal | None = None
    spent: Decimal = ZERO_USD
    is_enforced: bool = True
    is_unknown: bool = False

    @classmethod
    def of(cls, spec: TaskSpec, spent: Decimal = ZERO_USD) -> "RunBudget":
        """Return the budget of a task's run whose ended attempts have `spent` so much."""
        return cls(spec.budget_limit, spent, is_enforced=spec.budget_limit is not None and spec.budget != "report")

    @property
    def left(self) -> Decimal | None:
        """Return the US dollars that are left, never below zero; None without a limit."""
        return None if self.limit is None else max(self.limit - self.spent, ZERO_USD)

    @property
    def is_spent(self) -> bool:
        """Return whether nothing is left for another attempt. Attempts that cost nothing may go on with a budget of zero."""
        return self.limit is not None and self.spent > 0 and self.spent >= self.limit

    def after(self, cost: Decimal | None, *, had_agent: bool = True) -> "RunBudget":
        """Return the budget after an attempt of this cost, None where nobody knows it. Without an agent it is nothing."""
        is_unknown = self.is_enforced and had_agent and cost is None
        return replace(self, spent=self.spent + (cost or ZERO_USD), is_unknown=is_unknown)


def why_unpriced(spec: TaskSpec) -> tuple[str, str] | None:
    """Return why nobody could know what a run costs while it runs, and the cure; None if it can be known, or if only its agent
    can tell. Programs of your own, and agents of other packages that tell their cost, are believed until they do not."""
    agent = declaration_of(spec.agent_runtime)
    if not RunBudget.of(spec).is_enforced or agent is None or agent.program is None:
        return None
    if agent.capabilities.tells_cost and (spec.model is None or agent.name not in DECLARED):
        return None
    if spec.model is None:
        return "a run with `budgetUsd` needs a `model` whose price is known", "name one, or write `budget: report`"
    is_alias = agent.service is not None and spec.model.partition("[")[0] in agent.service.models
    name = spec.model.partition("/")[2] if agent.name == "opencode" else spec.model
    if prices.is_listed(name) or (is_alias and agent.capabilities.tells_cost):
        return None
    problem = f"no price of `{spec.model}` is known here, so a run with `budgetUsd` does not start"
    return problem, "give its price in a file with OPTIO_PRICES, or write `budget: report`"


def max_call_usd(spec: TaskSpec) -> Decimal | None:
    """Return the most that one call of the task's model costs; None where the model's price is unknown, and for `command`
    tasks."""
    return None if spec.agent_runtime == "command" or spec.model is None else prices.max_call_cost(spec.model)


def max_run_usd(spec: TaskSpec) -> Decimal | None:
    """Return the most that one run may cost with all its attempts: the budget and one call. None without a budget. `command`
    tasks count like agents."""
    return None if spec.budget_limit is None else spec.budget_limit + (max_call_usd(spec) or ZERO_USD)


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
    is_callable = spec.enabled and spec.webhook is not None and spec.webhook.enabled
    runs = fires + max_catch_up_fires(spec, fires) if scheduled else 0
    limited = False
    if spec.start_limit is not None:
        # The limit holds in every window, so this many starts fit into the time; a retry is a start like any other.
        max_starts = spec.start_limit.count * -(-over // spec.start_limit.window)
        limited = is_callable or max_starts < runs
        runs = max_starts if is_callable else min(runs, max_starts)
    run = max_run_usd(spec)
    unlimited = is_callable and spec.start_limit is None
    if run is None and (runs or unlimited):
        return WorstCase(runs=runs, usd=None, lacks="budgetUsd", limited=limited)
    return WorstCase(runs=runs, usd=runs * (run or ZERO_USD), lacks="startLimit" if unlimited else None, limited=limited)
