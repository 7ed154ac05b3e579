"""Values that go into the store and come out of it. Times are aware UTC."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar

from optio.model.money import ZERO_USD
from optio.model.pool import PROCESS, Pool
from optio.model.registry import CompiledTask, Registry
from optio.model.retry import GiveUp, RetryAt
from optio.model.room import Shortage
from optio.model.run import Outcome, Run, RunState


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
class IdempotencyKey:
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


NO_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedRun:
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
class RunningRun:
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
    waiting: Sequence[QueuedRun] = ()
    running: Mapping[str, int] = field(default_factory=dict)
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    shortages: Sequence[Shortage] = ()
    occupants: Sequence[RunningRun] = ()
    heads: int = NO_LIMIT
    namespaces: Mapping[str, str] = field(default_factory=dict)
    served: Collection[str] | None = None


Admit = Callable[[AdmissionView], Sequence[str]]


# How many more may start when so many are running.
Room = Callable[[int], int]


ORPHAN_TIMEOUT = timedelta(minutes=15)


NEVER_ORPHANED = timedelta(days=36_500)


def unlimited_room(running: int) -> int:
    """Room for all."""
    return NO_LIMIT


Decide = Callable[[Run, Outcome, datetime], RetryAt | GiveUp]


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
    spent: Decimal = ZERO_USD
    """What the run's earlier attempts have cost, as far as is known, since it was accepted or last retried by hand."""


@dataclass(frozen=True, slots=True)
class AgentStart:
    """That an attempt's agent began so long ago, and how: as a `process`, or in a `cold` or `warm` place."""

    ago: timedelta
    how: str = PROCESS


class PlacedStart(NamedTuple):
    """A start in a place of its own; `waited` is what it took from the claim to the agent."""

    task_id: str
    how: str
    at: datetime
    waited: timedelta


class ClaimedAttempt(NamedTuple):
    """An attempt that was claimed; `took` is what it took from its agent's beginning to the end, None while it runs."""

    task_id: str
    trigger: str
    at: datetime
    took: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledTasks:
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
class ClosedSchedule:
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
DEDUPE_MEMORY = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How long what has ended is kept. None is for ever; for log lines and deliveries it is: as long as runs."""

    runs: timedelta | None = None
    logs: timedelta | None = None
    deliveries: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
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
