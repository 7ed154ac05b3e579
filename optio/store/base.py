"""The interface of the store: a protocol for each part of its work, and `Store` for the whole. `optio.store.values` has the
values that go in and out. A function names the part it needs in its signature.

Every operation is one transaction. An accepted change is durable when its method returns (or its future resolves). Every change
of a claimed run carries its `Lease`; one with an older fence raises LeaseLost and changes nothing. Times are aware UTC; leases
expire by the store's own clock. Any method may raise StoreUnavailable: then nothing was changed, except for its subclass
CommitUnknown, which leaves that open.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from optio.model.fleet import FleetState, ProcessKind, ProcessRow
from optio.model.model_call import AttemptKey, CallRecording, CallTotals, ModelCall, Plan, PlannedCall, RefusedCall, SettledCall
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import Pool
from optio.model.registry import CompiledTask, Registry
from optio.model.room import Delay, Shortage
from optio.model.run import UNKNOWN_AGENT, AgentIdentity, AgentPod, Attempt, Event, Lease, LogLine, Outcome, Page, Run
from optio.model.run_totals import RunTotals
from optio.model.usage import Meter
from optio.store.values import (
    EVERY_DELIVERY,
    EVERY_SLOT,
    NO_LIMIT,
    ORPHAN_TIMEOUT,
    Accepted,
    Activated,
    AdmissionView,
    Admit,
    AgentStart,
    AuditedDelivery,
    AuditedRun,
    AuditedSlot,
    AuditPage,
    AuditSpan,
    Claim,
    ClaimedAttempt,
    ClosedSchedule,
    Decide,
    Delivery,
    DeliveryFilter,
    Firing,
    GenerationHead,
    GenerationRow,
    IdempotencyKey,
    LastEnd,
    LastRun,
    NewDelivery,
    NewRun,
    Pause,
    PlacedStart,
    PooledTasks,
    PoolReport,
    PrunedKind,
    QueueDepth,
    Refusals,
    RemovalRow,
    RetentionPolicy,
    Role,
    Room,
    RunFilter,
    ScheduleRow,
    SlotCounts,
    SlotFilter,
    Token,
    unlimited_room,
)


class Clock(Protocol):
    """The store's clock, on which all processes that share the store agree."""

    def now(self) -> datetime:
        """Return the time by the store's clock, on which all processes that share the store agree."""


class LocalReads(Protocol):
    """A store whose reads may be so quick that an event loop makes them itself."""

    @property
    def local(self) -> bool:
        """Return whether reads of a few rows take microseconds and never block, because the database is a file on this machine.
        An event loop may then read directly: handing the read to a thread and back would take ten times as long."""


class GenerationReader(Protocol):
    """Reads the newest generation, and definitions by digest. Used by schedulers, executions and the audit."""

    def generation(self) -> GenerationRow | None:
        """Return the newest generation; None before the first."""

    def newest_generation(self) -> int:
        """Return the id of the newest generation, the one that counts; 0 before the first."""

    def definition(self, digest: str) -> CompiledTask:
        """Return the task that was compiled to this digest; raise NotFound."""

    def served_definitions(self) -> dict[str, CompiledTask]:
        """Return by digest all definitions of the newest generation that this version can read, in one query."""


class HistoryReader(GenerationReader, Protocol):
    """Reads the generations that were served, for people who look at changes."""

    def generation_heads(self, before: int, limit: int) -> list[GenerationHead]:
        """Return generations with an id below `before`, newest first, at most `limit`."""

    def generation_tasks(self, generation: int) -> dict[str, str]:
        """Return the digest of each task of a generation, by id; raise NotFound."""

    def count_accepted(self, since: datetime, until: datetime, most: int) -> int:
        """Return how many stored runs were accepted in [since, until), at most `most`."""


class ProcessStore(Protocol):
    """Deletes the rows of processes. Used by every process that writes one."""

    def forget_process(self, kind: ProcessKind, name: str) -> None:
        """Delete the row of a server, worker, scheduler or gateway that stops in order, so that nobody misses it."""


class RegistryStore(HistoryReader, ProcessStore, Protocol):
    """Stores generations, records of live servers, and held removals. Used by the served tree."""

    def activate(
        self, registry: Registry, commit: str | None, after: Activated | None = None, server: str | None = None
    ) -> GenerationRow:
        """Store all definitions by digest and make them the current generation; an equal digest is the same generation.

        With `after`, this succeeds only if that generation is still the newest, and raises Conflict otherwise. `server` is
        recorded as in sync in the same transaction, so that other servers never find a generation that no server's directory
        holds.
        """

    def note_server(self, server: str, generation: int, in_sync: bool) -> None:
        """Record that this server is alive, which generation it serves, and whether its directory equals it. This counts for 30
        s."""

    def servers(self) -> list[ProcessRow]:
        """Return the live servers, sorted by name."""

    def removals(self) -> dict[str, RemovalRow]:
        """Return the held removals of all servers by task; a release is included for as long as it counts."""

    def hold_removals(self, task_ids: Collection[str]) -> dict[str, RemovalRow]:
        """Record that these tasks are held, and return their rows; a release that still counts stays as it is."""

    def release_removals(self, task_ids: Collection[str], actor: str) -> None:
        """Allow every server to remove these tasks, for an hour from now."""

    def drop_removals(self, task_ids: Collection[str]) -> None:
        """Delete holds and releases of tasks whose files are back."""


class RefusalReader(Protocol):
    """Reads the counts of refused webhook requests. Used by the API and the audit."""

    def refusals(
        self,
        *,
        since: datetime,
        until: datetime | None = None,
        task_id: str | None = None,
        path: str | None = None,
        verdict: str | None = None,
    ) -> list[Refusals]:
        """Return the requests that `count_refusals` counted in a span, summed by path, verdict and task, the largest sums
        first, at most 1,000 of them."""


class IntakeStore(LocalReads, RefusalReader, Protocol):
    """Accepts runs and stores deliveries, refusals and idempotency keys. Used by the API and its webhooks."""

    def accept(
        self, run: NewRun, *, delivery: NewDelivery | None = None, once: IdempotencyKey | None = None
    ) -> Future[Accepted]:
        """Store delivery, run and first event in one commit. A known delivery key or a known `once` gives the first run, or
        raises Conflict if the body differs. A delivery whose replay guard another one holds gives that one's run. Where a run
        holds the business key, `Accepted` tells what the task's `dedupe` decided. The future cannot be cancelled."""

    def record_delivery(self, delivery: NewDelivery) -> Future[Accepted]:
        """Store a delivery that starts no run; a known one gives the run of the first."""

    def known_delivery(self, task_id: str, key: str) -> Delivery | None:
        """Return the first accepted or filtered delivery with this key; None if there is none."""

    def count_repeat(self, delivery_id: str) -> Future[None]:
        """Count a request that was answered like this earlier delivery, where `accept` and `record_delivery` have not counted
        it."""

    def count_refusals(self, counts: Mapping[tuple[str, str, str], int]) -> Future[None]:
        """Add refused requests to the counts of the current minute; the keys are (path, verdict, task id)."""

    def delivery(self, delivery_id: str) -> Delivery:
        """Return a delivery with its body; raise NotFound."""

    def deliveries(self, where: DeliveryFilter = EVERY_DELIVERY, *, cursor: str | None = None, limit: int = 50) -> Page:
        """Return deliveries newest first, at most 1,000 a page, without bodies. Raise Invalid for a forged cursor."""

    def recall(self, once: IdempotencyKey) -> str | None:
        """Return the answer that `remember` stored for this key, None if there is none; raise Conflict for the same key with
        another body."""

    def remember(self, once: IdempotencyKey, result: str) -> None:
        """Store the answer to a request that is not a run, for later repeats of the request."""


class ObstacleReader(Protocol):
    """Reads what keeps tasks from starting: pauses and shortages of room."""

    def pauses(self) -> dict[str, Pause]:
        """Return all pauses, by task."""

    def shortages(self) -> list[Shortage]:
        """Return the tasks that are short of room, by place."""


class QueueStore(Clock, ObstacleReader, ProcessStore, Protocol):
    """Manages the queue, and which worker owns which running run. Used by workers, and by pages that show or pause queued
    runs."""

    def pause(self, task_id: str, reason: str, actor: str) -> Pause:
        """Start no run of the task until it is resumed, also across edits and removals of its file."""

    def resume(self, task_id: str) -> Pause | None:
        """End the task's pause and return it; None if the task was not paused."""

    def admission(self) -> AdmissionView:
        """Return everything that is queued, running or held back at this instant, to explain to people why runs wait."""

    def claim(
        self,
        worker: str,
        lease: timedelta,
        admit: Admit,
        *,
        place: str = "",
        scope: WorkerScope = ALL_TASKS,
        room: Room = unlimited_room,
        most: int = NO_LIMIT,
        reason: str = "started",
    ) -> list[Claim]:
        """Admit and claim at most `most` runs in one transaction: attempt + 1, fence + 1, owner, lease.

        `admit` may be called more than once. It sees the head of each task's queue, in the worker's `scope` only, and is not
        called where `room`, given the number of running runs in that scope, leaves none. `place` is where the agents will run;
        `reason` is the runs' reason until their agents start in pods.
        """

    def adopt(
        self,
        worker: str,
        lease: timedelta,
        most: int,
        *,
        place: str = "",
        scope: WorkerScope = ALL_TASKS,
        orphaned: timedelta = ORPHAN_TIMEOUT,
    ) -> list[Claim]:
        """Take over running runs whose leases have expired: same attempt, fence + 1.

        Only a worker of the same `place` can find the agent. A worker elsewhere, with the task in its `scope`, takes the run
        once the lease has been over for `orphaned`, by when the agent has ended by itself. A place is
        `directory/boot/namespace`: after a reboot no agent of the same directory is left, so its runs are adopted at once.
        """

    def renew(self, worker: str, lease: timedelta) -> dict[str, bool]:
        """Extend the leases of all runs that this worker owns; return run id -> whether its cancellation was requested."""

    def release(self, worker: str) -> int:
        """End the leases of a worker that is gone or shutting down, so that another adopts its runs at once; return their
        number."""

    def note_worker(self, worker: str, scope: WorkerScope, capacity: int | None = None) -> None:
        """Record that a worker is alive, takes runs in this scope, and so many at once. It counts as gone after 30 seconds
        without another record, and at once on its own machine."""

    def fleet(self) -> FleetState:
        """Return the servers, workers, schedulers and gateways, live and silent, with what waits for them."""

    def served_namespaces(self) -> Collection[str] | None:
        """Return the namespaces whose runs a live worker takes, `""` for tasks without one; None where a worker takes the runs
        of all."""

    def namespaces(self) -> dict[str, str]:
        """Return the namespaces that the policy gives to tasks, by task."""

    def owners(self) -> set[str]:
        """Return the workers that own running runs, also those whose leases have expired."""

    def running_attempts(self) -> dict[str, int]:
        """Return the attempt number of each running run, by run id; executors clean up everything else."""

    def next_due(self) -> timedelta | None:
        """Return the time until the next moment at which a claim may succeed: a delayed run is due, a start limit allows
        another start, a try for room is due, or a lease expires. It is computed by the store's clock, since this machine's may
        differ. None if nothing is coming."""

    def depths(self) -> list[QueueDepth]:
        """Return the queue depth of every task that has queued or running runs."""

    def last_ends(self) -> list[LastEnd]:
        """Return when the newest completed and the newest failed run of each served task ended, as far as they are kept."""


class RunReader(LocalReads, Protocol):
    """Reads runs, their attempts, events and logs, for the API and for executions."""

    def run(self, run_id: str) -> Run:
        """Return a run without its prompt; raise NotFound."""

    def prompt(self, run_id: str) -> str:
        """Return the rendered prompt of a run; raise NotFound."""

    def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
        """Return runs newest first, at most 1,000 a page. Raise Invalid for a forged cursor."""

    def attempts(self, run_id: str) -> list[Attempt]:
        """Return the attempts of a run, oldest first; empty for an unknown run."""

    def events(self, run_id: str) -> list[Event]:
        """Return the state changes of a run, oldest first; empty for an unknown run."""

    def log(
        self, run_id: str, *, after: int = 0, before: int | None = None, limit: int = 1000, attempt: int | None = None
    ) -> list[LogLine]:
        """Return log lines with a cursor greater than `after`, in order, at most `limit` of them, of one attempt or of all.
        With `before`, the last ones that have a smaller cursor than that."""

    def last_line(self, run_id: str) -> int:
        """Return the cursor of the last log line of a run, 0 without any. Lines are numbered from 1 without gaps."""

    def model_calls(self, run_id: str, *, attempt: int | None = None, after: int = 0, limit: int = 200) -> list[ModelCall]:
        """Return calls through the gateway with a number greater than `after`, in order, of one attempt or of all."""

    def recording(self, run_id: str, attempt: int, call_id: str) -> CallRecording | None:
        """Return what is kept of a call's request and answer; None if nothing is."""

    def search_log(
        self, run_id: str, *, after: int = 0, until: int, text: str = "", errors: bool = False, limit: int = 1000
    ) -> tuple[list[int], int]:
        """Return the first `limit` cursors in (after, until] of log lines that contain a text, ASCII letters in either case,
        and the number of all such lines. `errors` means lines of standard error and failed tool results only. It reads every
        line of the range, so callers keep that small. Text behind a NUL in its line may be missed."""


class TotalsReader(Protocol):
    """Reads figures of many tasks at once: their last runs, and the totals of each task and day (UTC), which are counted as
    runs end, in the same transactions."""

    def last_runs(self, task_ids: Sequence[str], most: int) -> dict[str, list[LastRun]]:
        """Return the newest runs of each of these tasks, newest first. Tasks without any are left out."""

    def queued_runs(self, task_ids: Sequence[str]) -> dict[str, int]:
        """Return the number of queued runs of those of these tasks that have any."""

    def totals(self, task_ids: Sequence[str], since: date) -> dict[str, RunTotals]:
        """Return the totals of these tasks from a day on, by id. Tasks without any are left out."""

    def totals_by_task(self, since: date) -> dict[str, RunTotals]:
        """Return the totals of all tasks from a day on, without durations. This reads a row for each task and day: keep the
        answer for a while."""

    def totals_by_day(self, since: date, task_ids: Sequence[str] | None) -> dict[date, dict[str, RunTotals]]:
        """Return the totals of each day, without durations: those of these tasks by id, or, for None, the sum of all tasks
        under `""`, for which the caution of `totals_by_task` holds."""


class AttemptStore(Protocol):
    """Stores what the owner of a claimed run writes; each write carries its lease. Used by an execution."""

    def cancel_requested(self, lease: Lease) -> bool:
        """Return whether the cancellation of this claimed run was requested."""

    def agent_started(self, lease: Lease, began: AgentStart) -> Future[None]:
        """Record when and how the agent started; callers need not wait for the future."""

    def note_continued(self, lease: Lease, attempt: int) -> None:
        """Record that the attempt continues the agent session of an ended one of the same run. To be called before the agent
        starts, so that nobody takes the files of that session for remains."""

    def note_pod(self, lease: Lease, pod: AgentPod) -> Future[None]:
        """Record the pod of the attempt; callers need not wait for the future. Nothing is recorded for another owner's
        attempt."""

    def append_log(
        self,
        lease: Lease,
        lines: Sequence[LogLine],
        offsets: Mapping[str, int],
        meter: Meter,
        *,
        after: int | None = None,
        began: AgentStart | None = None,
    ) -> int:
        """Store log lines, how far the output was read, and usage so far, in one commit; return the last cursor. `after` is the
        cursor that the lines follow, so that a call repeated after CommitUnknown adds nothing twice. `began` is when and how
        the agent started, where that is not recorded yet."""

    def explain(self, lease: Lease, why: Delay, lines: Sequence[LogLine]) -> int:
        """Record why the agent of a claimed run has not started yet, as the run's reason and message until it does, and as log
        lines, in one commit; return the last cursor."""

    def give_back(self, lease: Lease, why: Delay, lines: Sequence[LogLine]) -> Run:
        """Queue a claimed run again in its old position, because there is no room where its agent was to run.

        The attempt counts neither as a retry nor as a start; only its number is used up. The task is short of room then (see
        `model.room`). Of consecutive tries without room for the same reason only the first leaves an event and log lines. A run
        whose patience has ended fails, one whose cancellation was requested is cancelled, and one whose business key another
        run has taken fails. Raise Conflict when the agent has started.
        """

    def finish(
        self,
        lease: Lease,
        outcome: Outcome,
        meter: Meter,
        exit_code: int | None,
        signal: int | None,
        decide: Decide,
        *,
        began: AgentStart | None = None,
        agent: AgentIdentity = UNKNOWN_AGENT,
    ) -> Run:
        """End the attempt and its lease: the run is completed, failed, queued again, or cancelled where that was requested
        before. `decide` chooses between retry and failure; `began` is as in `append_log`, and `agent` is what is known of the
        agent then."""

    def drop(self, lease: Lease) -> None:
        """End the lease of one run, so that it is adopted at once by any worker, its present owner included."""

    def open_key(self, lease: Lease, key: AttemptKey) -> None:
        """Store the key by which the attempt of this claimed run may call its model, in place of one that it had."""
        ...

    def call_totals(self, run_id: str, attempt: int) -> CallTotals | None:
        """Return the sum of the attempt's calls through the gateway; None for an attempt whose key opens no model."""
        ...


class GatewayStore(LocalReads, ProcessStore, Protocol):
    """Knows keys of attempts, and admits and settles their model calls. Used by the gateway."""

    def note_gateway(self, gateway: str) -> None:
        """Record that this gateway is alive. This counts for 30 s."""

    def attempt_key(self, digest: str) -> AttemptKey | None:
        """Return the key with this digest while its attempt is the running one of its run; None otherwise."""
        ...

    def admit_call(
        self, key: AttemptKey, call_id: str, model: str, size: int, plan: Plan, *, protocol: str | None = None
    ) -> PlannedCall | RefusedCall:
        """Reserve what `plan` says for a call with a request of so many bytes, or record its refusal. Calls of one attempt are
        admitted one after another. A refusal with `has_open` is not recorded. Raise NotFound for a key that is dead."""
        ...

    def renew_calls(self, calls: Sequence[tuple[AttemptKey, str]]) -> None:
        """Say that these open calls still have a gateway. One that is not renewed for `CALL_LEASE` is lost: it counts with what
        it has reserved, and no other call waits for it."""
        ...

    def definition(self, digest: str) -> CompiledTask:
        """Return the task that was compiled to this digest; raise NotFound."""
        ...

    def count_call(self, key: AttemptKey, connection: str) -> int:
        """Count a call that an attempt makes of one of its connections, and return how many it has made, this one included."""
        ...

    def settle_call(self, key: AttemptKey, call_id: str, call: SettledCall) -> None:
        """Replace what an open call has reserved by what it has cost; a call that is settled stays as it is."""
        ...

    def record_call(self, key: AttemptKey, call_id: str, recording: CallRecording) -> None:
        """Keep the request and the answer of a call, without secrets. It is omitted where the run's calls are too large
        together. Nothing is kept of a run that was deleted."""
        ...


class ExecutionStore(AttemptStore, GenerationReader, RunReader, Protocol):
    """The parts that one execution needs: its task's definition, its run, and the writes of its attempt."""


class ControlStore(Protocol):
    """Cancels and retries runs on behalf of a person."""

    def cancel(self, run_id: str, actor: str) -> Run:
        """Cancel a queued run, or request the cancellation of a running one, which its worker then stops. Raise Conflict for an
        ended run."""

    def retry(self, run_id: str, actor: str) -> Run:
        """Queue a failed run again, due at once, on the definition that it started from, with all its retries and its whole
        budget. Raise Conflict for other states, and when another run holds its business key."""


class ScheduleReader(Protocol):
    """Reads the stored schedules."""

    def schedules(self) -> dict[str, ScheduleRow]:
        """Return all stored schedules by task."""


class ScheduleStore(Clock, ScheduleReader, ProcessStore, Protocol):
    """Stores schedules and the verdicts of their slots. Used by schedulers."""

    def unscheduled_generation(self) -> list[GenerationRow]:
        """Return the generations whose schedules no scheduler has adopted yet, oldest first, at most 100."""

    def note_scheduler(self, scheduler: str) -> Future[None]:
        """Record that a scheduler is alive, in the next group commit, so that no slot waits for it."""

    def schedule_generation(
        self, generation: int, put: Sequence[ScheduleRow], drop: Sequence[str], closings: Sequence[ClosedSchedule] = ()
    ) -> bool:
        """Change the schedules to those of this generation, once. Return False, and change nothing, if a scheduler has done so
        before."""

    def change_schedules(
        self, put: Sequence[ScheduleRow], drop: Sequence[str], *, seen: Mapping[str, ScheduleRow] | None = None
    ) -> None:
        """Store new and changed schedules and delete dropped ones. With `seen`, only rows that are still as they were seen are
        changed. A schedule whose next slot is set back was ahead by a wrong clock: slots recorded as missed there are opened
        again."""

    def slots(self, task_id: str, where: SlotFilter = EVERY_SLOT, *, cursor: str | None = None, limit: int = 50) -> Page:
        """Return the outcomes of the task's slots, newest first, at most 1,000 a page. Raise Invalid for a forged cursor."""

    def slot_counts(self, since: datetime, until: datetime) -> SlotCounts:
        """Return why slots of served tasks in [since, until) started no run."""

    def ready(self, firings: Sequence[Firing]) -> Callable[[], Future[list[list[str] | Exception]]]:
        """Prepare `fire` for many schedules, each of another task, and return a function that commits them together. Everything
        that can be done before they are due is done in this call. The future holds for each the runs that it started, or the
        exception that `fire` would raise; one that fails does not affect the others."""

    def fire(self, firing: Firing) -> Future[list[str]]:
        """Store slots, their runs and the next fire in one commit; return the ids of the runs that started. A slot with a
        verdict starts nothing, and a slot whose run is a duplicate gets that verdict. Raise Conflict when the task has another
        definition by now, or none."""


class PoolStore(Clock, ObstacleReader, RunReader, Protocol):
    """Stores what warm pools need: the tasks that want pods, the reports on pools, and how starts went. Used by workers and the
    pool pages."""

    def pooled_tasks(self, seen: int = 0) -> PooledTasks | None:
        """Return the served tasks that want warm pods; None while the newest generation is still `seen`, which one small read
        tells."""

    def keep_pools(self, place: str, pools: Sequence[Pool]) -> None:
        """Replace the report on the warm pools of this place; called by the worker that keeps them."""

    def pool_reports(self) -> list[PoolReport]:
        """Return the last report of each place on its warm pools."""

    def placed_starts(self, since: datetime, most: int = 100_000) -> list[PlacedStart]:
        """Return starts in pods since a time, newest first, at most `most`."""

    def arrivals(self, since: datetime, *, task_id: str | None = None, most: int = 100_000) -> list[ClaimedAttempt]:
        """Return attempts claimed since a time, newest first; where more than `most` runs qualify, the attempts of those that
        ended last."""


class AuditStore(Clock, GenerationReader, RefusalReader, ScheduleReader, Protocol):
    """Reads slots, deliveries and runs, each beside its counterpart. Used by the audit alone."""

    def generations(self, *, since: datetime, after: int = 0, limit: int = 20) -> list[GenerationRow]:
        """Return generations later than `after`, oldest first, beginning with the one that was served at `since`."""

    def audit_slots(
        self, task_id: str, after: datetime, until: datetime, runs: datetime, limit: int = 20_000
    ) -> list[tuple[datetime, str] | AuditedSlot]:
        """Return the task's slots in (after, until], oldest first; for a slot that is in order only its time and verdict.
        `runs` is as in AuditSpan."""

    def audit_ranges(self, task_id: str, after: datetime, until: datetime) -> list[AuditedSlot]:
        """Return the ranges of skipped slots that overlap (after, until]."""

    def first_delivery(self, since: datetime) -> int | None:
        """Return the smallest sequence number of the deliveries received after `since`; None without any."""

    def audit_deliveries(
        self, span: AuditSpan, *, first: int, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
    ) -> AuditPage[AuditedDelivery] | None:
        """Return a page of the newest deliveries with sequence numbers in [first, before); None without any."""

    def audit_repeats(self, span: AuditSpan, *, task_id: str | None = None) -> Mapping[tuple[str, str], int]:
        """Return how often deliveries of the span came again, by task and by `repeated` or `replayed`."""

    def audit_runs(
        self, span: AuditSpan, *, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
    ) -> AuditPage[AuditedRun] | None:
        """Return a page of the newest runs with a sequence number below `before`; None without any."""


class TokenStore(LocalReads, Protocol):
    """Stores API tokens, with hashes in place of their secrets."""

    def add_token(self, token_id: str, secret_sha256: str, role: Role, label: str, expires_at: datetime | None) -> Token:
        """Store a token by the hash of its secret, and return it."""

    def token(self, secret_sha256: str) -> Token | None:
        """Return the token with this hash, unless it has expired or been revoked."""

    def tokens(self) -> list[Token]:
        """Return all tokens, newest first, expired and revoked ones included."""

    def revoke_token(self, token_id: str) -> None:
        """Revoke a token at once; raise NotFound."""

    def touch_token(self, token_id: str) -> None:
        """Record that a token was used now."""


class RetentionStore(Protocol):
    """Deletes rows that the retention policy no longer keeps, and gives out the leases of jobs that one process at a time does
    for all."""

    def prunable(self, keep: RetentionPolicy) -> dict[str, int]:
        """Return how many rows `prune` would delete now, by kind, as far as one query can count them."""

    def prune(self, keep: RetentionPolicy) -> Iterator[tuple[PrunedKind, int]]:
        """Delete rows that the policy no longer keeps, in small transactions; yield a kind and the number of deleted rows for
        each. Closing the iterator stops the deletion. Rows of runs that have not ended are never touched."""

    def delete_run(self, run_id: str) -> None:
        """Delete an ended run with its attempts, events and log. Raise NotFound, and Conflict for one that has not ended."""

    def acquire_job_lease(self, chore: str, owner: str, every: timedelta, lease: timedelta) -> bool:
        """Take the lease on a periodic job, such as pruning; return whether it is this owner's now. That fails while another
        owner holds it, and until `every` has passed since the job last ended."""

    def renew_job_lease(self, chore: str, owner: str, lease: timedelta) -> bool:
        """Extend a job lease by `lease` from now; return False if it is lost."""

    def release_job_lease(self, chore: str, owner: str) -> None:
        """Give a job lease back when the job is done, which starts the time until the next turn."""


class Store(
    RegistryStore,
    IntakeStore,
    QueueStore,
    AttemptStore,
    ControlStore,
    TotalsReader,
    ScheduleStore,
    PoolStore,
    AuditStore,
    TokenStore,
    RetentionStore,
    GatewayStore,
    Protocol,
):
    """The whole store, as a driver supplies it. `store.sql.store.SqlStore` implements it for both databases."""

    def watch(self, failed: Callable[[], None]) -> None:
        """Call `failed` each time that the database cannot be used. Must be called before any other method; telemetry counts by
        it."""

    def check(self) -> None:
        """Raise StoreUnavailable or StoreMismatch if the store cannot work; the former as StoreFull while only the writes that
        let runs end are possible."""

    def migrate(self, tell: Callable[[Any], object] = lambda step: None) -> list[int]:
        """Apply the pending schema migrations and return their versions; `tell` is called with each before it is applied. Raise
        StoreMismatch for a newer schema."""

    def close(self) -> None:
        """Finish the queued writes, then close all connections."""
