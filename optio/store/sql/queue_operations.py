"""Claims, attempts and their ends, pauses and processes.

In the body of the class `removals` is the module until the method of that name is defined, so such a method stands last.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from optio.errors import LeaseLost
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.room import Delay
from optio.model.run import UNKNOWN_AGENT, AgentIdentity, Lease, LogLine, Outcome, Run
from optio.model.usage import Meter
from optio.store import values
from optio.store.sql import (
    claims,
    job_leases,
    model_calls,
    namespaces,
    pauses,
    processes,
    queue,
    runs,
    shortages,
)
from optio.store.sql import pools as places
from optio.store.sql.group_commit import DiskLimited, DiskUse
from optio.store.sql.operations import Operations, change, peek, read, write
from optio.store.sql.transaction import Transaction


class QueueOperations(Operations):
    """Claims, attempts and their ends, pauses and processes. The methods are documented in `optio.store.base`."""

    pause = change(pauses.pause)
    resume = change(pauses.resume)
    pauses = peek(pauses.every)
    admission = read(queue.everything)

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

    renew = change(claims.renew)
    release = change(claims.release)
    note_worker = change(processes.note_worker)
    note_scheduler = write(processes.note_scheduler)
    forget_process = change(processes.forget)
    fleet = read(processes.read)
    served_namespaces = peek(processes.served_namespaces)
    namespaces = peek(namespaces.every)
    drop = change(claims.drop)
    owners = peek(claims.owners)
    running_attempts = peek(claims.running_attempts)
    next_due = peek(claims.next_due)
    cancel_requested = peek(claims.cancel_requested)
    agent_started = write(claims.agent_started)
    note_pod = write(places.note_pod)

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

    note_continued = change(claims.note_continued)
    give_back = change(claims.give_back)
    shortages = peek(shortages.every)

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

    cancel = change(runs.cancel)

    def retry(self, run_id: str, actor: str) -> Run:
        return self._engine.change(DiskLimited(DiskUse.NOTHING, lambda tx: runs.retry(tx, run_id, actor)))

    open_key = change(model_calls.open_key)
    attempt_key = peek(model_calls.key)
    admit_call = change(model_calls.admit)
    renew_calls = change(model_calls.renew)
    settle_call = change(model_calls.settle)
    call_totals = read(model_calls.totals)

    acquire_job_lease = change(job_leases.take)
    renew_job_lease = change(job_leases.hold)
    release_job_lease = change(job_leases.end)
