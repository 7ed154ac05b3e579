"""The route `/metrics`: the counters of this process, and gauges of the store and the registry, read for each scrape."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from litestar import Controller, Response, get

from optio.errors import OptioError
from optio.model.fleet import ProblemCode, ProcessKind
from optio.processes.health import slower
from optio.server.answers.health import tree_faults
from optio.server.auth import role
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.problems import HttpProblem
from optio.server.read_models.fleet import FleetReader
from optio.store.base import QueueStore
from optio.store.values import QueueDepth
from optio.telemetry.base import MISSING, Gauge
from optio.tree.served import ServedRegistry
from optio.wiring import Services


class MetricsController(Controller):
    """The route `/metrics` of the API, which needs a token of any role."""

    tags = ("health",)

    @get("/metrics", opt=role("viewer"), media_type="text/plain", media=("application/openmetrics-text",))
    async def get_metrics(self, request: Incoming, hub: InjectedHub) -> Response[bytes]:
        """Return metrics in the Prometheus text format. Gauges of waiting and running runs, and of the generation, are the same
        in every server."""
        metrics = hub.services.metrics
        if metrics is None:
            raise HttpProblem("not-found", MISSING)
        # Off the loop: the store is asked.
        text, media_type = await asyncio.to_thread(metrics.text, request.headers.get("accept", ""))
        return Response(text, media_type=media_type)


def store_samples(store: QueueStore, served_registry: ServedRegistry) -> Iterator[Gauge]:
    """Yield gauges of the store: waiting and running runs by task, including tasks that are no longer served, and the last ends
    of tasks with a schedule. A process loses its counts when it ends; these stay."""
    up = {"part": "store"}
    tasks = served_registry.current.registry.tasks
    scheduled = {task_id for task_id, task in tasks.items() if task.spec.schedule is not None}
    try:
        depths = {depth.task_id: depth for depth in store.depths()}
        ends = store.last_ends() if scheduled else []
    except OptioError:
        yield Gauge("part_up", "whether a part can be used", 0, up)
        return
    yield Gauge("part_up", "whether a part can be used", 1, up)
    now = datetime.now(UTC)
    for task_id in sorted({*depths, *tasks}):
        depth = depths.get(task_id) or QueueDepth(task_id=task_id, queued=0, running=0, oldest=None)
        for state, count in (("queued", depth.queued), ("running", depth.running)):
            yield Gauge("queue_runs", "runs that have not ended", count, {"task": task_id, "state": state})
        age = 0.0 if depth.oldest is None else max(0.0, (now - depth.oldest).total_seconds())
        yield Gauge("queue_oldest_seconds", "age of the oldest queued run", age, {"task": task_id})
    for end in ends:
        if end.task_id in scheduled:
            at, state = end.at.timestamp(), end.state.value
            yield Gauge(
                "schedule_last_end_timestamp_seconds", "end of the newest such run", at, {"task": end.task_id, "state": state}
            )


def health_samples(services: Services, served_registry: ServedRegistry, reader: FleetReader) -> Iterator[Gauge]:
    """Yield gauges of the fleet, and of the reasons for which `/readyz` says `degraded`."""
    reasons = [*slower(services), *tree_faults(served_registry.current), *reader.problems]
    yield Gauge("degraded", "reasons for which this server works slower, or with looser limits", len(reasons))
    fleet = reader.fleet
    if fleet is None:
        return
    for kind in ProcessKind:
        counts = Counter(problem.code for problem in reader.problems if problem.kind is kind)
        silent, missing = counts[ProblemCode.SILENT], counts[ProblemCode.MISSING] > 0
        yield Gauge("live", "live processes; one of `optio dev` is one of each kind", len(fleet.live(kind)), {"kind": kind})
        yield Gauge("silent", "processes that ended without stopping, or hang", silent, {"kind": kind})
        yield Gauge("missing", "1 while something waits for a process and none is live", missing, {"kind": kind})
    yield Gauge("slots_late", "schedules whose slot is overdue by two minutes", fleet.late_slots)
    yield Gauge("live_versions", "versions of the live processes", len(fleet.versions))


def registry_samples(served_registry: ServedRegistry) -> Iterator[Gauge]:
    """Yield gauges of the registry: the generation that this server serves, how many tasks are stale or held, and what a run
    may cost."""
    current = served_registry.current
    for task_id, task in current.registry.tasks.items():
        if task.spec.budget_limit is not None:
            yield Gauge("task_budget_usd", "US dollars that a run may cost", float(task.spec.budget_limit), {"task": task_id})
    if current.generation is not None:
        row = current.generation
        labels = {"digest": row.digest, "commit": row.commit or ""}
        yield Gauge("generation_info", "the generation that is served", 1, labels)
        yield Gauge("generation", "its number", row.id)
        yield Gauge("generation_timestamp_seconds", "when it was first served", row.activated_at.timestamp())
    yield Gauge("tasks", "tasks that are served", len(current.registry.tasks))
    yield Gauge("tasks_held", "tasks that are served though their files are gone", len(current.held))
    drifting = 0 if current.drift is None else current.drift.count
    yield Gauge("tasks_drifting", "tasks that differ in this server's directory from what all servers serve", drifting)
    yield Gauge("tasks_stale", "tasks that are served as before their file broke", len(current.kept))
