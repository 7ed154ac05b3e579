"""The bodies of the API about many tasks at once: their state, their last runs, the totals of 30 days, and a search."""

from typing import Annotated, Literal

from msgspec import Meta

from optio.model.run import RunState
from optio.model.task import Runtime
from optio.server.bodies.base import Body, Cursor, Source, Time, Usd

# The state of a task in lists.
TaskState = Literal[
    "served",  # its runs start
    "paused",  # somebody paused it
    "disabled",  # its file says `enabled: false`
    "stale",  # its file is broken: the last good definition is served
    "held",  # its file is gone, and its removal is held
]
TaskOrder = Literal["id", "name", "next", "cost"]
Share = Annotated[float, Meta(ge=0, le=1)]


class LastRunBody(Body, frozen=True, kw_only=True):
    """One of the last runs of a task."""

    id: str
    state: RunState
    reason: str
    created_at: Time
    duration_ms: int | None
    """The time from its start to its end; null until it has both."""


class TaskOverviewBody(Body, frozen=True, kw_only=True):
    """A task in the overview."""

    id: str
    name: str
    owner: str | None
    runtime: Runtime
    state: TaskState
    pause_reason: str | None
    """Why it is paused; null while it is not."""
    triggers: list[Literal["schedule", "webhook"]]
    """What starts it beside people."""
    next_fire: Time | None
    """The next time of its schedule."""
    queued: int
    """The number of runs that wait."""
    last_runs: list[LastRunBody]
    """Its last runs, newest first, 20 at most."""
    ended: int
    """The number of runs that ended in the last 30 days."""
    success: Share | None
    """The share of completed runs among those that completed or failed in the last 30 days."""
    median_duration_ms: int | None
    """How long half of the completed runs took at most in the last 30 days, to about a tenth."""
    cost_usd: Annotated[Usd, Source("cost")]
    """The known cost of the last 30 days."""
    unpriced: int
    """The number of attempts in the last 30 days whose cost is not known."""
    worst_case_usd: Usd | None
    """The most that its triggers may spend in any 30 days; null where nothing bounds it."""
    ceiling_usd: Usd | None
    """The most that the policy allows for that (`ceilings.monthUsd`)."""


class OverviewBody(Body, frozen=True, kw_only=True):
    """A page of the overview of tasks."""

    items: list[TaskOverviewBody]
    next: Cursor
    """The `cursor` of the next page; null on the last one."""
    matching: int
    """The number of tasks that match."""
    generation: int | None
    """The number of the served generation."""


class FoundTaskBody(Body, frozen=True, kw_only=True):
    """A task that a search found."""

    id: str
    """Its id."""
    name: str
    """Its name."""


class FoundRunBody(Body, frozen=True, kw_only=True):
    """A run that a search found."""

    id: str
    """Its id."""
    task_id: str
    """The id of its task."""
    state: RunState
    """The state of the run."""


class FoundBody(Body, frozen=True, kw_only=True):
    """Tasks and runs that a search found, at most eight of each."""

    tasks: list[FoundTaskBody]
    """Tasks, those with the words in their id or name first."""
    runs: list[FoundRunBody]
    """Runs, newest first."""
