"""The bodies of the API about costs: of each day, and of each task."""

from typing import Annotated

from msgspec import Meta

from optio.server.bodies.base import Body, Cursor, Source, Time, Usd
from optio.server.bodies.overview import Share

Date = Annotated[str, Meta(extra_json_schema={"format": "date"})]


class DayCostBody(Body, frozen=True, kw_only=True):
    """The cost of a day."""

    date: Date
    """The day, UTC."""
    cost_usd: Usd
    ended: int
    """The number of runs that ended."""
    dearest: list[Usd]
    """The costs of the tasks in `dearest` of the answer, in that order."""
    others_usd: Usd
    """The cost of all other tasks."""


class CostSourcesBody(Body, frozen=True, kw_only=True):
    """Known costs by the source of the figure."""

    cli: Usd
    """Reported by agents."""
    prices: Usd
    """Computed from reported tokens and list prices."""
    estimate: Usd
    """Computed from an estimate of the tokens."""


class TaskCostBody(Body, frozen=True, kw_only=True):
    """The cost of a task."""

    task_id: str
    name: str | None
    """Its name; null for a task that is not served any more."""
    ended: int
    """The number of runs that ended."""
    attempts: int
    """The number of attempts that ended."""
    unpriced: int
    """The number of attempts whose cost is not known."""
    cost_usd: Annotated[Usd, Source("cost")]
    per_run_usd: Usd | None
    """The cost for each run that ended; null without any."""
    share: Share | None
    """Its share of the cost of all tasks; null where nothing cost anything."""
    tokens: Annotated[int, Source("usage.total")]
    """All tokens, each counted once."""
    cached: Annotated[Share | None, Source("cached_share")]
    """The share of the read tokens that came from the provider's cache; null where none was read."""
    sources: CostSourcesBody
    worst_case_usd: Usd | None
    """The most that its triggers may spend in any 30 days; null where nothing bounds it."""


class CostsBody(Body, frozen=True, kw_only=True):
    """The costs of some days, today included, and the limits beside them."""

    since: Date
    """The first day."""
    at: Time
    """When they were read: they may be a minute old."""
    cost_usd: Usd
    """The known cost of all tasks."""
    ended: int
    """The number of runs that ended."""
    month_usd: Usd
    """The known cost of the last 30 days, whatever span was asked for."""
    fleet_ceiling_usd: Usd | None
    """The most that the policy lets all triggers spend in 30 days (`fleet.monthUsd`)."""
    task_ceiling_usd: Usd | None
    """The most that the policy lets the triggers of one task spend in 30 days (`ceilings.monthUsd`)."""
    worst_case_usd: Usd
    """The most that all triggers may spend in any 30 days, as `optio plan` computes it, without the tasks of `unbounded`."""
    unbounded: int
    """The number of tasks whose spending nothing bounds."""
    dearest: list[str]
    """The ids of the tasks that cost the most, at most seven."""
    days: list[DayCostBody]
    """Each day, oldest first."""
    items: list[TaskCostBody]
    """A page of the tasks, the dearest first."""
    next: Cursor
    """The `cursor` of the next page; null on the last one."""
