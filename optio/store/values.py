"""The values that go into the store and come out of it: runs, deliveries, schedules, claims, audit pages. Times are aware UTC.
`optio.store.base` has the operations."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from optio.errors import RefusalVerdict
from optio.model.money import ZERO_USD
from optio.model.pool import PROCESS, Pool, StartKind
from optio.model.registry import CompiledTask, Registry
from optio.model.retry import GiveUp, RetryAt
from optio.model.room import Shortage
from optio.model.run import Outcome, Run, RunState, RunTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be queued. `params` have their defaults filled in, `prompt` is rendered, and `dedupe_key` is the value of the
    task's `dedupe` key. `generation` is the one that defined the task when the run was made, and `message` is that of the run's
    first event."""

    id: str
    task: CompiledTask
    params: Mapping[str, Any]
    prompt: str
    trigger: RunTrigger
    actor: str
    slot: datetime | None = None
    delivery_id: str | None = None
    traceparent: str | None = None
    dedupe_key: str | None = None
    generation: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class ReplayGuard:
    """A digest of what a delivery's signature covers, and the time during which another delivery with the same digest is a
    replay of it."""

    digest: str
    window: timedelta


# The verdict on a webhook request.
DeliveryVerdict = (
    RefusalVerdict
    | Literal[
        "accepted",  # it started a run
        "filtered",  # the task wants no run for it
        "stale",  # its time stamp is too old or too new
    ]
)
# The gate that refused a delivery with the verdict `invalid`.
InvalidAt = Literal[
    "filter",  # the payload is too large or too deep for the `when` filter
    "mapping",  # it is so for a query of `paramMapping`
    "params",  # the parameters or the prompt do not fit the task
]
# The beginning of the ids of sessions, which are tokens otherwise.
SESSION_PREFIX: Final = "ses_"
# The roles of API tokens, each of which may do all that those before it may.
Role = Literal[
    "viewer",  # reads
    "operator",  # starts, cancels and retries runs, and reads the bodies of deliveries
    "admin",  # changes tasks
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A webhook request as received. `key` is the sender's delivery id; `body` is stored only when the signature was valid.
    Without a `guard` the same body may come under any number of delivery ids."""

    id: str
    path: str
    task_id: str
    key: str | None
    headers: Mapping[str, str]
    body: bytes | None
    body_sha256: str
    verdict: DeliveryVerdict
    status: int
    detail: str | None = None
    gate: InvalidAt | None = None
    guard: ReplayGuard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A stored delivery, newest first by `seq`. `status` is the HTTP status of the answer; `run_id` is the run that it started
    or was joined to."""

    id: str
    seq: int
    path: str
    task_id: str
    key: str | None
    received_at: datetime
    headers: Mapping[str, str]
    body: bytes | None
    body_sha256: str
    verdict: DeliveryVerdict
    status: int
    detail: str | None
    run_id: str | None
    repeats: int = 0
    """How often it came again under its id."""
    replays: int = 0
    """How often its signed body came again under another id."""
    gate: InvalidAt | None = None
    """Where an invalid delivery ended; None for all others, and for those that older versions stored."""


# The most sums in one answer.
MAX_REFUSALS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """The number of refused webhook requests without a delivery of their own, for one path, verdict and task. `first` and
    `last` are the minutes of the first and last."""

    path: str
    verdict: RefusalVerdict
    task_id: str
    requests: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's key that makes a request repeatable: the same key in the same scope gets the first answer, and another body
    raises Conflict."""

    scope: str
    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The run that an accepted request leads to; `first` is False when an earlier request had made it.

    `duplicate` says that this run holds the request's business key, and `rejected` that the task refuses duplicates.
    `superseded` is the queued run that was cancelled for this one. `replay_of` is the delivery whose replay guard this one met.
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
    """A queued run as admission sees it. `max_concurrent` and `priority` are those of the task as it is served now, not of the
    run's own definition."""

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
    """A pause of a task, during which none of its runs starts: the reason, the person who set it, and when."""

    task_id: str
    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalRow:
    """A task that is held because its file is gone, since when, and the person who released it, if anybody did."""

    task_id: str
    held_at: datetime
    released_at: datetime | None
    released_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A task's start limit, and the number of starts that count now. `starts` lists them (time, run id), oldest first, where
    the caller asked for everything."""

    count: int
    window: timedelta
    used: int
    starts: Sequence[tuple[datetime, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRun:
    """A run that is running, as admission sees it: it occupies a place of its task and may hold a business key."""

    run_id: str
    task_id: str
    dedupe_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionView:
    """The facts that admission decides on: queued runs, the number of running runs of each task, and everything else that holds
    runs back.

    In a claim it holds the first `heads` runs of each task that could start one, or as many as the task's own limit leaves, and
    only the shortages of the worker's place, and only tasks in the worker's scope. `Store.admission` gives all queued runs, the
    pauses, the running runs themselves, the shortages of all places, the `namespaces` of tasks, and the namespaces whose runs a
    worker takes: `served` is None where one takes the runs of all.
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


# Returns how many more runs may start, given how many are running.
Room = Callable[[int], int]


ORPHAN_TIMEOUT = timedelta(minutes=15)


NEVER_ORPHANED = timedelta(days=36_500)


def unlimited_room(running: int) -> int:
    """Return room for any number of runs; the default of `Store.claim`."""
    return NO_LIMIT


Decide = Callable[[Run, Outcome, datetime], RetryAt | GiveUp]


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that belongs to this worker until `run.lease_until`; `adopted` if another worker had begun the attempt. `run.meter`
    is what this attempt has used so far, not the total of the run."""

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
    """The start of an attempt's agent: how long ago it was, by this machine's clock, and how: as a `process`, or in a `cold` or
    `warm` pod. `tried` says that its task was short of room when the run was claimed."""

    ago: timedelta
    how: StartKind = PROCESS
    tried: bool = False

    @property
    def is_noted(self) -> bool:
        """Return whether more is recorded of this start than its time. Of a process, which starts as soon as its run is
        claimed, that is so only where it tells that a shortage may be over."""
        return self.how != PROCESS or self.tried


class PlacedStart(NamedTuple):
    """A start in a pod, for sizing pools; `waited` is the time from the claim to the agent's start."""

    task_id: str
    how: StartKind
    at: datetime
    waited: timedelta


class ClaimedAttempt(NamedTuple):
    """A claimed attempt, for sizing pools; `took` is the time from its agent's start to its end, None while it runs."""

    task_id: str
    trigger: RunTrigger
    at: datetime
    took: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledTasks:
    """The tasks of a generation that want pods kept ready (`warmPoolSize`)."""

    generation: int
    tasks: Sequence[CompiledTask]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """The warm pools of one place, as its keeper reported them at that time."""

    place: str
    at: datetime
    pools: Sequence[Pool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A schedule as stored: `fingerprint` identifies its expression and zone, `next_fire` is its next slot."""

    task_id: str
    fingerprint: str
    next_fire: datetime | None


# The outcome of a slot.
SlotOutcome = Literal[
    "fired",  # it started a run
    "missed",  # no scheduler was there in time, and `misfire` does not start it
    "overlap",  # a run of the task was active, and `overlap: skip`
    "invalid",  # its parameters do not fit the task's schema
    "duplicate",  # another run holds the business key
    "superseded",  # an edit ended its schedule before it fired
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotVerdict:
    """The outcome of one slot: `fired`, or the reason why it started no run."""

    slot: datetime
    verdict: SlotOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedSlots:
    """A range of slots of one schedule, too many for a row each, with one verdict for all; `count` is None when they were not
    counted."""

    first: datetime
    last: datetime
    count: int | None
    verdict: SlotOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedSchedule:
    """The remains of a schedule that an edit replaced or removed: the slots that were due by then, which start nothing any
    more."""

    task_id: str
    verdicts: Sequence[SlotVerdict]
    skipped: SkippedSlots | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRow:
    """The stored outcome of the slots from `first` to `last`, usually one; `at` is when it was recorded."""

    first: datetime
    last: datetime
    count: int | None
    verdict: SlotOutcome
    run_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotFilter:
    """A filter for lists of slots; all given conditions must hold. `since` and `until` bound the slot itself, inclusive."""

    verdict: SlotOutcome | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERY_SLOT = SlotFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotCounts:
    """The slots of served tasks in a span that started no run: (hours since its begin, outcome, number), and the ranges of
    slots that were skipped together. All slots before `settled` have an outcome; None where no schedule is stored."""

    hours: Sequence[tuple[int, SlotOutcome, int]]
    skipped: Sequence[SkippedSlots]
    settled: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedSlot:
    """A slot, or a range of skipped ones, beside the run that it names: whether that run exists, and whether it was started by
    this slot. A run that a person deleted counts as existing."""

    first: datetime
    last: datetime
    verdict: SlotOutcome
    run_id: str | None
    at: datetime
    run_is_there: bool
    run_is_its: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedDelivery:
    """A delivery beside the run that it names: whether that run exists, and whether it came from this delivery."""

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
    """A run beside the slot or delivery that it names as its origin. `actor` is the person or process that asked for it, None
    when its events are gone."""

    seq: int
    id: str
    task_id: str
    created_at: datetime
    trigger: RunTrigger
    slot: datetime | None
    delivery_id: str | None
    actor: str | None
    slot_is_its: bool
    delivery_is_there: bool
    delivery_is_its: bool


Audited = TypeVar("Audited")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSpan:
    """The span of an audit: (since, until]. Rows older than `runs`, `slots` and `deliveries` may have been deleted by
    retention, so a missing counterpart that is older is in order."""

    since: datetime
    until: datetime
    runs: datetime
    slots: datetime
    deliveries: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage(Generic[Audited]):
    """Consecutive rows of an audit, counted by the store. `counts` has the rows of the span that are in order, by task and by
    verdict or origin; `doubtful` holds those that may not be, newest first. For all rows of the page it gives their number, the
    smallest sequence number with its time, and the latest time."""

    counts: Mapping[tuple[str, str], int]
    doubtful: Sequence[Audited]
    rows: int
    last: int
    last_at: datetime
    latest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """The due slots of one schedule: their verdicts, the runs they start (by slot), and the slot after them. `digest` names the
    definition that this was computed from. With `unless_active` nothing starts while a run of the task is queued or running.
    `skipped` are older slots, all of them missed."""

    task_id: str
    digest: str
    verdicts: Sequence[SlotVerdict]
    runs: Sequence[NewRun]
    next_fire: datetime | None
    unless_active: bool = False
    skipped: SkippedSlots | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationHead:
    """A generation that was served, without its tasks, of which there may be many; `scheduled_at` is when a scheduler adopted
    its schedules."""

    id: int
    digest: str
    commit: str | None
    activated_at: datetime
    scheduled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRow(GenerationHead):
    """A generation that was served, with the digest of each task."""

    tasks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Activated:
    """The generation that the next one must follow (0: none), with its registry if this server knows it, which saves reading it
    back."""

    id: int
    registry: Registry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An API token, or the session of a browser, without its secret part, which the store holds as a hash only."""

    id: str
    role: Role
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @property
    def is_session(self) -> bool:
        """Return whether it is the session of a person who signed in at an identity provider; `label` is the person's name."""
        return self.id.startswith(SESSION_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """A filter for lists of runs; all given conditions must hold. `id_prefix` is the beginning of an id in lower case; `since`
    and `until` bound the time of creation, inclusive. `min_cost` is in US dollars: no index has costs, so a page of such a list
    looks at some thousand runs and may be short, or empty, although others follow."""

    task_id: str | None = None
    state: RunState | None = None
    trigger: str | None = None
    reason: str | None = None
    id_prefix: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_cost: Decimal | None = None


# Repeated requests and slots are recognised for this long, whatever the retention policy.
DEDUPE_MEMORY = timedelta(days=7)


# The kinds of rows that retention deletes, as metrics and `optio prune` name them. `counts` are repeats and refusals of webhook
# requests, `keys` are idempotency and business keys and replay guards, `sessions` those of browsers, `totals` those of days.
PrunedKind = Literal[
    "runs", "log_lines", "deliveries", "counts", "keys", "slots", "generations", "definitions", "sessions", "totals"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """The time for which ended runs, their log lines and deliveries are kept. None keeps runs for ever, and log lines and
    deliveries as long as runs."""

    runs: timedelta | None = None
    logs: timedelta | None = None
    deliveries: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """The number of queued and of running runs of a task, and when the oldest queued one was queued."""

    task_id: str
    queued: int
    running: int
    oldest: datetime | None


class LastRun(NamedTuple):
    """A run in the list of its task's last ones. `duration_s` is None until it has begun and ended."""

    id: str
    state: RunState
    reason: str
    created_at: datetime
    duration_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastEnd:
    """The end of the newest run of a task that is in this state."""

    task_id: str
    state: RunState
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """A filter for lists of deliveries; all given conditions must hold. `id_prefix` is the beginning of an id in lower case;
    `since` and `until` are inclusive."""

    task_id: str | None = None
    path: str | None = None
    verdict: str | None = None
    id_prefix: str | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERY_DELIVERY = DeliveryFilter()
