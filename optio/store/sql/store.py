"""SqlStore: the store's interface, implemented by binding each operation to a driver's transactions.

In the body of the class a name such as `pauses` is the module until the method of that name is defined, so such a method stands
behind all others of its module.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import lru_cache

from optio.errors import LeaseLost
from optio.model.model_call import AttemptKey, CallRecording
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.registry import CompiledTask, Registry
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
    model_calls,
    namespaces,
    pauses,
    pools,
    processes,
    queue,
    queue_depth,
    recordings,
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
from optio.store.sql.engine import Engine
from optio.store.sql.group_commit import DiskLimited, DiskUse
from optio.store.sql.health_engine import HealthEngine
from optio.store.sql.operations import Operations, change, peek, read, write
from optio.store.sql.schema import Migration
from optio.store.sql.transaction import Transaction, from_micros

_MAX_CACHED_DEFINITIONS = 1024
_TRUST_DEFINITION_S = 3600.0


class SqlStore(Operations):
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

    def now(self) -> datetime:
        return self._engine.peek(lambda tx: from_micros(tx.now))

    def watch(self, failed: Callable[[], None]) -> None:
        self._engine = HealthEngine(self._engine, failed)

    def check(self) -> None:
        self._engine.check()

    def migrate(self, tell: Callable[[Migration], object] = lambda step: None) -> list[int]:
        return self._engine.migrate(tell)

    def close(self) -> None:
        self._engine.close()

    # Definitions, generations and removals

    def activate(
        self, new: Registry, commit: str | None, after: values.Activated | None = None, server: str | None = None
    ) -> values.GenerationRow:
        generation = self._engine.change(DiskLimited(DiskUse.HALF, registry.Activate(new, commit, after, server)))
        now = time.monotonic()
        self._kept_until.update((task.digest, now) for task in new.tasks.values())
        return generation

    def definition(self, digest: str) -> CompiledTask:
        return self._definition(digest)

    _read_definition = peek(registry.definition)
    generation = peek(registry.newest)
    newest_generation = peek(pools.newest)
    served_definitions = peek(registry.served_definitions)
    generation_heads = peek(registry.list_heads)
    generation_tasks = peek(registry.tasks_of)
    hold_removals = change(removals.hold)
    release_removals = change(removals.release)
    drop_removals = change(removals.drop)
    removals = peek(removals.every)

    # Acceptance of runs and deliveries

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

    def remember(self, key: values.IdempotencyKey, result: str) -> None:
        self._engine.change(DiskLimited(DiskUse.NOTHING, lambda tx: idempotency.take(tx, key, result)))

    recall = peek(idempotency.recall)
    count_repeat = write(request_counts.count_repeat)
    count_refusals = write(request_counts.count_refusals)
    refusals = peek(request_counts.refusals)
    known_delivery = peek(deliveries.find_known)
    delivery = peek(deliveries.get)
    deliveries = read(deliveries.page)

    # Claims, attempts and their ends

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
        disk_use = DiskUse.HALF if lines else DiskUse.ALL
        return self._engine.change(
            DiskLimited(disk_use, lambda tx: claims.append_log(tx, lease, lines, offsets, meter, after, began))
        )

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

    renew = change(claims.renew)
    release = change(claims.release)
    drop = change(claims.drop)
    owners = peek(claims.owners)
    running_attempts = peek(claims.running_attempts)
    next_due = peek(claims.next_due)
    cancel_requested = peek(claims.cancel_requested)
    agent_started = write(claims.agent_started)
    note_pod = write(pools.note_pod)
    note_continued = change(claims.note_continued)
    explain = change(claims.explain, DiskUse.HALF)
    give_back = change(claims.give_back)

    # What keeps runs from starting

    pause = change(pauses.pause)
    resume = change(pauses.resume)
    pauses = peek(pauses.every)
    shortages = peek(shortages.every)
    namespaces = peek(namespaces.every)
    admission = read(queue.everything)

    # Processes, and the jobs that one of them does for all

    note_server = change(processes.note_server)
    note_worker = change(processes.note_worker)
    note_scheduler = write(processes.note_scheduler)
    note_gateway = change(processes.note_gateway)
    forget_process = change(processes.forget)
    servers = peek(processes.servers)
    fleet = read(processes.read)
    served_namespaces = peek(processes.served_namespaces)
    open_key = change(model_calls.open_key)
    attempt_key = peek(model_calls.key)
    admit_call = change(model_calls.admit)
    renew_calls = change(model_calls.renew)
    settle_call = change(model_calls.settle)
    count_call = change(model_calls.count)
    call_totals = read(model_calls.totals)
    recording = read(recordings.get)

    def record_call(self, key: AttemptKey, call_id: str, recording: CallRecording) -> None:
        encoded = recordings.encode(recording)
        self._engine.change(DiskLimited(DiskUse.NOTHING, lambda tx: recordings.add(tx, key, call_id, encoded)))

    model_calls = peek(model_calls.calls)

    acquire_job_lease = change(job_leases.take)
    renew_job_lease = change(job_leases.hold)
    release_job_lease = change(job_leases.end)

    # Runs, their logs and totals

    cancel = change(runs.cancel)
    retry = change(runs.retry, DiskUse.NOTHING)
    run = peek(runs.get)
    prompt = peek(runs.prompt)
    attempts = peek(runs.attempts)
    events = peek(runs.history)
    log = peek(runs.log)
    last_line = peek(runs.last_line)
    search_log = read(runs.search_log)
    count_accepted = peek(runs.count_accepted)

    def runs(self, where: values.RunFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
        see = self._engine.peek if where.min_cost is None else self._engine.read
        return see(lambda tx: runs.page(tx, where, cursor, limit))

    depths = peek(queue_depth.every)
    last_ends = read(queue_depth.last_ends)
    queued_runs = peek(last_runs.queued_runs)
    last_runs = peek(last_runs.last_runs)
    totals = read(daily_totals.of_tasks)
    totals_by_task = peek(daily_totals.by_task)
    totals_by_day = peek(daily_totals.by_day)

    # Schedules, slots and warm pools

    def pooled_tasks(self, seen: int = 0) -> values.PooledTasks | None:
        if seen and self._engine.peek(pools.newest) == seen:
            return None
        return self._engine.read(pools.pooled_tasks)

    def ready(self, firings: Sequence[values.Firing]) -> Callable[[], Future[list[list[str] | Exception]]]:
        operation = schedules.FireSchedules([schedules.FireSchedule(firing) for firing in firings])
        return lambda: self._engine.write(operation)

    def fire(self, firing: values.Firing) -> Future[list[str]]:
        return self._engine.write(schedules.FireSchedule(firing))

    unscheduled_generation = peek(registry.unscheduled_generation)
    schedule_generation = change(schedules.schedule_generation)
    change_schedules = change(schedules.change)
    slots = read(schedules.slots)
    slot_counts = peek(schedules.count_slots)
    schedules = peek(schedules.every)
    keep_pools = change(pools.keep, DiskUse.HALF)
    pool_reports = peek(pools.reports)
    placed_starts = peek(pools.starts)
    arrivals = peek(pools.arrivals)

    # Audits, tokens and retention

    generations = peek(audit.generations)
    audit_slots = peek(audit.slots)
    audit_ranges = peek(audit.ranges)
    first_delivery = peek(audit.first_delivery)
    audit_deliveries = read(audit.deliveries)
    audit_repeats = read(audit.repeats)
    audit_runs = read(audit.runs)
    add_token = change(tokens.add)
    token = peek(tokens.living)
    revoke_token = change(tokens.revoke)
    touch_token = change(tokens.touch)
    tokens = peek(tokens.every)
    prunable = read(retention.prunable)

    def prune(self, keep: values.RetentionPolicy) -> Iterator[tuple[values.PrunedKind, int]]:
        return retention.prune(self._engine, keep)

    def delete_run(self, run_id: str) -> None:
        retention.delete_run(self._engine, run_id)
