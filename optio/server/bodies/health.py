"""The bodies of the API about the health of an installation: its parts, and the settings of a server."""

from typing import Annotated, Literal

from optio.server.bodies.base import Body, Source, Time


class ProcessBody(Body, frozen=True, kw_only=True):
    """A part of a process: a process of `optio dev` is a server, a worker, a scheduler and a gateway."""

    kind: Literal["server", "worker", "scheduler", "gateway"]
    name: str
    """Its name. That of a server stays the same after a restart."""
    host: str
    """The name of its machine."""
    pid: int | None
    """Its process id there; null if an older version wrote the row."""
    live: Annotated[bool, Source("is_live")]
    """Whether it was heard of in the last 30 seconds. A process of the answering server's machine that is gone is not live."""
    version: str | None
    """Its version of Optio; null for one that is older than this field."""
    started_at: Time | None
    seen_at: Time | None
    """When it was heard of last; null for a worker of which only its leases are left."""
    namespace: str | None
    """The namespace whose runs a worker takes: empty for tasks without one, null for all."""
    running: int
    """The number of running runs that a worker owns."""
    capacity: int | None
    """How many it may have at once; null for all others."""
    lease_until: Time | None
    """When the first of its leases ends, unless it is renewed."""
    generation: int | None
    """The generation that a server serves."""
    in_sync: bool | None
    """Whether a server's directory equals that generation."""


class FleetProblemBody(Body, frozen=True, kw_only=True):
    """A problem of the processes, or of what waits for them."""

    code: Literal["missing", "late", "silent", "versions", "generations"]
    kind: Literal["server", "worker", "scheduler", "gateway"] | None
    """The kind of process that it is about; null for versions."""
    text: str
    place: str
    """The machine and process, if it is about one."""
    cure: str


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
    overdue: Annotated[bool, Source("is_overdue")]
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
    fleet_problems: list[FleetProblemBody]
    """Those of the problems that are about processes, in parts."""
    at: Time
    """When the parts were read, by the clock of the database."""
    processes: list[ProcessBody]
    """Servers, workers and schedulers. One that ended without stopping stays for an hour."""
    queued: int
    """The number of queued runs."""
    running: int
    """The number of running runs."""
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
