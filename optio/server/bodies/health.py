"""The bodies of the API about the health of an installation: its parts, and the settings of a server."""

from typing import Literal

from optio.server.bodies.base import Body, Time
from optio.server.bodies.registry import ServerBody


class WorkerBody(Body, frozen=True, kw_only=True):
    """A worker."""

    worker: str
    """Its name."""
    namespace: str | None
    """The namespace whose runs it takes: empty for tasks without one, null for all."""
    seen_at: Time | None
    """When it was heard of last; null for one that is gone and still owns running runs."""
    running: int
    """The number of running runs that it owns."""
    lease_until: Time | None
    """When the first of its leases ends, unless it is renewed."""


class JobBody(Body, frozen=True, kw_only=True):
    """A periodic job that one process at a time does for all, such as pruning."""

    job: str
    owner: str
    """The process that did it last, or does it now."""
    lease_until: Time | None
    """Until when the process holds the job; null while nobody does it."""
    ended_at: Time | None
    """When it ended last."""


class ScheduleStateBody(Body, frozen=True, kw_only=True):
    """The work of the schedulers, by what they store."""

    generation: int | None
    """The newest generation."""
    adopted_at: Time | None
    """When a scheduler adopted its schedules; null while none has."""
    next_fire: Time | None
    """The next slot of all schedules. A slot in the past waits for a scheduler."""
    overdue: bool
    """Whether no scheduler seems to run."""


class PartBody(Body, frozen=True, kw_only=True):
    """A service that the server uses."""

    part: Literal["database", "broker", "rate limits"]
    kind: str
    """The product, such as `PostgreSQL`."""
    problem: str | None
    """What is wrong with it; null while it works."""


class InstallationBody(Body, frozen=True, kw_only=True):
    """The health of the installation, as the answering server sees it."""

    status: Literal["ok", "degraded", "unavailable"]
    problems: list[str]
    """One sentence for each problem."""
    at: Time
    """When the parts were read, by the clock of the database."""
    servers: list[ServerBody]
    workers: list[WorkerBody]
    schedules: ScheduleStateBody | None
    """The work of the schedulers; null while the database cannot be read."""
    jobs: list[JobBody]
    parts: list[PartBody]
    executor: str
    """Where agents run."""
    versions: dict[str, str]
    """The versions of Optio and of Python on the answering server."""


class SettingBody(Body, frozen=True, kw_only=True):
    """A setting of the answering server."""

    name: str
    """The environment variable."""
    value: str
    """Its value; `***` for a secret."""
    origin: str
    """The variable, flag or file that gives the value, or `default`."""
    help: str
    """What it is for."""


class SettingListBody(Body, frozen=True, kw_only=True):
    """The settings of the answering server."""

    items: list[SettingBody]


class HealthBody(Body, frozen=True, kw_only=True):
    """The health of the process."""

    status: Literal["ok", "degraded", "unavailable"]
    problems: list[str]
    """One sentence for each problem."""
