"""The bodies of the API about schedules: the calendar of what is served, and its coming fires."""

from typing import Annotated

from msgspec import Meta

from optio.server.bodies.base import Body, Time, Usd

Day = Annotated[str, Meta(extra_json_schema={"format": "date"})]


class FireBody(Body, frozen=True, kw_only=True):
    """A coming fire of a task."""

    at: Time
    local: str
    """The same on the clock of the schedule, with its UTC offset."""
    task_id: str
    timezone: str
    note: str
    """What a clock change did to it; empty on all other days."""


class FireListBody(Body, frozen=True, kw_only=True):
    """Coming fires, in order."""

    since: Time
    until: Time
    items: list[FireBody]
    more: bool
    """Whether there are more than the limit."""


class ClockChangeBody(Body, frozen=True, kw_only=True):
    """A clock change of a zone."""

    at: Time
    timezone: str
    before: str
    """What the clocks show when they are set."""
    after: str
    """What they are set to."""
    tasks: list[str]
    """Some of the tasks whose fires it moves, skips or repeats."""


class CalendarDayBody(Body, frozen=True, kw_only=True):
    """A day on the clocks of the calendar's zone."""

    date: Day
    fires: int
    """The fires of the day, by the schedules that are served now."""
    hours: list[int]
    """The same by the hour that the clocks show, from 0 to 23."""
    tasks: int
    """How many tasks fire."""
    crowded: int
    """Minutes in which more runs start than may run at once."""
    most: int
    """The most starts in a minute."""
    worst_usd: Usd
    """The most that these fires may spend."""
    unbounded: int
    """Fires of agents without a budget, which are not in `worstUsd`."""
    clock_changes: list[ClockChangeBody]
    outcomes: dict[str, int]
    """The slots that are over and started no run, by their outcome, such as `missed`."""


class CalendarBody(Body, frozen=True, kw_only=True):
    """Days of the calendar."""

    timezone: str
    generation: int | None
    """The generation whose schedules these are."""
    limit: int
    """How many runs may run at once."""
    days: list[CalendarDayBody]
