"""Definitions, generations, removals, and the acceptance of runs and deliveries.

In the body of the class `removals` is the module until the method of that name is defined, so such a method stands last.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import datetime
from functools import lru_cache

from optio.model.registry import CompiledTask, Registry
from optio.model.run import Page
from optio.store import values
from optio.store.sql import (
    deliveries,
    idempotency,
    processes,
    registry,
    removals,
    replay_guards,
    request_counts,
    runs,
)
from optio.store.sql import pools as places
from optio.store.sql.engine import Engine
from optio.store.sql.group_commit import DiskLimited, DiskUse
from optio.store.sql.operations import Operations, change, peek

_MAX_CACHED_DEFINITIONS = 1024
_TRUST_DEFINITION_S = 3600.0


class IntakeOperations(Operations):
    """Definitions, generations, removals, and the acceptance of runs and deliveries. The methods are documented in
    `optio.store.base`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Definitions never change, and are deleted only when nothing has used them for long, so a known one is not stored
        # again within an hour.
        self._kept_until: dict[str, float] = {}
        self._definition = lru_cache(_MAX_CACHED_DEFINITIONS)(self._read_definition)

    def activate(
        self, new: Registry, commit: str | None, after: values.Activated | None = None, server: str | None = None
    ) -> values.GenerationRow:
        generation = self._engine.change(DiskLimited(DiskUse.HALF, registry.Activate(new, commit, after, server)))
        now = time.monotonic()
        self._kept_until.update((task.digest, now) for task in new.tasks.values())
        return generation

    generation = peek(registry.newest)
    newest_generation = peek(places.newest)
    served_definitions = peek(registry.served_definitions)
    generation_heads = peek(registry.list_heads)
    generation_tasks = peek(registry.tasks_of)
    count_accepted = peek(runs.count_accepted)
    note_server = change(processes.note_server)
    servers = peek(processes.servers)

    def definition(self, digest: str) -> CompiledTask:
        return self._definition(digest)

    _read_definition = peek(registry.definition)

    hold_removals = change(removals.hold)
    release_removals = change(removals.release)
    drop_removals = change(removals.drop)
    removals = peek(removals.every)

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

    known_delivery = peek(deliveries.find_known)

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

    delivery = peek(deliveries.get)

    def deliveries(
        self, where: values.DeliveryFilter = values.EVERY_DELIVERY, *, cursor: str | None = None, limit: int = 50
    ) -> Page:
        return self._engine.read(lambda tx: deliveries.page(tx, where, cursor, limit))

    recall = peek(idempotency.recall)

    def remember(self, key: values.IdempotencyKey, result: str) -> None:
        self._engine.change(DiskLimited(DiskUse.NOTHING, lambda tx: idempotency.take(tx, key, result)))
