"""The seam of the store: what every driver must do, and the values that go in and out.

Every operation is one transaction. A change that was accepted is durable when its method returns (or its future resolves).
Every change of a claimed run carries the claim's fence; an older fence raises LeaseLost and changes nothing. Times are aware
UTC; leases expire by the store's own clock. Any method may raise StoreUnavailable: then nothing was changed, but for
CommitUnknown, its one kind that leaves this open.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from optio.model.money import NOTHING
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import PROCESS, Pool
from optio.model.registry import CompiledTask, Registry
from optio.model.retry import Again, GiveUp
from optio.model.room import Delay, Shortage
from optio.model.run import AgentPod, Attempt, Event, LogLine, Meter, Outcome, Page, Run, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be queued. `params` are effective, `prompt` is rendered, `dedupe_key` is what the task's `dedupe` comes to.
    `generation` is the one whose definition of the task it was made by."""

    id: str
    task: CompiledTask
    params: Mapping[str, Any]
    prompt: str
    trigger: str
    actor: str
    slot: datetime | None = None
    delivery_id: str | None = None
    traceparent: str | None = None
    dedupe_key: str | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class ReplayGuard:
    """What a delivery's signature covers, as a digest, and how long another delivery with the same is a replay of it."""

    digest: str
    window: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A webhook request as received. `key` is the sender's delivery id; `body` is kept only when its sender was proved.
    Without a `guard` the same body may come under any number of delivery ids."""

    id: str
    path: str
    task_id: str
    key: str | None
    headers: Mapping[str, str]
    body: bytes | None
    body_sha256: str
    verdict: str
    status: int
    detail: str | None = None
    guard: ReplayGuard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A kept delivery."""

    id: str
    seq: int
    path: str
    task_id: str
    key: str | None
    received_at: datetime
    headers: Mapping[str, str]
    body: bytes | None
    body_sha256: str
    verdict: str
    status: int
    detail: str | None
    run_id: str | None
    repeats: int = 0
    """How often it came again under its id."""
    replays: int = 0
    """How often its signed body came again under another id."""


# Sums that one answer has at most.
MAX_REFUSALS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Webhook requests that were refused and have no delivery, of a path, verdict and task. `first` and `last` are minutes."""

    path: str
    verdict: str
    task_id: str
    requests: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Once:
    """Makes a request repeatable: the same key in the same scope gives the first answer; another body is a Conflict."""

    scope: str
    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The run that an accepted request leads to; `first` is False when an earlier request had made it.

    With `duplicate` that run stands for the same business key, and with `rejected` the task wants that to be refused.
    `superseded` is the queued run that had to go for this one. `replay_of` is the delivery whose guard this one met.
    """

    run_id: str | None
    first: bool
    duplicate: bool = False
    rejected: bool = False
    superseded: str | None = None
    replay_of: str | None = None


ANY = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A queued run as admission sees it. `max_concurrent` and `priority` are those of the task as it is served now."""

    run_id: str
    task_id: str
    seq: int
    queued_at: datetime
    not_before: datetime
    max_concurrent: int
    priority: int = 0
    dedupe_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Why nothing of a task starts now, who said so, and since when."""

    task_id: str
    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalRow:
    """A task that is held because its file is gone, since when, and who released it at what time, if anybody did."""

    task_id: str
    held_at: datetime
    released_at: datetime | None
    released_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A task's start limit, and how many starts it counts now; which ones they are, oldest first, where all is asked for."""

    count: int
    window: timedelta
    used: int
    starts: Sequence[tuple[datetime, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running run."""

    run_id: str
    task_id: str
    dedupe_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionView:
    """What admission decides on: queued runs, how many runs of each task are running, and what else holds tasks back.

    A claim sees the first `heads` runs of each task that could start one, or as many as its own limit leaves, and the
    shortages of its place, of the tasks in the scope of its worker alone. What `Store.admission` sees is all that waits, the
    pauses, the running runs themselves, the shortages of all places, the `namespaces` of tasks, and the namespaces of which a
    worker takes runs: `served` is None where one takes the runs of all.
    """

    now: datetime
    waiting: Sequence[Waiting] = ()
    running: Mapping[str, int] = field(default_factory=dict)
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    shortages: Sequence[Shortage] = ()
    occupants: Sequence[Running] = ()
    heads: int = ANY
    namespaces: Mapping[str, str] = field(default_factory=dict)
    served: Collection[str] | None = None


Admit = Callable[[AdmissionView], Sequence[str]]
Room = Callable[[int], int]
"""How many more may start when so many are running."""
ORPHANED = timedelta(minutes=15)
NEVER = timedelta(days=36_500)


def endless(running: int) -> int:
    """Room for all."""
    return ANY


Decide = Callable[[Run, Outcome, datetime], Again | GiveUp]


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that is this worker's until `run.lease_until`; `adopted` if another worker had begun the attempt. `run.meter` is
    what this attempt has used so far, not the total of the run."""

    run: Run
    prompt: str
    adopted: bool
    offsets: Mapping[str, int]
    last_line: int = 0
    """The cursor of the last line that the run's log has."""
    deferred: str = ""
    """Why it had been given back before this attempt; empty if it had not."""
    tries: bool = False
    """Whether its task is short of room where the agent is to run."""
    spent: Decimal = NOTHING
    """What the run's earlier attempts have cost, as far as is known, since it was accepted or last retried by hand."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """That an attempt's agent began so long ago, and how: as a `process`, or in a `cold` or `warm` place."""

    ago: timedelta
    how: str = PROCESS


class PlacedStart(NamedTuple):
    """A start in a place of its own; `waited` is what it took from the claim to the agent."""

    task_id: str
    how: str
    at: datetime
    waited: timedelta


class Arrival(NamedTuple):
    """An attempt that was claimed; `took` is what it took from its agent's beginning to the end, None while it runs."""

    task_id: str
    trigger: str
    at: datetime
    took: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """The tasks of a generation that want places kept ready."""

    generation: int
    tasks: Sequence[CompiledTask]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """The pools of one place where agents run, as they were at that time."""

    place: str
    at: datetime
    pools: Sequence[Pool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A schedule that is kept: `fingerprint` names its expression and zone, `next_fire` is its next slot."""

    task_id: str
    fingerprint: str
    next_fire: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotVerdict:
    """What became of one slot: `fired`, or why it did not."""

    slot: datetime
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedSlots:
    """Slots of one schedule that are too many for a row each, all with one verdict; `count` is None when nobody counted."""

    first: datetime
    last: datetime
    count: int | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What is left of a schedule that was edited away: its slots that were due by then and start nothing any more."""

    task_id: str
    verdicts: Sequence[SlotVerdict]
    skipped: SkippedSlots | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRow:
    """What became of the slots from `first` to `last`, which mostly is one; `at` is when that was decided."""

    first: datetime
    last: datetime
    count: int | None
    verdict: str
    run_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedSlot:
    """A slot, or a row of skipped ones, beside the run that it names: whether that is there, and is of this very slot. One
    that was deleted by hand counts as there."""

    first: datetime
    last: datetime
    verdict: str
    run_id: str | None
    at: datetime
    run_is_there: bool
    run_is_its: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedDelivery:
    """A delivery beside the run that it names: whether that is there, and comes from this very delivery."""

    seq: int
    id: str
    task_id: str
    received_at: datetime
    verdict: str
    run_id: str | None
    run_is_there: bool
    run_is_its: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedRun:
    """A run beside what it says it comes from. `actor` is who asked for it, None when that is not kept."""

    seq: int
    id: str
    task_id: str
    created_at: datetime
    trigger: str
    slot: datetime | None
    delivery_id: str | None
    actor: str | None
    slot_is_its: bool
    delivery_is_there: bool
    delivery_is_its: bool


Audited = TypeVar("Audited")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSpan:
    """What an audit covers: what happened in (since, until]. What is older than `runs`, `slots` and `deliveries` may have been
    deleted by retention; a row whose counterpart is gone for that reason is in order."""

    since: datetime
    until: datetime
    runs: datetime
    slots: datetime
    deliveries: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage(Generic[Audited]):
    """Rows that follow each other, counted by the store. `counts` has those of the span that are in order, by task and by
    verdict or origin; `doubtful` has those of the span that may not be, newest first. Of all rows: their number, the smallest
    sequence number with its time, and the latest time."""

    counts: Mapping[tuple[str, str], int]
    doubtful: Sequence[Audited]
    rows: int
    last: int
    last_at: datetime
    latest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """Slots of one schedule that are due: their verdicts, the runs they start (by slot), and the slot after them. `digest`
    names the definition that this follows from. With `unless_active` nothing starts while a run of the task is queued or
    running. `skipped` are older slots, all of them missed."""

    task_id: str
    digest: str
    verdicts: Sequence[SlotVerdict]
    runs: Sequence[NewRun]
    next_fire: datetime | None
    unless_active: bool = False
    skipped: SkippedSlots | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRow:
    """A generation that was served; `scheduled_at` is when a scheduler took its schedules up."""

    id: int
    digest: str
    commit: str | None
    activated_at: datetime
    tasks: Mapping[str, str]
    scheduled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Activated:
    """The generation that another is to follow (0: none), with its registry where the database is known to hold just that."""

    id: int
    registry: Registry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow:
    """A server that is there: the generation that it serves (0 before the first), and whether its directory holds the same."""

    server: str
    generation: int
    in_sync: bool
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An API token without its secret part."""

    id: str
    role: str
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list; all conditions hold together."""

    task_id: str | None = None
    state: RunState | None = None
    trigger: str | None = None


# Repeated requests and slots are known again for so long, whatever is kept.
REMEMBERED = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long what has ended is kept. None is for ever; for log lines and deliveries it is: as long as runs."""

    runs: timedelta | None = None
    logs: timedelta | None = None
    deliveries: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many runs of a task are queued and running, and since when the oldest queued one is."""

    task_id: str
    queued: int
    running: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries to list; all conditions hold together. `since` and `until` are within."""

    task_id: str | None = None
    path: str | None = None
    verdict: str | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERY_DELIVERY = DeliveryFilter()


class Store(Protocol):
    """See the module."""

    @property
    def local(self) -> bool:
        """Whether a read of a few rows takes microseconds and waits for nobody, because the database is a file of this machine:
        an event loop may do it itself, where handing it to a thread and back would take ten times as long."""
        ...

    # Registry

    def activate(
        self, registry: Registry, commit: str | None, after: Activated | None = None, server: str | None = None
    ) -> GenerationRow:
        """Keep every definition by digest and make these the current ones; the same digest again is the same generation.

        With `after`, only if that is the newest yet: else Conflict is raised. `server` is noted as in sync with it in the same
        transaction: other servers must not find a generation that nobody's directory holds.
        """
        ...

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

    # Accepting

    def accept(self, run: NewRun, *, delivery: NewDelivery | None = None, once: Once | None = None) -> Future[Accepted]:
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

    def delivery(self, delivery_id: str) -> Delivery:
        """Raises NotFound."""
        ...

    def deliveries(self, where: DeliveryFilter = EVERY_DELIVERY, *, cursor: str | None = None, limit: int = 50) -> Page:
        """Newest first, at most 1,000 of them, without bodies. Raises Invalid for a forged cursor."""
        ...

    def recall(self, once: Once) -> str | None:
        """What `remember` kept; raises Conflict for the same key with another body."""
        ...

    def remember(self, once: Once, result: str) -> None:
        """Keep the answer of a request that is not a run."""
        ...

    # Admission and claims

    def pause(self, task_id: str, reason: str, actor: str) -> Pause:
        """Let nothing of the task start until it is resumed, whatever becomes of its file."""
        ...

    def resume(self, task_id: str) -> Pause | None:
        """End the task's pause, and give it if there was one."""
        ...

    def pauses(self) -> dict[str, Pause]:
        """All, by task."""
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
        room: Room = endless,
        most: int = ANY,
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
        orphaned: timedelta = ORPHANED,
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

    def drop(self, run_id: str, fence: int) -> None:
        """End the lease of one run, so that it is adopted at once; by whomever, its owner too."""
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

    # A claimed run

    def cancel_requested(self, run_id: str, fence: int) -> bool:
        """Whether its owner was asked to end it."""
        ...

    def agent_started(self, run_id: str, fence: int, began: Beginning) -> Future[None]:
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
        began: Beginning | None = None,
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

    def shortages(self) -> list[Shortage]:
        """Tasks that are short of room, by place."""
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
        began: Beginning | None = None,
    ) -> Run:
        """End the attempt: completed, failed, queued again, or cancelled when that was asked before. The lease goes with it.
        `began` as for `append_log`."""
        ...

    # Control

    def cancel(self, run_id: str, actor: str) -> Run:
        """A queued run is cancelled; a running one is marked, and its worker stops it. Raises Conflict when it has ended."""
        ...

    def retry(self, run_id: str, actor: str) -> Run:
        """Queue a failed run again, due at once, on the definition it started from, with all its retries and its whole budget.
        Raises Conflict otherwise, and when another run stands for its business key."""
        ...

    # Reading

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

    # Schedules

    def schedules(self) -> dict[str, ScheduleRow]:
        """All kept schedules by task."""
        ...

    def untaken(self) -> list[GenerationRow]:
        """Generations whose schedules no scheduler has taken up yet, oldest first, at most 100."""
        ...

    def take_up(
        self, generation: int, put: Sequence[ScheduleRow], drop: Sequence[str], closings: Sequence[Closing] = ()
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

    # Pools

    def pooled(self, seen: int = 0) -> Pooled | None:
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

    def arrivals(self, since: datetime, *, task_id: str | None = None, most: int = 100_000) -> list[Arrival]:
        """Attempts that were claimed since then, newest first; of so many runs at most, those that ended last."""
        ...

    # Audit

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

    # Slots

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

    # Tokens

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

    # Retention

    def prunable(self, keep: Keep) -> dict[str, int]:
        """What `prune` would delete now, by kind, as far as it can be counted at once."""
        ...

    def prune(self, keep: Keep) -> Iterator[tuple[str, int]]:
        """Delete what is kept no longer, in small transactions: each step gives a kind and how many rows went. Whoever stops
        asking stops the deleting. Nothing of a run that has not ended is touched."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Delete an ended run with its attempts, events and log. Raises NotFound, and Conflict for one that has not ended."""
        ...

    def take_turn(self, chore: str, owner: str, every: timedelta, lease: timedelta) -> bool:
        """Whether the chore is this owner's now, until the lease is over: nobody else has it, and the last turn ended long
        enough ago."""
        ...

    def hold_turn(self, chore: str, owner: str, lease: timedelta) -> bool:
        """Whether it still is, and for so long from now."""
        ...

    def end_turn(self, chore: str, owner: str) -> None:
        """Give it back, done."""
        ...

    # House-keeping

    def depths(self) -> list[Depth]:
        """Every task of which runs are queued or running."""
        ...

    def watch(self, failed: Callable[[], None]) -> None:
        """Call `failed` each time that the database cannot be used. To be said before anything else is asked."""
        ...

    def now(self) -> datetime:
        """The store's clock, which all that share the store agree on."""
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
