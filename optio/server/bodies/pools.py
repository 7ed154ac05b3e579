"""Bodies of pools: places that are kept ready, waits, and plans of sizes."""

from typing import Annotated

from optio.server.bodies.base import Body, Source, Time


class WaitsBody(Body, frozen=True, kw_only=True):
    """Quantiles of the time from claim to agent, in milliseconds; null without starts."""

    p50: int | None
    p90: int | None
    p99: int | None


class PoolReportBody(Body, frozen=True, kw_only=True):
    """The time of a keeper's report."""

    place: str
    at: Time
    age_seconds: float


class PoolBody(Body, frozen=True, kw_only=True):
    """A pool of warm pods, with the starts of its tasks."""

    pool: Annotated[str | None, Source("key")]
    """The name of the pool; null where no keeper has reported it."""
    place: str | None
    tasks: list[str]
    """The tasks that use it."""
    size: int
    """The wanted number of pods."""
    ready: int
    starting: int
    problem: str
    """Why there are fewer; empty if there are not."""
    warm_starts: int
    cold_starts: int
    wait_ms: WaitsBody


class UnservedBody(Body, frozen=True, kw_only=True):
    """A namespace whose runs no worker takes."""

    namespace: str | None
    tasks: list[str]
    waiting: int
    """The number of runs that wait."""
    message: str


class ShortageBody(Body, frozen=True, kw_only=True):
    """A task whose runs wait for room."""

    task_id: str
    place: str
    reason: str
    message: str
    since: Time
    next_try_at: Time


class SlowStartBody(Body, frozen=True, kw_only=True):
    """A running run whose agent has not begun."""

    run_id: Annotated[str, Source("id")]
    task_id: str
    reason: str
    message: str


class PoolListBody(Body, frozen=True, kw_only=True):
    """The warm pools, and what holds starts up."""

    since: Time
    """The begin of the period whose starts are counted."""
    until: Time
    executor: str
    reports: list[PoolReportBody]
    items: list[PoolBody]
    unserved: list[UnservedBody]
    """Namespaces without a worker."""
    shortages: list[ShortageBody]
    """Tasks that wait for room."""
    starting_slowly: list[SlowStartBody]
    """Runs whose agents have not begun."""


class SizeWaitsBody(Body, frozen=True, kw_only=True):
    """Quantiles of the wait for a start, in milliseconds."""

    p50: int | None
    p99: int | None


class PoolSizeBody(Body, frozen=True, kw_only=True):
    """A size and its consequences."""

    size: int
    warm_share: float
    """The share of starts that would be warm."""
    wait_ms: SizeWaitsBody
    idle_hours_per_day: float
    cpu_hours_per_day: float | None
    memory_gib_hours_per_day: float | None


class PoolPlanItemBody(Body, frozen=True, kw_only=True):
    """The sizes of one task's pool, compared."""

    task_id: str
    current: int
    """The size now."""
    proposed: int
    """The size that reaches the target."""
    why: str
    """Why this size is proposed."""
    days: float
    """The days that were measured."""
    measured_starts: int
    scheduled_starts: int
    refill_seconds: float
    run_seconds: float
    assumed: list[str]
    """The figures that were assumed, because nothing was measured."""
    shared_with: list[str]
    """Other tasks of the same pool."""
    cpu: str
    memory: str
    sizes: list[PoolSizeBody]


class PoolPlanBody(Body, frozen=True, kw_only=True):
    """The effect of other sizes of pools."""

    until: Time
    days: float
    measured_since: Time
    target: float
    """The share of starts that are to be warm."""
    items: list[PoolPlanItemBody]
    left: int
    """The number of tasks that are not listed."""
