"""SqlStore: the store's interface, implemented by binding each operation to a driver's transactions."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TypeVar

from optio.errors import LeaseLost
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import Pool
from optio.model.registry import CompiledTask, Registry
from optio.model.room import Delay, Shortage
from optio.model.run import AgentPod, Attempt, Event, Lease, LogLine, Meter, Outcome, Page, Run
from optio.store import values
from optio.store.sql import (
    audit,
    claims,
    deliveries,
    idempotency,
    job_leases,
    namespaces,
    pauses,
    queue,
    queue_depth,
    registry,
    removals,
    replay_guards,
    request_counts,
    retention,
    runs,
    schedules,
    servers,
    shortages,
    tokens,
)
from optio.store.sql import pools as places
from optio.store.sql.engine import Engine
from optio.store.sql.group_commit import DiskLimited, DiskUse
from optio.store.sql.health_engine import HealthEngine
from optio.store.sql.schema import Migration
from optio.store.sql.transaction import Transaction, from_micros, to_micros

T = TypeVar("T")
_MAX_CACHED_DEFINITIONS = 1024
_TRUST_DEFINITION_S = 3600.0


class SqlStore:
    """The implementation of `optio.store.base.Store` over an engine. Its methods are documented there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Definitions never change, and are deleted only when nothing has used them for long, so a known one is not stored
        # again within an hour.
        self._kept: dict[str, float] = {}
        self._definition = lru_cache(_MAX_CACHED_DEFINITIONS)(self._read_definition)

    @property
    def local(self) -> bool:
        return self._engine.local

    def activate(
        self, new: Registry, commit: str | None, after: values.Activated | None = None, server: str | None = None
    ) -> values.GenerationRow:
        made = self._engine.change(DiskLimited(DiskUse.HALF, registry.Activate(new, commit, after, server)))
        now = time.monotonic()
        self._kept.update((task.digest, now) for task in new.tasks.values())
        return made

    def generation(self) -> values.GenerationRow | None:
        return self._engine.peek(registry.newest)

    def newest_generation(self) -> int:
        return self._engine.peek(places.newest)

    def served_definitions(self) -> dict[str, CompiledTask]:
        return self._engine.peek(registry.served_definitions)

    def note_server(self, server: str, generation: int, in_sync: bool) -> None:
        self._engine.change(lambda tx: servers.note(tx, server, generation, in_sync))

    def forget_server(self, server: str) -> None:
        self._engine.change(lambda tx: servers.forget(tx, server))

    def servers(self) -> list[values.ServerRow]:
        return self._engine.peek(servers.list_present)

    def definition(self, digest: str) -> CompiledTask:
        return self._definition(digest)

    def _read_definition(self, digest: str) -> CompiledTask:
        return self._engine.peek(lambda tx: registry.definition(tx, digest))

    def removals(self) -> dict[str, values.RemovalRow]:
        return self._engine.peek(removals.every)

    def hold_removals(self, task_ids: Collection[str]) -> dict[str, values.RemovalRow]:
        return self._engine.change(lambda tx: removals.hold(tx, task_ids))

    def release_removals(self, task_ids: Collection[str], actor: str) -> None:
        self._engine.change(lambda tx: removals.release(tx, task_ids, actor))

    def drop_removals(self, task_ids: Collection[str]) -> None:
        self._engine.change(lambda tx: removals.drop(tx, task_ids))

    def accept(
        self, run: values.NewRun, *, delivery: values.NewDelivery | None = None, once: values.IdempotencyKey | None = None
    ) -> Future[values.Accepted]:
        digest = run.task.digest
        kept = time.monotonic() - self._kept.get(digest, -_TRUST_DEFINITION_S) < _TRUST_DEFINITION_S
        future = self._engine.write(runs.Accept(run, delivery, once, definition_kept=kept))
        if not kept:
            future.add_done_callback(lambda done: self._note(digest, done))
        return future

    def _note(self, digest: str, done: Future[values.Accepted]) -> None:
        if done.exception() is None and done.result().first:
            self._kept[digest] = time.monotonic()

    def record_delivery(self, delivery: values.NewDelivery) -> Future[values.Accepted]:
        row, guard = deliveries.columns(delivery, None), replay_guards.columns(delivery, None)
        return self._engine.write(DiskLimited(DiskUse.NOTHING, lambda tx: deliveries.record(tx, row, guard)))

    def known_delivery(self, task_id: str, key: str) -> values.Delivery | None:
        return self._engine.peek(lambda tx: deliveries.find_known(tx, task_id, key))

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

    def delivery(self, delivery_id: str) -> values.Delivery:
        return self._engine.peek(lambda tx: deliveries.get(tx, delivery_id))

    def deliveries(
        self, where: values.DeliveryFilter = values.EVERY_DELIVERY, *, cursor: str | None = None, limit: int = 50
    ) -> Page:
        return self._engine.read(lambda tx: deliveries.page(tx, where, cursor, limit))

    def recall(self, key: values.IdempotencyKey) -> str | None:
        return self._engine.peek(lambda tx: idempotency.recall(tx, key))

    def remember(self, key: values.IdempotencyKey, result: str) -> None:
        self._engine.change(DiskLimited(DiskUse.NOTHING, lambda tx: idempotency.take(tx, key, result)))

    def pause(self, task_id: str, reason: str, actor: str) -> values.Pause:
        return self._engine.change(lambda tx: pauses.pause(tx, task_id, reason, actor))

    def resume(self, task_id: str) -> values.Pause | None:
        return self._engine.change(lambda tx: pauses.resume(tx, task_id))

    def pauses(self) -> dict[str, values.Pause]:
        return self._engine.peek(pauses.every)

    def admission(self) -> values.AdmissionView:
        return self._engine.read(queue.everything)

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

    def renew(self, worker: str, lease: timedelta) -> dict[str, bool]:
        return self._engine.change(lambda tx: claims.renew(tx, worker, lease))

    def release(self, worker: str) -> int:
        return self._engine.change(lambda tx: claims.release(tx, worker))

    def note_worker(self, worker: str, scope: WorkerScope) -> None:
        self._engine.change(lambda tx: namespaces.note_worker(tx, worker, scope))

    def served_namespaces(self) -> Collection[str] | None:
        return self._engine.peek(namespaces.served)

    def namespaces(self) -> dict[str, str]:
        return self._engine.peek(namespaces.every)

    def drop(self, lease: Lease) -> None:
        self._engine.change(lambda tx: claims.drop(tx, lease))

    def owners(self) -> set[str]:
        return self._engine.peek(claims.owners)

    def running_attempts(self) -> dict[str, int]:
        return self._engine.peek(claims.running_attempts)

    def next_due(self) -> timedelta | None:
        return self._engine.peek(claims.next_due)

    def cancel_requested(self, lease: Lease) -> bool:
        return self._engine.peek(lambda tx: claims.cancel_requested(tx, lease))

    def agent_started(self, lease: Lease, began: values.AgentStart) -> Future[None]:
        return self._engine.write(lambda tx: claims.agent_started(tx, lease, began))

    def note_pod(self, lease: Lease, pod: AgentPod) -> Future[None]:
        return self._engine.write(lambda tx: places.note_pod(tx, lease, pod))

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

    def give_back(self, lease: Lease, why: Delay, lines: Sequence[LogLine]) -> Run:
        return self._engine.change(lambda tx: claims.give_back(tx, lease, why, lines))

    def shortages(self) -> list[Shortage]:
        return self._engine.peek(shortages.every)

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
    ) -> Run:
        finish = claims.Finish(
            lease=lease, outcome=outcome, meter=meter, exit_code=exit_code, signal=signal, decide=decide,
            began=began,
        )  # fmt: skip
        ended = self._engine.write(finish).result()
        if ended is None:
            raise LeaseLost(lease.run_id)
        return ended

    def cancel(self, run_id: str, actor: str) -> Run:
        return self._engine.change(lambda tx: runs.cancel(tx, run_id, actor))

    def retry(self, run_id: str, actor: str) -> Run:
        return self._engine.change(DiskLimited(DiskUse.NOTHING, lambda tx: runs.retry(tx, run_id, actor)))

    def run(self, run_id: str) -> Run:
        return self._engine.peek(lambda tx: runs.get(tx, run_id))

    def prompt(self, run_id: str) -> str:
        return self._engine.peek(lambda tx: runs.prompt(tx, run_id))

    def runs(self, where: values.RunFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
        return self._engine.peek(lambda tx: runs.page(tx, where, cursor, limit))

    def attempts(self, run_id: str) -> list[Attempt]:
        return self._engine.peek(lambda tx: runs.attempts(tx, run_id))

    def events(self, run_id: str) -> list[Event]:
        return self._engine.peek(lambda tx: runs.history(tx, run_id))

    def log(self, run_id: str, *, after: int = 0, limit: int = 1000, attempt: int | None = None) -> list[LogLine]:
        return self._engine.peek(lambda tx: runs.log(tx, run_id, after, limit, attempt))

    def schedules(self) -> dict[str, values.ScheduleRow]:
        return self._engine.peek(schedules.every)

    def unscheduled_generation(self) -> list[values.GenerationRow]:
        return self._engine.peek(registry.unscheduled_generation)

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

    def pool_reports(self) -> list[values.PoolReport]:
        return self._engine.peek(places.reports)

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

    def slots(self, task_id: str, *, cursor: str | None = None, limit: int = 50) -> Page:
        return self._engine.read(lambda tx: schedules.slots(tx, task_id, cursor, limit))

    def ready(self, firings: Sequence[values.Firing]) -> Callable[[], Future[list[list[str] | Exception]]]:
        operation = schedules.FireSchedules([schedules.FireSchedule(each) for each in firings])
        return lambda: self._engine.write(operation)

    def fire(self, firing: values.Firing) -> Future[list[str]]:
        return self._engine.write(schedules.FireSchedule(firing))

    def add_token(
        self, token_id: str, secret_sha256: str, role: values.Role, label: str, expires_at: datetime | None
    ) -> values.Token:
        return self._engine.change(lambda tx: tokens.add(tx, token_id, secret_sha256, role, label, expires_at))

    def token(self, secret_sha256: str) -> values.Token | None:
        return self._engine.peek(lambda tx: tokens.living(tx, secret_sha256))

    def tokens(self) -> list[values.Token]:
        return self._engine.peek(tokens.every)

    def revoke_token(self, token_id: str) -> None:
        self._engine.change(lambda tx: tokens.revoke(tx, token_id))

    def touch_token(self, token_id: str) -> None:
        self._engine.change(lambda tx: tokens.touch(tx, token_id))

    def now(self) -> datetime:
        return self._engine.peek(lambda tx: from_micros(tx.now))

    def prunable(self, keep: values.RetentionPolicy) -> dict[str, int]:
        return self._engine.read(lambda tx: retention.prunable(tx, keep))

    def prune(self, keep: values.RetentionPolicy) -> Iterator[tuple[values.PrunedKind, int]]:
        return retention.prune(self._engine, keep)

    def delete_run(self, run_id: str) -> None:
        retention.delete_run(self._engine, run_id)

    def acquire_job_lease(self, chore: str, owner: str, every: timedelta, lease: timedelta) -> bool:
        return self._engine.change(lambda tx: job_leases.take(tx, chore, owner, every, lease))

    def renew_job_lease(self, chore: str, owner: str, lease: timedelta) -> bool:
        return self._engine.change(lambda tx: job_leases.hold(tx, chore, owner, lease))

    def release_job_lease(self, chore: str, owner: str) -> None:
        self._engine.change(lambda tx: job_leases.end(tx, chore, owner))

    def depths(self) -> list[values.QueueDepth]:
        return self._engine.peek(queue_depth.every)

    def watch(self, failed: Callable[[], None]) -> None:
        self._engine = HealthEngine(self._engine, failed)

    def check(self) -> None:
        self._engine.check()

    def migrate(self, tell: Callable[[Migration], object] = lambda step: None) -> list[int]:
        return self._engine.migrate(tell)

    def close(self) -> None:
        self._engine.close()
