"""Bodies of runs: one run, its attempts and events, why it failed, pages of runs, and requests that start one."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from optio.model.pool import StartKind
from optio.model.run import RunState, RunTrigger
from optio.model.usage import CostSource
from optio.runs.admission import HoldReason
from optio.server.bodies.base import Body, Cursor, Source, Time, Usd
from optio.server.bodies.logs import LogLineBody

# The most runs of one act: it must end within the time of a request.
MAX_BULK_RUNS = 200
# What can be done to many runs.
BulkAct = Literal[
    "cancel",  # queued runs are cancelled, running ones stopped
    "retry",  # failed runs are queued again
]


class UsageBody(Body, frozen=True, kw_only=True):
    """Tokens by sort."""

    fresh: int
    """Input that was neither read from the cache nor written to it."""
    cached: int
    """Input that was read from the cache."""
    cache_write: int
    """Input that was written to the cache."""
    output: int
    """Output, reasoning included."""
    reasoning: int
    """Output that was reasoning."""


class RunBody(Body, frozen=True, kw_only=True):
    """A run in the form of lists."""

    id: str
    """The id of the run, a UUID that begins with its time."""
    task_id: str
    """The id of its task."""
    task_name: str
    """The name that its task had when it was accepted."""
    state: RunState
    """The state of the run."""
    reason: str
    """Why it is in this state: a word from the manual's page of reasons, or one that a program reported."""
    message: str
    """The same for people."""
    trigger: RunTrigger
    """The origin of the run."""
    params: dict[str, Any]
    """Its parameters, defaults included."""
    attempt: int
    """The number of the newest attempt; 0 before the first."""
    max_retries: int
    """How often it may be tried again."""
    priority: int
    """The priority that its task had when it was accepted."""
    dedupe_key: str | None
    """Its business key, if the task has one."""
    cancel_requested: bool
    """Whether somebody has asked to stop it."""
    created_at: Time
    """When it was accepted."""
    queued_at: Time
    """When it was queued last."""
    next_attempt_at: Time | None
    """The earliest time of the next attempt; null unless it is queued."""
    started_at: Time | None
    """When its first agent started."""
    ended_at: Time | None
    """When it ended."""
    duration_ms: int | None
    """The time from start to end."""
    cost_usd: Annotated[Usd | None, Source("meter.cost")]
    """The cost of all attempts in US dollars, as far as it is known."""
    cost_source: Annotated[CostSource | None, Source("meter.cost_source")]
    """The origin of the cost."""
    usage: Annotated[UsageBody, Source("meter.usage")]
    """The tokens of all attempts."""
    tokens: Annotated[int, Source("meter.usage.total")]
    """All tokens, each counted once."""
    turns: Annotated[int | None, Source("meter.turns")]
    """The agent's turns, where it reports them."""
    tool_calls: Annotated[int, Source("meter.tool_calls")]
    """The agent's tool calls."""
    slot: Time | None
    """The slot of the schedule that started it."""
    delivery_id: str | None
    """The webhook request that started it."""
    definition: Annotated[str, Source("digest")]
    """The digest of the task's definition that it runs."""
    generation: int | None
    """The generation that was served when it was accepted."""


class _NamedRun(RunBody, frozen=True):
    # No keyword, so that it stands before those of `RunBody`.
    run_id: Annotated[str, Source("id")]
    """The id of the run, as in `id`."""


class StartedRunBody(_NamedRun, frozen=True, kw_only=True):
    """A run that was started or changed."""

    duplicate: bool | UnsetType = UNSET
    """True where an earlier run stands for the same business key."""


class WaitingBody(Body, frozen=True, kw_only=True):
    """The reason why a queued run waits."""

    reason: HoldReason
    """What the run waits for."""
    message: str
    """The same for people."""
    ahead: int
    """The number of runs that go first."""
    position: int | None
    """The position in the queue, from 1; null while it is in no queue."""
    rule: str | None
    """The setting that holds it, as it is written."""
    occupied_by: list[str]
    """The runs that use this setting up."""
    earliest_start: Annotated[Time | None, Source("earliest")]
    """The earliest possible start, if it is known."""


class AttemptBody(Body, frozen=True, kw_only=True):
    """One try at a run."""

    number: int
    """Its number, from 1."""
    worker: str
    """The worker that took it."""
    claimed_at: Annotated[Time, Source("started_at")]
    """When the worker took it."""
    started_at: Annotated[Time | None, Source("agent_started_at")]
    """When its agent started."""
    agent_started_at: Time | None
    """The same as `startedAt`."""
    began: StartKind | None
    """How its agent started."""
    pod: Annotated[str | None, Source("pod.name")]
    """The name of its pod."""
    namespace: Annotated[str | None, Source("pod.namespace")]
    """The Kubernetes namespace of its pod."""
    node: Annotated[str | None, Source("pod.node")]
    """The node of its pod."""
    image: Annotated[str | None, Source("pod.image")]
    """The digest of its pod's image, as the node resolved it."""
    machine: Annotated[str | None, Source("agent.machine")]
    """The host name of its process, once it has ended; null for a pod, which has a node."""
    program: Annotated[str | None, Source("agent.program")]
    """The agent's program and the digest of its file, once its process has ended; null for a pod, which has an image."""
    agent_version: Annotated[str | None, Source("agent.version")]
    """The version of the agent's CLI, once the attempt has ended."""
    session: Annotated[str | None, Source("agent.session")]
    """The id of the agent's session, as it tells it, once the attempt has ended."""
    model: Annotated[str | None, Source("agent.model")]
    """The model that answered last, as the agent tells it, once the attempt has ended."""
    continues: int | None
    """The attempt whose agent session it continues; null if it began a session of its own."""
    metered: bool
    """Whether the gateway leads its agent to the model. The gateway holds the budget then, and the cost is its figure."""
    ended_at: Time | None
    """When it ended."""
    ok: bool | None
    """Whether it succeeded; null while it runs."""
    reason: str | None
    """Why it ended."""
    message: str | None
    """The same for people."""
    exit_code: int | None
    """The exit code of its process."""
    signal: int | None
    """The signal that ended its process."""
    output: Annotated[str | None, Source("text")]
    """The agent's last text."""
    cost_usd: Annotated[Usd | None, Source("meter.cost")]
    """Its cost in US dollars, as far as it is known."""
    cost_source: Annotated[CostSource | None, Source("meter.cost_source")]
    """The origin of the cost."""
    usage: Annotated[UsageBody, Source("meter.usage")]
    """Its tokens."""
    tokens: Annotated[int, Source("meter.usage.total")]
    """All its tokens, each counted once."""
    turns: Annotated[int | None, Source("meter.turns")]
    """The agent's turns, where it reports them."""
    tool_calls: Annotated[int, Source("meter.tool_calls")]
    """The agent's tool calls."""
    model_calls: int
    """The agent's calls of its model through the gateway, refused ones included."""


class EventBody(Body, frozen=True, kw_only=True):
    """One change of a run's state."""

    seq: int
    """Its number within the run."""
    from_state: RunState | None = field(name="from")
    """The state before; null for the first."""
    to_state: RunState = field(name="to")
    """The state after."""
    reason: str
    """Why it changed."""
    message: str
    """The same for people."""
    actor: str
    """The user, worker or scheduler that changed it."""
    at: Time
    """When it changed."""


class RunLinksBody(Body, frozen=True, kw_only=True):
    """Paths of what belongs to a run."""

    itself: str = field(name="self")
    logs: str
    calls: str
    live: str
    task: str


class RunDetailsBody(RunBody, frozen=True, kw_only=True):
    """A run with everything that is stored of it but its log."""

    commit: str | None
    """The git commit of its generation, with `+dirty` where the task files differed from it; null where none is known."""
    prompt: str
    """The prompt, with the parameters filled in."""
    output: Annotated[str | None, Source("text")]
    """The agent's last text."""
    result: Annotated[Any, Source("output")]
    """The result that the agent reported, if it reported one."""
    waiting: WaitingBody | None
    """Why it waits; null unless it is queued."""
    attempts: list[AttemptBody]
    """Its attempts, oldest first."""
    events: list[EventBody]
    """The changes of its state, oldest first."""
    links: RunLinksBody


class RunPageBody(Body, frozen=True, kw_only=True):
    """A page of runs, newest first."""

    items: list[RunBody]
    next: Cursor
    """The `cursor` of the next page; null on the last one."""


class StartRun(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run to be started."""

    params: dict[str, Any] | None = None
    """The parameters, by the task's `paramsSchema`."""


class RerunRun(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run that is started again, as a new run."""

    current: bool = False
    """Whether it runs the task as it is served now; else it runs the definition that the earlier run had."""


class ReasonMeaningBody(Body, frozen=True, kw_only=True):
    """A meaning of a reason."""

    meaning: str
    """What happened."""
    cure: str
    """What you do about it; empty where it is repeated by itself."""


class RunDifferenceBody(Body, frozen=True, kw_only=True):
    """Something in which a run differs from an earlier one."""

    what: str
    """A key of the definition, a parameter, or the agent's model or version."""
    before: str
    """Its value in the earlier run, cut to 200 characters."""
    now: str
    """Its value in this run, cut to 200 characters."""


class RunFailureBody(Body, frozen=True, kw_only=True):
    """The explanation of a failed run."""

    reason: str
    """The reason of the run."""
    message: str
    """The same for people."""
    meanings: list[ReasonMeaningBody]
    """What the reason means: a few have two meanings, and those that programs invent have none."""
    last_call: LogLineBody | None
    """The last tool call of the agent, if it is among the last lines."""
    call_result: LogLineBody | None
    """Its result."""
    lines: list[LogLineBody]
    """The last lines of the log."""
    last_good: Annotated[str | None, Source("last_good.id")]
    """The id of the newest run of the task that was accepted before this one and completed."""
    differences: list[RunDifferenceBody]
    """What differs from that run."""


class BulkFilter(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The runs to be acted on, as the filters of `GET /api/runs` choose them."""

    task: str | None = None
    state: RunState | None = None
    trigger: RunTrigger | None = None
    reason: str | None = None
    since: Time | None = None
    until: Time | None = None
    min_cost: Usd | None = None


class ActOnRuns(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An act on many runs: those of `runs`, or the newest that fit `where`."""

    act: BulkAct
    runs: Annotated[list[str], Meta(max_length=MAX_BULK_RUNS)] | None = None
    """The ids of the runs."""
    where: BulkFilter | None = None
    """A filter instead. Only runs in a state that the act is for are chosen."""
    dry_run: bool = False
    """Whether the answer only tells what would be done."""


class RefusedRunBody(Body, frozen=True, kw_only=True):
    """A run on which the act was not done."""

    id: str
    message: str
    """Why not."""


class BulkResultBody(Body, frozen=True, kw_only=True):
    """The result of an act on many runs."""

    act: BulkAct
    dry_run: bool
    """Whether nothing was done."""
    runs: list[str]
    """The ids of the runs on which the act was done, or would be done."""
    refused: list[RefusedRunBody]
    more: bool
    """Whether more runs fit the filter: an act does 200 at most, the newest first. Repeat it for the others."""
