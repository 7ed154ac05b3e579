"""Answers about warm pools: what is kept ready, how often it was used, and what other sizes would cost."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from typing import Any

from optio.model.namespace import is_served, unserved
from optio.model.pool import COLD, WARM, Pool, parse_quantity, request_and_limit
from optio.model.registry import CompiledTask
from optio.model.run import RunState
from optio.model.task import Amounts
from optio.runs import pool_sizing
from optio.runs.pool_sizing import Demand, PoolSizeOption, StartTimes
from optio.scheduling import cron
from optio.server.bodies.pools import (
    PoolBody,
    PoolListBody,
    PoolPlanBody,
    PoolPlanItemBody,
    PoolReportBody,
    PoolSizeBody,
    ShortageBody,
    SizeWaitsBody,
    SlowStartBody,
    UnservedBody,
    WaitsBody,
)
from optio.server.dependencies import Hub
from optio.server.serializers import at, milliseconds, to_body
from optio.settings import Settings
from optio.store.base import AuditStore
from optio.store.values import ClaimedAttempt, Pause, PlacedStart, PoolReport, RunFilter

_SINCE = timedelta(days=1)
# At most so many starts are read: the newest, and the answer says which period they cover.
_MAX_STARTS = 100_000
# Enough for two weeks of a schedule that fires each minute.
_MAX_SLOTS = 20_000
# Many tasks have the same schedule.
_MAX_EXPRESSIONS = 100
# At most so many running runs are searched for those whose agents have not begun.
_MAX_RUNNING = 1000
# Reasons of running runs that are not delayed.
_USUAL = ("starting", "started", "cancelling")
# A shorter period does not represent a day.
_MIN_SPAN = timedelta(hours=1)


def read_pools(hub: Hub, since: datetime | None) -> PoolListBody:
    """Return the pools, and what holds starts up; `since` is a day ago by default."""
    store = hub.services.store
    now = store.now()
    since = since or now - _SINCE
    starts = store.placed_starts(since, _MAX_STARTS)
    by_task: dict[str, list[PlacedStart]] = defaultdict(list)
    for start in starts:
        by_task[start.task_id].append(start)
    reports, paused = store.pool_reports(), store.pauses()
    running = store.runs(RunFilter(state=RunState.RUNNING), limit=_MAX_RUNNING)
    items = [_item(report, pool, by_task) for report in reports for pool in report.pools]
    reported = {task_id for report in reports for pool in report.pools for task_id in pool.tasks}
    tasks = hub.snapshot.registry.tasks.values()
    unreported = (task for task in tasks if task.spec.warm_pool_size and task.id not in reported)
    items += [_unreported_item(task, paused.get(task.id), by_task) for task in unreported]
    return PoolListBody(
        since=at(starts[-1].at if len(starts) == _MAX_STARTS else since),
        until=at(now),
        executor=hub.services.settings.executor,
        reports=[
            to_body(PoolReportBody, report, age_seconds=round(max(0.0, (now - report.at).total_seconds()), 1))
            for report in reports
        ],
        items=items,
        unserved=list(_unserved(hub)),
        shortages=[
            to_body(ShortageBody, shortage, next_try_at=max(shortage.due, now))
            for shortage in store.shortages()
            if not shortage.begun
        ],
        starting_slowly=[to_body(SlowStartBody, run) for run in running.items if run.reason not in _USUAL],
    )


def _unserved(hub: Hub) -> Iterator[UnservedBody]:
    """Yield the namespaces of tasks whose runs no worker takes."""
    store = hub.services.store
    namespaces, served_namespaces = store.namespaces(), store.served_namespaces()
    waiting: Counter[str] = Counter()
    for depth in store.depths():
        waiting[namespaces.get(depth.task_id, "")] += depth.queued
    tasks: dict[str, list[str]] = {}
    for task in hub.snapshot.registry.tasks.values():
        tasks.setdefault(task.namespace or "", []).append(task.id)
    for namespace in sorted({*tasks, *(namespace for namespace in waiting if waiting[namespace])}):
        if not is_served(namespace, served_namespaces):
            yield UnservedBody(
                namespace=namespace or None,
                tasks=tasks.get(namespace, []),
                waiting=waiting[namespace],
                message=": ".join(unserved(namespace)),
            )


def _item(report: PoolReport, pool: Pool, by_task: Mapping[str, list[PlacedStart]]) -> PoolBody:
    starts = _starts([start for task_id in pool.tasks for start in by_task.get(task_id, ())])
    return to_body(PoolBody, pool, place=report.place, **starts)


def _unreported_item(task: CompiledTask, paused: Pause | None, by_task: Mapping[str, list[PlacedStart]]) -> PoolBody:
    """Return the entry of a pool that a task file asks for, but that no keeper has reported."""
    problem = "" if task.spec.enabled else "the task is not enabled"
    if paused is not None:
        problem = "the task is paused"
    return PoolBody(
        pool=None,
        place=None,
        tasks=[task.id],
        size=task.spec.warm_pool_size,
        ready=0,
        starting=0,
        problem=problem,
        **_starts(by_task.get(task.id, ())),
    )


def _starts(starts: Sequence[PlacedStart]) -> dict[str, Any]:
    waits = pool_sizing.summarize_waits(starts)
    return {
        "warm_starts": sum(start.how == WARM for start in starts),
        "cold_starts": sum(start.how == COLD for start in starts),
        "wait_ms": WaitsBody(p50=milliseconds(waits.p50), p90=milliseconds(waits.p90), p99=milliseconds(waits.p99)),
    }


def read_plan(hub: Hub, task_id: str | None, span: timedelta, target: float, limit: int) -> PoolPlanBody:
    """Return what other sizes of the pools would cost and save, for one task or for all that have a pool, a schedule or
    starts."""
    registry, store = hub.snapshot.registry, hub.services.store
    tasks = {task_id: registry.task(task_id)} if task_id is not None else registry.tasks
    now = store.now()
    since, is_complete = _measured_since(store, now - span)
    arrivals = store.arrivals(since, task_id=task_id, most=_MAX_STARTS)
    if len(arrivals) == _MAX_STARTS:
        since, is_complete = arrivals[-1].at, False
    by_task: dict[str, list[ClaimedAttempt]] = defaultdict(list)
    for arrival in arrivals:
        by_task[arrival.task_id].append(arrival)
    samples = pool_sizing.samples_of(store.placed_starts(now - span, _MAX_STARTS))
    slots = lru_cache(_MAX_EXPRESSIONS)(_slots)
    candidates = [task for task in tasks.values() if task_id or _is_relevant(task, by_task)]
    candidates.sort(key=lambda task: (-task.spec.warm_pool_size, -len(by_task[task.id]), task.id))
    shared = {member: pool for report in store.pool_reports() for pool in report.pools for member in pool.tasks}
    items = []
    for task in candidates[:limit]:
        task_arrivals = by_task[task.id]
        # The coming slots are known for the whole span, whatever has been measured.
        short = not is_complete and (task_arrivals or not _is_scheduled(task))
        demand = _demand(task, task_arrivals, since if short else now - span, now, slots)
        times = [arrival.took for arrival in task_arrivals if arrival.took is not None]
        start_times = pool_sizing.start_times_of(task.id, samples, times)
        items.append(_plan_item(task, demand, start_times, target, hub.services.settings, shared.get(task.id)))
    return PoolPlanBody(
        until=at(now),
        days=span / timedelta(days=1),
        measured_since=at(since),
        target=target,
        items=items,
        left=max(0, len(candidates) - limit),
    )


def _is_relevant(task: CompiledTask, by_task: Mapping[str, list[ClaimedAttempt]]) -> bool:
    return task.spec.enabled and (task.spec.warm_pool_size > 0 or task.id in by_task or _is_scheduled(task))


def _is_scheduled(task: CompiledTask) -> bool:
    return task.spec.enabled and task.spec.schedule is not None and task.spec.schedule.enabled


def _measured_since(store: AuditStore, since: datetime) -> tuple[datetime, bool]:
    """Return the time since when starts were measured, and whether that covers the whole period: an installation may be
    younger."""
    first = store.generations(since=since, limit=1)
    activated_at = first[0].activated_at if first else since
    return (activated_at, False) if activated_at > since else (since, True)


Slots = Callable[[str, str, datetime, timedelta], Sequence[float]]


def _slots(expression: str, zone: str, now: datetime, span: timedelta) -> Sequence[float]:
    """Return the coming slots, in seconds from now, at most _MAX_SLOTS."""
    coming = takewhile(lambda at: at < now + span, cron.fires(expression, zone, now))
    return [(at - now).total_seconds() for at in islice(coming, _MAX_SLOTS)]


def _demand(task: CompiledTask, arrivals: Sequence[ClaimedAttempt], since: datetime, now: datetime, slots: Slots) -> Demand:
    """Return the measured starts of a task, except those by its current schedule: its coming slots stand for these."""
    span = max(now - since, _MIN_SPAN)
    scheduled: Sequence[float] = ()
    by_schedule = _is_scheduled(task)
    if by_schedule and task.spec.schedule is not None:
        config = task.spec.schedule.config
        scheduled = slots(config.cron_expression, config.timezone, now, span)
        if len(scheduled) == _MAX_SLOTS:
            span = timedelta(seconds=scheduled[-1])
            scheduled = scheduled[:-1]
    begin = now - span
    measured = sorted(
        (arrival.at - begin).total_seconds()
        for arrival in arrivals
        if begin <= arrival.at < now and not (by_schedule and arrival.trigger == "schedule")
    )
    return Demand(span_s=span.total_seconds(), measured=measured, scheduled=scheduled)


def _plan_item(
    task: CompiledTask, demand: Demand, start_times: StartTimes, target: float, settings: Settings, pool: Pool | None
) -> PoolPlanItemBody:
    current = task.spec.warm_pool_size
    plan = pool_sizing.propose_size(demand, start_times, current=current, target=target, largest=task.spec.max_concurrent)
    resources = task.spec.environment.resources
    # An idle pod costs what it reserves.
    requests, limits = (resources.requests or Amounts(), resources.limit) if resources else (Amounts(), Amounts())
    cpu, _ = request_and_limit((requests.cpu, limits.cpu), (settings.pod_cpu_request, settings.pod_cpu))
    memory, _ = request_and_limit((requests.memory, limits.memory), (settings.pod_memory_request, settings.pod_memory))
    return PoolPlanItemBody(
        task_id=task.id,
        current=current,
        proposed=plan.proposed,
        why=plan.why,
        days=round(demand.span_s / 86400, 6),
        measured_starts=len(demand.measured),
        scheduled_starts=len(demand.scheduled),
        refill_seconds=round(start_times.refill_s, 3),
        run_seconds=round(start_times.run_s, 3),
        assumed=list(start_times.assumed),
        shared_with=[] if pool is None else [member for member in pool.tasks if member != task.id],
        cpu=cpu,
        memory=memory,
        sizes=[_size(option, cpu, memory) for option in plan.options],
    )


def _size(option: PoolSizeOption, cpu: str, memory: str) -> PoolSizeBody:
    cores, room = parse_quantity(cpu), parse_quantity(memory)
    return PoolSizeBody(
        size=option.size,
        warm_share=round(option.share, 4),
        wait_ms=SizeWaitsBody(p50=milliseconds(option.wait_p50), p99=milliseconds(option.wait_p99)),
        idle_hours_per_day=round(option.idle_h, 2),
        cpu_hours_per_day=None if cores is None else round(option.idle_h * float(cores), 2),
        memory_gib_hours_per_day=None if room is None else round(option.idle_h * float(room) / 2**30, 2),
    )
