"""SqlStore: the store's interface, implemented by binding each operation to a driver's transactions.

In the body of the class `removals` is the module until the method of that name is defined, so such a method stands last.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Concatenate, ParamSpec, TypeVar

from optio.errors import LeaseLost
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import Pool
from optio.model.registry import CompiledTask, Registry
from optio.model.room import Delay
from optio.model.run import UNKNOWN_AGENT, AgentIdentity, Lease, LogLine, Outcome, Page, Run
from optio.model.usage import Meter
from optio.store import values
from optio.store.sql import (
    audit,
    claims,
    daily_totals,
    deliveries,
    idempotency,
    job_leases,
    last_runs,
    namespaces,
    pauses,
    processes,
    queue,
    queue_depth,
    registry,
    removals,
    replay_guards,
    request_counts,
    retention,
    runs,
    schedules,
    shortages,
    tokens,
)
from optio.store.sql import pools as places
from optio.store.sql.engine import Engine
from optio.store.sql.group_commit import DiskLimited, DiskUse
from optio.store.sql.health_engine import HealthEngine
from optio.store.sql.schema import Migration
from optio.store.sql.transaction import Transaction, from_micros, to_micros

P = ParamSpec("P")
T = TypeVar("T")
_MAX_CACHED_DEFINITIONS = 1024
_TRUST_DEFINITION_S = 3600.0


# Methods of the store that are one operation in a transaction of that kind, with the operation's parameters.
def _peek(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate["SqlStore", P], T]:
    return lambda store, /, *args, **kwargs: store._engine.peek(lambda tx: operation(tx, *args, **kwargs))


def _read(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate["SqlStore", P], T]:
    return lambda store, /, *args, **kwargs: store._engine.read(lambda tx: operation(tx, *args, **kwargs))


def _change(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate["SqlStore", P], T]:
    return lambda store, /, *args, **kwargs: store._engine.change(lambda tx: operation(tx, *args, **kwargs))


def _write(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate["SqlStore", P], Future[T]]:
    return lambda store, /, *args, **kwargs: store._engine.write(lambda tx: operation(tx, *args, **kwargs))


class SqlStore:
    """The implementation of `optio.store.base.Store` over an engine. Its methods are documented there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Definitions never change, and are deleted only when nothing has used them for long, so a known one is not stored
        # again within an hour.
        self._kept_until: dict[str, float] = {}
        self._definition = lru_cache(_MAX_CACHED_DEFINITIONS)(self._read_definition)

    @property
    def local(self) -> bool:
        return self._engine.local

    def activate(
        self, new: Registry, commit: str | None, after: values.Activated | None = None, server: str | None = None
    ) -> values.GenerationRow:
        generation = self._engine.change(DiskLimited(DiskUse.HALF, registry.Activate(new, commit, after, server)))
        now = time.monotonic()
        self._kept_until.update((task.digest, now) for task in new.tasks.values())
        return generation

    generation = _peek(registry.newest)
    newest_generation = _peek(places.newest)
    served_definitions = _peek(registry.served_definitions)
    generation_heads = _peek(registry.list_heads)
    generation_tasks = _peek(registry.tasks_of)
    count_accepted = _peek(runs.count_accepted)
    note_server = _change(processes.note_server)
    servers = _peek(processes.servers)

    def definition(self, digest: str) -> CompiledTask:
        return self._definition(digest)

    _read_definition = _peek(registry.definition)

    hold_removals = _change(removals.hold)
    release_removals = _change(removals.release)
    drop_removals = _change(removals.drop)
    removals = _peek(removals.every)

    def accept(
        self, run: values.NewRun, *, delivery: values.NewDelivery | None = None, once: values.IdempotencyKey | None = None
    ) -> Future[values.Accepted]:
        digest = run.task.digest
        is_kept = time.monotonic() - self._kept_until.get(digest, -_TRUST_DEFINITION_S) < _TRUST_DEFINITION_S
        future = self._engine.write(runs.Accept(run, delivery, once, definition_kept=is_kept))
        if not is_kept:
            future.add_done_callback(lambda accepted: self._note(digest, accepted))
        return future

    def _note(self, digest: str, accepted: Future[values.Accepted]) -> None:
        if accepted.exception() is None and accepted.result().first:
            self._kept_until[digest] = time.monotonic()

    def record_delivery(self, delivery: values.NewDelivery) -> Future[values.Accepted]:
        row, guard = deliveries.columns(delivery, None), replay_guards.columns(delivery, None)
        return self._engine.write(DiskLimited(DiskUse.NOTHING, lambda tx: deliveries.record(tx, row, guard)))

    known_delivery = _peek(deliveries.find_known)

    def count_repeat(self, delivery_id: str) -> Future[None]:
        return self._engine.write(lambda tx: tx.counts.repeats.update([delivery_id]))

    def count_refusals(self, counts: Mapping[tuple[str, str, str], int]) -> Future[None]:
        return self._engine.write(lambda tx: tx.counts.refusals.update(counts))

    def refusals(
        self,
        *,
        since: datetime,
        until: datetime | None = None,
        task_id: str | None = None,
        path: str | None = None,
        verdict: str | None = None,
    ) -> list[values.Refusals]:
        return self._engine.peek(lambda tx: request_counts.refusals(tx, since, until, task_id, path, verdict))

    delivery = _peek(deliveries.get)

    def deliveries(
        self, where: values.DeliveryFilter = values.EVERY_DELIVERY, *, cursor: str | None = None, limit: int = 50
    ) -> Page:
        return self._engine.read(lambda tx: deliveries.page(tx, where, cursor, limit))

    recall = _peek(idempotency.recall)

    def remember(self, key: values.IdempotencyKey, result: str) -> None:
        self._engine.change(DiskLimited(DiskUse.NOTHING, lambda tx: idempotency.take(tx, key, result)))

    pause = _change(pauses.pause)
    resume = _change(pauses.resume)
    pauses = _peek(pauses.every)
    admission = _read(queue.everything)

    def claim(
        self,
        worker: str,
        lease: timedelta,
        admit: values.Admit,
        *,
        place: str = "",
        scope: WorkerScope = ALL_TASKS,
        room: values.Room = values.unlimited_room,
        most: int = values.NO_LIMIT,
        reason: str = "started",
    ) -> list[values.Claim]:
        # Most claims find nothing, and must not queue for the write lock.
        if most <= 0 or not self._engine.peek(lambda tx: queue.waits(tx, scope, room)):
            return []
        # On a full disk a new agent could write no log, so its run waits.
        crowded = not self._engine.local

        def claim(tx: Transaction) -> list[values.Claim]:
            return claims.claim(tx, worker, lease, admit, place, scope, room, most, reason, crowded=crowded)

        return self._engine.change(DiskLimited(DiskUse.NOTHING, claim))

    def adopt(
        self,
        worker: str,
        lease: timedelta,
        most: int,
        *,
        place: str = "",
        scope: WorkerScope = ALL_TASKS,
        orphaned: timedelta = values.ORPHAN_TIMEOUT,
    ) -> list[values.Claim]:
        if not self._engine.peek(lambda tx: claims.expired(tx, place, scope, orphaned)):
            return []
        return self._engine.change(lambda tx: claims.adopt(tx, worker, lease, most, place, scope, orphaned))

    renew = _change(claims.renew)
    release = _change(claims.release)
    note_worker = _change(processes.note_worker)
    note_scheduler = _write(processes.note_scheduler)
    forget_process = _change(processes.forget)
    fleet = _read(processes.read)
    served_namespaces = _peek(processes.served_namespaces)
    namespaces = _peek(namespaces.every)
    drop = _change(claims.drop)
    owners = _peek(claims.owners)
    running_attempts = _peek(claims.running_attempts)
    next_due = _peek(claims.next_due)
    cancel_requested = _peek(claims.cancel_requested)
    agent_started = _write(claims.agent_started)
    note_pod = _write(places.note_pod)

    def append_log(
        self,
        lease: Lease,
        lines: Sequence[LogLine],
        offsets: Mapping[str, int],
        meter: Meter,
        *,
        after: int | None = None,
        began: values.AgentStart | None = None,
    ) -> int:
        return self._engine.change(
            DiskLimited(
                DiskUse.HALF if lines else DiskUse.ALL,
                lambda tx: claims.append_log(tx, lease, lines, offsets, meter, after, began),
            )
        )

    def explain(self, lease: Lease, why: Delay, lines: Sequence[LogLine]) -> int:
        return self._engine.change(DiskLimited(DiskUse.HALF, lambda tx: claims.explain(tx, lease, why, lines)))

    note_continued = _change(claims.note_continued)
    give_back = _change(claims.give_back)
    shortages = _peek(shortages.every)

    def finish(
        self,
        lease: Lease,
        outcome: Outcome,
        meter: Meter,
        exit_code: int | None,
        signal: int | None,
        decide: values.Decide,
        *,
        began: values.AgentStart | None = None,
        agent: AgentIdentity = UNKNOWN_AGENT,
    ) -> Run:
        finish = claims.Finish(
            lease=lease, outcome=outcome, meter=meter, exit_code=exit_code, signal=signal, decide=decide,
            began=began, agent=agent,
        )  # fmt: skip
        run = self._engine.write(finish).result()
        if run is None:
            raise LeaseLost(lease.run_id)
        return run

    cancel = _change(runs.cancel)

    def retry(self, run_id: str, actor: str) -> Run:
        return self._engine.change(DiskLimited(DiskUse.NOTHING, lambda tx: runs.retry(tx, run_id, actor)))

    run = _peek(runs.get)
    prompt = _peek(runs.prompt)
    last_line = _peek(runs.last_line)

    attempts = _peek(runs.attempts)
    events = _peek(runs.history)

    def runs(self, where: values.RunFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
        see = self._engine.peek if where.min_cost is None else self._engine.read
        return see(lambda tx: runs.page(tx, where, cursor, limit))

    def log(
        self, run_id: str, *, after: int = 0, before: int | None = None, limit: int = 1000, attempt: int | None = None
    ) -> list[LogLine]:
        return self._engine.peek(lambda tx: runs.log(tx, run_id, after, before, limit, attempt))

    def search_log(
        self, run_id: str, *, after: int = 0, until: int, text: str = "", errors: bool = False, limit: int = 1000
    ) -> tuple[list[int], int]:
        return self._engine.read(lambda tx: runs.search_log(tx, run_id, after, until, text, errors, limit))

    slot_counts = _peek(schedules.count_slots)
    schedules = _peek(schedules.every)
    unscheduled_generation = _peek(registry.unscheduled_generation)

    def schedule_generation(
        self,
        generation: int,
        put: Sequence[values.ScheduleRow],
        drop: Sequence[str],
        closings: Sequence[values.ClosedSchedule] = (),
    ) -> bool:
        return self._engine.change(lambda tx: schedules.schedule_generation(tx, generation, put, drop, closings))

    def change_schedules(
        self, put: Sequence[values.ScheduleRow], drop: Sequence[str], *, seen: Mapping[str, values.ScheduleRow] | None = None
    ) -> None:
        self._engine.change(lambda tx: schedules.change(tx, put, drop, seen))

    def pooled_tasks(self, seen: int = 0) -> values.PooledTasks | None:
        if seen and self._engine.peek(places.newest) == seen:
            return None
        return self._engine.read(places.pooled_tasks)

    def keep_pools(self, place: str, pools: Sequence[Pool]) -> None:
        self._engine.change(DiskLimited(DiskUse.HALF, lambda tx: places.keep(tx, place, pools)))

    pool_reports = _peek(places.reports)

    def placed_starts(self, since: datetime, most: int = 100_000) -> list[values.PlacedStart]:
        return self._engine.peek(lambda tx: places.starts(tx, since, most))

    def arrivals(self, since: datetime, *, task_id: str | None = None, most: int = 100_000) -> list[values.ClaimedAttempt]:
        return self._engine.peek(lambda tx: places.arrivals(tx, since, task_id, most))

    def generations(self, *, since: datetime, after: int = 0, limit: int = 20) -> list[values.GenerationRow]:
        return self._engine.peek(lambda tx: audit.generations(tx, to_micros(since), after, limit))

    def audit_slots(
        self, task_id: str, after: datetime, until: datetime, runs: datetime, limit: int = 20_000
    ) -> list[tuple[datetime, str] | values.AuditedSlot]:
        return self._engine.peek(
            lambda tx: audit.slots(tx, task_id, to_micros(after), to_micros(until), to_micros(runs), limit)
        )

    def audit_ranges(self, task_id: str, after: datetime, until: datetime) -> list[values.AuditedSlot]:
        return self._engine.peek(lambda tx: audit.ranges(tx, task_id, to_micros(after), to_micros(until)))

    def first_delivery(self, since: datetime) -> int | None:
        return self._engine.peek(lambda tx: audit.first_delivery(tx, to_micros(since)))

    def audit_deliveries(
        self, span: values.AuditSpan, *, first: int, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
    ) -> values.AuditPage[values.AuditedDelivery] | None:
        return self._engine.read(lambda tx: audit.deliveries(tx, span, task_id, first, before, limit))

    def audit_repeats(self, span: values.AuditSpan, *, task_id: str | None = None) -> Mapping[tuple[str, str], int]:
        return self._engine.read(lambda tx: audit.repeats(tx, span, task_id))

    def audit_runs(
        self, span: values.AuditSpan, *, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
    ) -> values.AuditPage[values.AuditedRun] | None:
        return self._engine.read(lambda tx: audit.runs(tx, span, task_id, before, limit))

    def slots(
        self, task_id: str, where: values.SlotFilter = values.EVERY_SLOT, *, cursor: str | None = None, limit: int = 50
    ) -> Page:
        return self._engine.read(lambda tx: schedules.slots(tx, task_id, where, cursor, limit))

    def ready(self, firings: Sequence[values.Firing]) -> Callable[[], Future[list[list[str] | Exception]]]:
        operation = schedules.FireSchedules([schedules.FireSchedule(firing) for firing in firings])
        return lambda: self._engine.write(operation)

    def fire(self, firing: values.Firing) -> Future[list[str]]:
        return self._engine.write(schedules.FireSchedule(firing))

    add_token = _change(tokens.add)
    token = _peek(tokens.living)
    revoke_token = _change(tokens.revoke)
    touch_token = _change(tokens.touch)
    tokens = _peek(tokens.every)

    def now(self) -> datetime:
        return self._engine.peek(lambda tx: from_micros(tx.now))

    prunable = _read(retention.prunable)

    def prune(self, keep: values.RetentionPolicy) -> Iterator[tuple[values.PrunedKind, int]]:
        return retention.prune(self._engine, keep)

    def delete_run(self, run_id: str) -> None:
        retention.delete_run(self._engine, run_id)

    acquire_job_lease = _change(job_leases.take)
    renew_job_lease = _change(job_leases.hold)
    release_job_lease = _change(job_leases.end)
    depths = _peek(queue_depth.every)
    last_ends = _read(queue_depth.last_ends)
    queued_runs = _peek(last_runs.queued_runs)
    last_runs = _peek(last_runs.last_runs)
    totals = _read(daily_totals.of_tasks)
    totals_by_task = _peek(daily_totals.by_task)
    totals_by_day = _peek(daily_totals.by_day)

    def watch(self, failed: Callable[[], None]) -> None:
        self._engine = HealthEngine(self._engine, failed)

    def check(self) -> None:
        self._engine.check()

    def migrate(self, tell: Callable[[Migration], object] = lambda step: None) -> list[int]:
        return self._engine.migrate(tell)

    def close(self) -> None:
        self._engine.close()
