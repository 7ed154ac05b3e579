"""The interface of the store, a protocol for each kind of reader; `optio.store.values` has what goes in and comes out.

Every operation is one transaction. A change that was accepted is durable when its method returns (or its future resolves).
Every change of a claimed run carries the claim's fence; an older fence raises LeaseLost and changes nothing. Times are aware
UTC; leases expire by the store's own clock. Any method may raise StoreUnavailable: then nothing was changed, but for
CommitUnknown, its one kind that leaves this open.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any, Protocol

from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import Pool
from optio.model.registry import CompiledTask, Registry
from optio.model.room import Delay, Shortage
from optio.model.run import AgentPod, Attempt, Event, LogLine, Meter, Outcome, Page, Run
from optio.store.values import (
    EVERY_DELIVERY,
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
    GenerationRow,
    IdempotencyKey,
    NewDelivery,
    NewRun,
    Pause,
    PlacedStart,
    PooledTasks,
    PoolReport,
    QueueDepth,
    Refusals,
    RemovalRow,
    RetentionPolicy,
    Room,
    RunFilter,
    ScheduleRow,
    ServerRow,
    Token,
    unlimited_room,
)


class Clock(Protocol):
    """The store's clock."""

    def now(self) -> datetime:
        """The store's clock, which all that share the store agree on."""
        ...


class LocalReads(Protocol):
    """Say whether reads are so quick that an event loop may do them itself."""

    @property
    def local(self) -> bool:
        """Whether a read of a few rows takes microseconds and waits for nobody, because the database is a file of this machine:
        an event loop may do it itself, where handing it to a thread and back would take ten times as long."""
        ...


class GenerationReader(Protocol):
    """The newest generation, and definitions by digest. Used by schedulers, executions and the audit."""

    def generation(self) -> GenerationRow | None:
        """The newest generation."""
        ...

    def newest_generation(self) -> int:
        """Return the id of the newest generation, which is the one that counts; 0 before the first."""
        ...

    def definition(self, digest: str) -> CompiledTask:
        """Raises NotFound."""
        ...

    def served_definitions(self) -> dict[str, CompiledTask]:
        """Return by digest the definitions of the newest generation that this version can read, in one go."""
        ...


class RegistryStore(GenerationReader, Protocol):
    """Generations, the servers that serve them, and removals that are held. Used by the served tree."""

    def activate(
        self, registry: Registry, commit: str | None, after: Activated | None = None, server: str | None = None
    ) -> GenerationRow:
        """Keep every definition by digest and make these the current ones; the same digest again is the same generation.

        With `after`, only if that is the newest yet: else Conflict is raised. `server` is noted as in sync with it in the same
        transaction: other servers must not find a generation that nobody's directory holds.
        """
        ...

    def note_server(self, server: str, generation: int, in_sync: bool) -> None:
        """Note that this server is there, what it serves, and whether its directory holds the same. It counts for 30 s."""
        ...

    def forget_server(self, server: str) -> None:
        """Note that this server goes."""
        ...

    def servers(self) -> list[ServerRow]:
        """Return the servers that are there, in the order of their names."""
        ...

    def removals(self) -> dict[str, RemovalRow]:
        """Return the held removals of all servers by task; a release is among them as long as it counts."""
        ...

    def hold_removals(self, task_ids: Collection[str]) -> dict[str, RemovalRow]:
        """Note that these tasks are held, and return their rows: a release that still counts is left as it is."""
        ...

    def release_removals(self, task_ids: Collection[str], actor: str) -> None:
        """Let every server remove these tasks, for an hour from now."""
        ...

    def drop_removals(self, task_ids: Collection[str]) -> None:
        """Forget holds and releases of tasks whose files are back."""
        ...


class RefusalReader(Protocol):
    """Webhook requests that were refused, counted."""

    def refusals(
        self,
        *,
        since: datetime,
        until: datetime | None = None,
        task_id: str | None = None,
        path: str | None = None,
        verdict: str | None = None,
    ) -> list[Refusals]:
        """What `count_refusals` counted in that time, summed up, the largest sums first; 1,000 of them at most."""
        ...


class IntakeStore(LocalReads, RefusalReader, Protocol):
    """Accepted runs, deliveries, refusals, and answers that are repeated. Used by the API and its webhooks."""

    def accept(
        self, run: NewRun, *, delivery: NewDelivery | None = None, once: IdempotencyKey | None = None
    ) -> Future[Accepted]:
        """Delivery, run and event in one commit. A delivery whose key is known, or a known `once`, gives the first run; with
        another body than the first it raises Conflict. One whose guard another delivery has gives that one's run. Of a
        business key that a run stands for, `Accepted` tells what the task's `dedupe` made of it. The future cannot be
        cancelled."""
        ...

    def record_delivery(self, delivery: NewDelivery) -> Future[Accepted]:
        """Keep a delivery that starts nothing."""
        ...

    def known_delivery(self, task_id: str, key: str) -> Delivery | None:
        """The first accepted or filtered delivery with this key."""
        ...

    def count_repeat(self, delivery_id: str) -> Future[None]:
        """Count a request that was answered as this delivery was, where `accept` and `record_delivery` have not done so."""
        ...

    def count_refusals(self, counts: Mapping[tuple[str, str, str], int]) -> Future[None]:
        """Add requests without a delivery to the counts of this minute; the keys are (path, verdict, task id)."""
        ...

    def delivery(self, delivery_id: str) -> Delivery:
        """Raises NotFound."""
        ...

    def deliveries(self, where: DeliveryFilter = EVERY_DELIVERY, *, cursor: str | None = None, limit: int = 50) -> Page:
        """Newest first, at most 1,000 of them, without bodies. Raises Invalid for a forged cursor."""
        ...

    def recall(self, once: IdempotencyKey) -> str | None:
        """What `remember` kept; raises Conflict for the same key with another body."""
        ...

    def remember(self, once: IdempotencyKey, result: str) -> None:
        """Keep the answer of a request that is not a run."""
        ...


class ObstacleReader(Protocol):
    """What keeps tasks from starting: pauses, and a lack of room."""

    def pauses(self) -> dict[str, Pause]:
        """All, by task."""
        ...

    def shortages(self) -> list[Shortage]:
        """Tasks that are short of room, by place."""
        ...


class QueueStore(Clock, ObstacleReader, Protocol):
    """The queue, and who owns which running run. Used by workers, and by whoever shows or pauses what waits."""

    def pause(self, task_id: str, reason: str, actor: str) -> Pause:
        """Let nothing of the task start until it is resumed, whatever becomes of its file."""
        ...

    def resume(self, task_id: str) -> Pause | None:
        """End the task's pause, and give it if there was one."""
        ...

    def admission(self) -> AdmissionView:
        """All that waits and all that runs, at this instant."""
        ...

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
        """Admit and claim in one transaction, `most` runs at most: attempt + 1, fence + 1, owner, lease. `admit` may be called
        more than once. It sees the first of each task's queue, of tasks in the `scope` alone, and is not asked where `room`
        leaves none: that counts their running runs. `place` is where the agents will run; `reason` is that of the runs until
        their agents begin in places of their own."""
        ...

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
        """Take over running runs whose lease is over: same attempt, fence + 1. Only a worker of the same `place` can find the
        agent; another, if the task is in its `scope`, takes it when the lease has been over for so long that the agent has
        ended by itself. A place is
        `directory/boot/namespace`: of the same directory after another boot no agent is left."""
        ...

    def renew(self, worker: str, lease: timedelta) -> dict[str, bool]:
        """Extend the lease of everything this worker owns: run id -> whether its end was asked for."""
        ...

    def release(self, worker: str) -> int:
        """End the leases of a worker that is gone or going, so that another adopts its runs at once."""
        ...

    def note_worker(self, worker: str, scope: WorkerScope) -> None:
        """Note that a worker is there for the tasks in this scope. It counts as gone when it has not said so for 30 seconds."""
        ...

    def served_namespaces(self) -> Collection[str] | None:
        """The namespaces of which a worker takes runs, `""` for that of tasks without one; None where one takes the runs of
        all."""
        ...

    def namespaces(self) -> dict[str, str]:
        """The namespaces that the policy gives to tasks, by task."""
        ...

    def owners(self) -> set[str]:
        """Workers that own running runs."""
        ...

    def running_attempts(self) -> dict[str, int]:
        """The number of the attempt of each running run, by the run's id."""
        ...

    def next_due(self) -> timedelta | None:
        """How long until the earliest delayed run is due, a start limit lets another run start, another try for room is due, or
        the earliest lease ends: by the store's clock, for this machine's may be another."""
        ...

    def depths(self) -> list[QueueDepth]:
        """Every task of which runs are queued or running."""
        ...


class RunReader(LocalReads, Protocol):
    """Runs, their attempts, events and logs, as readers ask for them."""

    def run(self, run_id: str) -> Run:
        """Raises NotFound."""
        ...

    def prompt(self, run_id: str) -> str:
        """The rendered prompt; raises NotFound."""
        ...

    def runs(self, where: RunFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
        """Newest first, at most 1,000 of them. Raises Invalid for a forged cursor."""
        ...

    def attempts(self, run_id: str) -> list[Attempt]:
        """Oldest first."""
        ...

    def events(self, run_id: str) -> list[Event]:
        """Oldest first."""
        ...

    def log(self, run_id: str, *, after: int = 0, limit: int = 1000, attempt: int | None = None) -> list[LogLine]:
        """Lines with a cursor greater than `after`, in order."""
        ...


class AttemptStore(Protocol):
    """What the owner of a claimed run writes: each write carries the claim's fence. Used by an execution."""

    def cancel_requested(self, run_id: str, fence: int) -> bool:
        """Whether its owner was asked to end it."""
        ...

    def agent_started(self, run_id: str, fence: int, began: AgentStart) -> Future[None]:
        """Note when and how the agent began; nothing has to wait for this."""
        ...

    def note_pod(self, run_id: str, fence: int, pod: AgentPod) -> Future[None]:
        """Note in which pod the attempt is; nothing has to wait for this. Nothing is noted for another owner's attempt."""
        ...

    def append_log(
        self,
        run_id: str,
        fence: int,
        attempt: int,
        lines: Sequence[LogLine],
        offsets: Mapping[str, int],
        meter: Meter,
        *,
        after: int | None = None,
        began: AgentStart | None = None,
    ) -> int:
        """Lines, how far the output is read, and what is used so far, in one commit; the last cursor. `after` is the cursor
        that they follow: a call that is repeated after CommitUnknown then adds nothing twice. `began` is when and how the agent
        began, where that is not noted yet."""
        ...

    def explain(self, run_id: str, fence: int, attempt: int, why: Delay, lines: Sequence[LogLine]) -> int:
        """Say why the agent of a claimed run has not begun yet, as the run's reason and message until it does, and by these
        lines of its log, in one commit; the last cursor."""
        ...

    def give_back(self, run_id: str, fence: int, why: Delay, lines: Sequence[LogLine]) -> Run:
        """Queue a claimed run again in its old place of the queue, for where its agent was to run there is no room. The attempt
        is none: it counts neither as a retry nor as a start, and only its number is used up. The task is short of room then
        (see `model.room`). Of tries that find no room one after the other, for one reason, the first leaves an event and these
        lines. A run that has lost its patience fails, one whose end was asked for is cancelled, and one whose business key
        another run has taken fails. Raises Conflict when the agent has begun."""
        ...

    def finish(
        self,
        run_id: str,
        fence: int,
        outcome: Outcome,
        meter: Meter,
        exit_code: int | None,
        signal: int | None,
        decide: Decide,
        *,
        began: AgentStart | None = None,
    ) -> Run:
        """End the attempt: completed, failed, queued again, or cancelled when that was asked before. The lease goes with it.
        `began` as for `append_log`."""
        ...

    def drop(self, run_id: str, fence: int) -> None:
        """End the lease of one run, so that it is adopted at once; by whomever, its owner too."""
        ...


class ExecutionStore(AttemptStore, GenerationReader, RunReader, Protocol):
    """What one execution needs: its task, its run as it is kept, and the writes of its attempt."""


class ControlStore(Protocol):
    """Cancel and retry runs, on behalf of a person."""

    def cancel(self, run_id: str, actor: str) -> Run:
        """A queued run is cancelled; a running one is marked, and its worker stops it. Raises Conflict when it has ended."""
        ...

    def retry(self, run_id: str, actor: str) -> Run:
        """Queue a failed run again, due at once, on the definition it started from, with all its retries and its whole budget.
        Raises Conflict otherwise, and when another run stands for its business key."""
        ...


class ScheduleReader(Protocol):
    """Kept schedules."""

    def schedules(self) -> dict[str, ScheduleRow]:
        """All kept schedules by task."""
        ...


class ScheduleStore(Clock, ScheduleReader, Protocol):
    """Kept schedules and the verdicts of their slots. Used by schedulers."""

    def unscheduled_generation(self) -> list[GenerationRow]:
        """Generations whose schedules no scheduler has taken up yet, oldest first, at most 100."""
        ...

    def schedule_generation(
        self, generation: int, put: Sequence[ScheduleRow], drop: Sequence[str], closings: Sequence[ClosedSchedule] = ()
    ) -> bool:
        """Change the schedules as this generation wants it, once: False, and nothing is changed, if it was done before."""
        ...

    def change_schedules(
        self, put: Sequence[ScheduleRow], drop: Sequence[str], *, seen: Mapping[str, ScheduleRow] | None = None
    ) -> None:
        """Keep new and changed schedules, forget those of tasks that have none any more. With `seen` only what is still as it
        was seen. A schedule whose next slot is brought back was ahead by a wrong clock: slots that it missed there are open
        again."""
        ...

    def slots(self, task_id: str, *, cursor: str | None = None, limit: int = 50) -> Page:
        """What became of the task's slots, newest first, at most 1,000 of them. Raises Invalid for a forged cursor."""
        ...

    def ready(self, firings: Sequence[Firing]) -> Callable[[], Future[list[list[str] | Exception]]]:
        """`fire` for many in one commit, each of another task, with everything done that can be done before their time. The
        future has of each the runs that it started, or what `fire` would raise; one that fails harms no other."""
        ...

    def fire(self, firing: Firing) -> Future[list[str]]:
        """Slots, their runs and the next fire in one commit; a slot that has a verdict already starts nothing, one whose run
        is a duplicate has that verdict. Raises Conflict when another definition of the task is served now, or none."""
        ...


class PoolStore(Clock, ObstacleReader, RunReader, Protocol):
    """Warm pools: what tasks want, what is ready, and how starts went. Used by workers and the pool pages."""

    def pooled_tasks(self, seen: int = 0) -> PooledTasks | None:
        """The served tasks that want places kept ready; None while the newest generation is `seen`, which costs one look."""
        ...

    def keep_pools(self, place: str, pools: Sequence[Pool]) -> None:
        """Keep what whoever keeps places ready says of them, instead of what was said before of this place."""
        ...

    def pool_reports(self) -> list[PoolReport]:
        """What was said last, by place."""
        ...

    def placed_starts(self, since: datetime, most: int = 100_000) -> list[PlacedStart]:
        """Starts in places of their own, newest first."""
        ...

    def arrivals(self, since: datetime, *, task_id: str | None = None, most: int = 100_000) -> list[ClaimedAttempt]:
        """Attempts that were claimed since then, newest first; of so many runs at most, those that ended last."""
        ...


class AuditStore(Clock, GenerationReader, RefusalReader, ScheduleReader, Protocol):
    """Slots, deliveries and runs, each beside its counterpart. Used by the audit alone."""

    def generations(self, *, since: datetime, after: int = 0, limit: int = 20) -> list[GenerationRow]:
        """Generations later than `after`, oldest first; the first of all is the one that was served at `since`."""
        ...

    def audit_slots(
        self, task_id: str, after: datetime, until: datetime, runs: datetime, limit: int = 20_000
    ) -> list[tuple[datetime, str] | AuditedSlot]:
        """The task's slots in (after, until], oldest first. Of one that is in order only its time and its verdict. `runs` is as
        in AuditSpan."""
        ...

    def audit_ranges(self, task_id: str, after: datetime, until: datetime) -> list[AuditedSlot]:
        """Rows of skipped slots of which some are in (after, until]."""
        ...

    def first_delivery(self, since: datetime) -> int | None:
        """The smallest sequence number of the deliveries that were received later; None without any."""
        ...

    def audit_deliveries(
        self, span: AuditSpan, *, first: int, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
    ) -> AuditPage[AuditedDelivery] | None:
        """The newest deliveries with sequence numbers in [first, before); None without any."""
        ...

    def audit_repeats(self, span: AuditSpan, *, task_id: str | None = None) -> Mapping[tuple[str, str], int]:
        """How often deliveries of the span came again, by task and by `repeated` or `replayed`."""
        ...

    def audit_runs(
        self, span: AuditSpan, *, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
    ) -> AuditPage[AuditedRun] | None:
        """The newest runs with a smaller sequence number; None without any."""
        ...


class TokenStore(LocalReads, Protocol):
    """API tokens, of which only hashes are kept."""

    def add_token(self, token_id: str, secret_sha256: str, role: str, label: str, expires_at: datetime | None) -> Token:
        """Keep a token's hash."""
        ...

    def token(self, secret_sha256: str) -> Token | None:
        """The living token with this hash."""
        ...

    def tokens(self) -> list[Token]:
        """All, newest first."""
        ...

    def revoke_token(self, token_id: str) -> None:
        """Raises NotFound."""
        ...

    def touch_token(self, token_id: str) -> None:
        """Note its use."""
        ...


class RetentionStore(Protocol):
    """Delete what has outlived its time, and jobs that one process at a time does for all."""

    def prunable(self, keep: RetentionPolicy) -> dict[str, int]:
        """What `prune` would delete now, by kind, as far as it can be counted at once."""
        ...

    def prune(self, keep: RetentionPolicy) -> Iterator[tuple[str, int]]:
        """Delete what is kept no longer, in small transactions: each step gives a kind and how many rows went. Whoever stops
        asking stops the deleting. Nothing of a run that has not ended is touched."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Delete an ended run with its attempts, events and log. Raises NotFound, and Conflict for one that has not ended."""
        ...

    def acquire_job_lease(self, chore: str, owner: str, every: timedelta, lease: timedelta) -> bool:
        """Whether the chore is this owner's now, until the lease is over: nobody else has it, and the last turn ended long
        enough ago."""
        ...

    def renew_job_lease(self, chore: str, owner: str, lease: timedelta) -> bool:
        """Whether it still is, and for so long from now."""
        ...

    def release_job_lease(self, chore: str, owner: str) -> None:
        """Give it back, done."""
        ...


class Store(
    RegistryStore,
    IntakeStore,
    QueueStore,
    AttemptStore,
    ControlStore,
    ScheduleStore,
    PoolStore,
    AuditStore,
    TokenStore,
    RetentionStore,
    Protocol,
):
    """The whole store, as a driver supplies it. Who needs a part of it names that part in its signature."""

    def watch(self, failed: Callable[[], None]) -> None:
        """Call `failed` each time that the database cannot be used. To be said before anything else is asked."""
        ...

    def check(self) -> None:
        """Raises StoreUnavailable or StoreMismatch; of the former StoreFull while only what lets runs end is written."""
        ...

    def migrate(self, tell: Callable[[Any], object] = lambda step: None) -> list[int]:
        """Take the schema's steps that are left, and give their numbers; each is told (its `version`) before it is taken.
        Raises StoreMismatch for a newer schema."""
        ...

    def close(self) -> None:
        """Finish what is queued and close."""
        ...
