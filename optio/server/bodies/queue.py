"""The bodies of the API about the queue: the runs that wait, and what they wait for."""

from optio.runs.admission import HoldReason
from optio.server.bodies.base import Body, Cursor, Time


class QueueGroupBody(Body, frozen=True, kw_only=True):
    """The queued runs that wait for one thing."""

    reason: HoldReason | None
    """What they wait for; null for runs that a worker is about to take."""
    runs: int
    tasks: int
    """The number of their tasks."""
    oldest: Time
    """When the first of them was queued."""
    earliest_start: Time | None
    """The earliest possible start of one of them, if one is known."""


class QueuedRunBody(Body, frozen=True, kw_only=True):
    """A run that waits."""

    id: str
    task_id: str
    queued_at: Time
    priority: int
    """The priority of its task, as it is served now."""
    reason: HoldReason | None
    """What it waits for; null while a worker is about to take it."""
    message: str
    """The same for people."""
    rule: str | None
    """The setting that holds it, as it is written."""
    position: int | None
    """The position in the queue, from 1; null while it is in no queue."""
    earliest_start: Time | None
    """The earliest possible start, if it is known."""
    occupied_by: list[str]
    """The runs that use this setting up, ten at most."""
    occupied: int
    """The number of these runs."""


class QueueBody(Body, frozen=True, kw_only=True):
    """The queue, as it is decided now."""

    groups: list[QueueGroupBody]
    """All queued runs by what they wait for, the most first."""
    items: list[QueuedRunBody]
    """A page of those that were asked for, oldest first."""
    next: Cursor
    """The `cursor` of the next page; null on the last one."""
    queued: int
    """The number of queued runs."""
    running: int
    """The number of running runs."""
    max_running: int
    """The most that may run at once (`OPTIO_MAX_WORKFLOW_CONCURRENT`)."""
    at: Time
    """When this was decided."""
