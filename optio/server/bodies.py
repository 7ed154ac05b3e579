"""The bodies of the HTTP API as types: what requests carry and what answers are encoded from.

The OpenAPI document is derived from these classes: class texts, and the texts below attributes, are its descriptions, and the
schema of `RunBody` is called `Run`. Keys are camelCase in the order of their attributes, times ISO 8601 in UTC, money decimal
text. `optio.server.serializers` makes the answers.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct, field

from optio.model.agent_event import AgentEvent
from optio.model.pool import StartKind
from optio.model.run import CostSource, LogKind, RunState, RunTrigger
from optio.model.spec import keys_of
from optio.model.task import Runtime, TaskSpec
from optio.model.trigger import ManualTrigger, ScheduleTrigger, SecretRef, WebhookConfig, WebhookTrigger
from optio.runs.admission import HoldReason
from optio.store.values import SlotOutcome

MAX_REASON_LENGTH = 500
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Usd = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?$")]
Cursor = str | None


class Body(Struct, frozen=True, kw_only=True, rename="camel"):
    """A JSON object."""


# Runs


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
    cost_usd: Usd | None
    """The cost of all attempts in US dollars, as far as it is known."""
    cost_source: CostSource | None
    """The origin of the cost."""
    usage: UsageBody
    """The tokens of all attempts."""
    tokens: int
    """All tokens, each counted once."""
    turns: int | None
    """The agent's turns, where it reports them."""
    tool_calls: int
    """The agent's tool calls."""
    slot: Time | None
    """The slot of the schedule that started it."""
    delivery_id: str | None
    """The webhook request that started it."""
    definition: str
    """The digest of the task's definition that it runs."""
    generation: int | None
    """The generation that was served when it was accepted."""


class _NamedRun(RunBody, frozen=True):
    # No keyword, so that it stands before those of `RunBody`.
    run_id: str
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
    earliest_start: Time | None
    """The earliest possible start, if it is known."""


class AttemptBody(Body, frozen=True, kw_only=True):
    """One try at a run."""

    number: int
    """Its number, from 1."""
    worker: str
    """The worker that took it."""
    claimed_at: Time
    """When the worker took it."""
    started_at: Time | None
    """When its agent started."""
    agent_started_at: Time | None
    """The same as `startedAt`."""
    began: StartKind | None
    """How its agent started."""
    pod: str | None
    """The name of its pod."""
    namespace: str | None
    """The Kubernetes namespace of its pod."""
    node: str | None
    """The node of its pod."""
    image: str | None
    """The digest of its pod's image, as the node resolved it."""
    machine: str | None
    """The host name of its process, once it has ended; null for a pod, which has a node."""
    agent_version: str | None
    """The version of the agent's CLI, as it tells it, once the attempt has ended."""
    session: str | None
    """The id of the agent's session, as it tells it, once the attempt has ended."""
    model: str | None
    """The model that answered last, as the agent tells it, once the attempt has ended."""
    continues: int | None
    """The attempt whose agent session it continues; null if it began a session of its own."""
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
    output: str | None
    """The agent's last text."""
    cost_usd: Usd | None
    """Its cost in US dollars, as far as it is known."""
    cost_source: CostSource | None
    """The origin of the cost."""
    usage: UsageBody
    """Its tokens."""
    tokens: int
    """All its tokens, each counted once."""
    turns: int | None
    """The agent's turns, where it reports them."""
    tool_calls: int
    """The agent's tool calls."""


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
    live: str
    task: str


class RunDetailsBody(RunBody, frozen=True, kw_only=True):
    """A run with everything that is stored of it but its log."""

    prompt: str
    """The prompt, with the parameters filled in."""
    output: str | None
    """The agent's last text."""
    result: Any
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


# Logs


class LogLineBody(Body, frozen=True, kw_only=True):
    """One line of a run's log."""

    seq: int
    """The cursor of the line: numbers grow within a run."""
    attempt: int
    """The number of the attempt."""
    turn: int | None
    """The number of the agent's model call in this attempt, if the line belongs to one."""
    kind: LogKind
    """The kind of the line."""
    at: Time
    """When Optio read the line."""
    text: str
    """The line, with secrets masked as `***`."""
    event: AgentEvent | None
    """What the agent did, as data: for tool calls, their results, the ends of model calls, and retries."""


class LogPageBody(Body, frozen=True, kw_only=True):
    """A part of a run's log."""

    items: list[LogLineBody]
    next: int
    """The cursor that continues it."""
    last: int
    """The cursor of the last line of the whole log."""
    state: RunState
    """The state of the run: a log of a run that has ended is complete."""


class LogSearchBody(Body, frozen=True, kw_only=True):
    """The lines of a log that fit a search."""

    matches: list[int]
    """The cursors of the first of them."""
    count: int
    """How many there are up to `searched`."""
    searched: int
    """The cursor of the last line that was looked at. A search ends before the end of a huge log: go on from here."""
    last: int
    """The cursor of the last line of the whole log."""


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
    last_good: str | None
    """The id of the newest run of the task that was accepted before this one and completed."""
    differences: list[RunDifferenceBody]
    """What differs from that run."""


class LogEndBody(Body, frozen=True, kw_only=True):
    """The end of a live log."""

    state: RunState
    """The last state of the run."""
    reason: str
    """Why it is in this state."""


class LineMessage(LogLineBody, frozen=True, kw_only=True, tag_field="type", tag="line"):
    """A line of a live log."""


class EndMessage(LogEndBody, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """The last message of a live log."""


# Tasks


class FoundTaskBody(Body, frozen=True, kw_only=True):
    """A task that a search found."""

    id: str
    """Its id."""
    name: str
    """Its name."""


class FoundRunBody(Body, frozen=True, kw_only=True):
    """A run that a search found."""

    id: str
    """Its id."""
    task_id: str
    """The id of its task."""
    state: RunState
    """The state of the run."""


class FoundBody(Body, frozen=True, kw_only=True):
    """Tasks and runs that a search found, at most eight of each."""

    tasks: list[FoundTaskBody]
    """Tasks, those with the words in their id or name first."""
    runs: list[FoundRunBody]
    """Runs, newest first."""


class OriginBody(Body, frozen=True, kw_only=True):
    """The place of a task in the tree."""

    path: str
    line: int


class WebhookTriggerBody(WebhookTrigger, frozen=True, kw_only=True, tag="webhook"):
    """A webhook, with its URL."""

    url: str
    """The path of its URL."""
    unsigned: bool
    """Whether it takes requests without a signature."""


TriggerBody = ManualTrigger | ScheduleTrigger | WebhookTriggerBody


class DefinitionBody(TaskSpec, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A task as its definition says: the keys of its file but `tests`, each default filled in, and what the compiler adds."""

    id: str
    """The id of the task."""
    priority: int
    """Its priority."""
    prompt_template: str
    """Its prompt, also where the file names another file with it."""
    triggers: list[TriggerBody]  # type: ignore[assignment]
    """Its triggers, at most one of each type."""
    digest: str
    """The digest of this definition."""
    namespace: str | None
    """The Kubernetes namespace of its pods, by the policy."""
    origin: OriginBody
    """Where it is written."""


class PauseBody(Body, frozen=True, kw_only=True):
    """A pause of a task, during which none of its runs starts."""

    reason: str
    by: str
    """Who paused it."""
    since: Time


class TaskLinksBody(Body, frozen=True, kw_only=True):
    """Paths of what belongs to a task."""

    itself: str = field(name="self")
    runs: str


class TaskBody(DefinitionBody, frozen=True, kw_only=True):
    """A task as it is served."""

    stale: bool
    """Whether its file is broken, so that its last good definition is served."""
    held: bool
    """Whether its file is gone and its removal is held."""
    paused: PauseBody | None
    links: TaskLinksBody


class TaskPageBody(Body, frozen=True, kw_only=True):
    """All tasks of the served generation, by id."""

    items: list[TaskBody]
    next: Cursor
    """The `cursor` of the next page; null on the last one."""
    generation: int | None
    """The number of the served generation."""


class WarningBody(Body, frozen=True, kw_only=True):
    """A warning of the compiler about a request."""

    pointer: str
    """A JSON Pointer into the request."""
    message: str
    code: str | None
    """The code of the rule."""
    hint: str | None
    """The cure."""


class WrittenTaskBody(TaskBody, frozen=True, kw_only=True):
    """A task as it is served after a change of its file."""

    warnings: list[WarningBody]


class ManualTriggerWrittenBody(ManualTrigger, frozen=True, kw_only=True, tag="manual"):
    """A manual trigger after a change of its file."""

    warnings: list[WarningBody]


class ScheduleTriggerWrittenBody(ScheduleTrigger, frozen=True, kw_only=True, tag="schedule"):
    """A schedule after a change of its file."""

    warnings: list[WarningBody]


class WebhookTriggerWrittenBody(WebhookTriggerBody, frozen=True, kw_only=True, tag="webhook"):
    """A webhook after a change of its file."""

    warnings: list[WarningBody]


WrittenTriggerBody = ManualTriggerWrittenBody | ScheduleTriggerWrittenBody | WebhookTriggerWrittenBody


class TriggerListBody(Body, frozen=True, kw_only=True):
    """The triggers of a task, at most one of each type."""

    items: list[TriggerBody]
    next: None
    """Always null."""


class NewWebhookConfig(WebhookConfig, frozen=True, kw_only=True):
    """A webhook to be added. Its secret may be given as text, which is stored apart from the file."""

    secret: SecretRef | Annotated[str, Meta(min_length=1)] | None = None  # type: ignore[assignment]
    """The secret by which the sender signs: by name, or as text."""


class NewWebhook(WebhookTrigger, frozen=True, kw_only=True, tag="webhook"):
    """A webhook to be added."""

    config: NewWebhookConfig


NewTrigger = ManualTrigger | ScheduleTrigger | NewWebhook


class NewTask(TaskSpec, frozen=True, kw_only=True):
    """A task to be written: the keys of a task file."""

    agent_runtime: Runtime | UnsetType = UNSET  # type: ignore[assignment]
    """The agent CLI that runs the prompt; required, unless a template or the defaults have it."""
    triggers: list[NewTrigger] = []  # type: ignore[assignment]  # noqa: RUF012 - msgspec gives each value its own copy
    """The events that may start a run; at most one trigger of each type."""


def _in_a_patch(kind: Any) -> Any:
    """Return the type of a key in a merge patch: an object may be partial, and null removes the key."""
    is_object = isinstance(kind, type) and issubclass(kind, Struct)
    return (dict[str, Any] if is_object else kind) | None | UnsetType


TaskPatch: type[Struct] = defstruct(
    "TaskPatch",
    [(key.name, _in_a_patch(key.annotation), UNSET) for key in keys_of(NewTask)],
    rename="camel",
    kw_only=True,
    forbid_unknown_fields=True,
)
TaskPatch.__doc__ = "A JSON Merge Patch (RFC 7396) of a task's file: members replace those of the file, null removes them."


class PauseTask(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pause to be set."""

    reason: Annotated[str, Meta(max_length=MAX_REASON_LENGTH, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] | None = None
    """A line of text that is shown to everybody who asks why a run waits."""


class PausedTaskBody(Body, frozen=True, kw_only=True):
    """A task that was paused or resumed."""

    id: str
    """The id of the task."""
    paused: PauseBody | None


class SlotBody(Body, frozen=True, kw_only=True):
    """The outcome of a slot, or of several missed slots in a row."""

    slot: Time
    """The slot, or the last of several."""
    first: Time
    """The first of several, or the same as `slot`."""
    slots: int | None
    """The number of slots; null where they were not counted."""
    verdict: SlotOutcome
    """The outcome."""
    run_id: str | None
    """The run that it started."""
    at: Time
    """When the outcome was recorded."""


class SlotPageBody(Body, frozen=True, kw_only=True):
    """A page of slots, newest first."""

    items: list[SlotBody]
    next: Cursor
    """The `cursor` of the next page; null on the last one."""


# The served generation


class RemovalBody(Body, frozen=True, kw_only=True):
    """A removal of many tasks that is held until it is released."""

    digest: str
    """The digest that releases exactly these tasks."""
    count: int
    """The number of held tasks."""
    total: int
    """The number of tasks before."""
    tasks: list[str]
    """The ids of the first held tasks."""
    since: Time
    release: str
    """The command that releases them."""


class ReleaseRemoval(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A removal to be released."""

    digest: str
    """The `digest` of `removal` in `GET /api/registry`."""


class ReleasedBody(Body, frozen=True, kw_only=True):
    """A removal that was released."""

    digest: str
    """The digest of the request."""
    count: int
    """The number of removed tasks."""
    tasks: list[str]
    """Their ids."""
    served: int
    """The number of tasks that are served now."""


class DriftBody(Body, frozen=True, kw_only=True):
    """The difference between the directory of the answering server and what all servers serve."""

    generation: int
    """The generation that all servers serve."""
    count: int
    """The number of tasks that differ."""
    added: list[str]
    """The first tasks that only the directory has."""
    changed: list[str]
    """The first tasks that the directory has in another version."""
    missing: list[str]
    """The first tasks that the directory lacks."""
    in_sync: list[str]
    """The servers whose directories do not differ."""


class ServerBody(Body, frozen=True, kw_only=True):
    """A live server."""

    server: str
    """Its name."""
    generation: int
    """The generation that it serves."""
    in_sync: bool
    """Whether its directory equals that generation."""
    seen_at: Time
    """When it was heard of last."""


class RegistryBody(Body, frozen=True, kw_only=True):
    """The generation that all servers serve, and how servers and their directories differ from it."""

    generation: int | None
    """The number of the generation; null before the first one."""
    digest: str | None
    """The digest of all tasks together."""
    commit: str | None
    """The git commit of the task files, with `+dirty` if a file differs from it."""
    activated_at: Time | None
    """When it was first served."""
    tasks: dict[str, str]
    """The digest of each task, by id."""
    stale: list[str]
    """Tasks whose files are broken: their last good definitions are served."""
    removal: RemovalBody | None
    """The removal that is held."""
    drift: DriftBody | None
    """How the directory of the answering server differs."""
    servers: list[ServerBody]
    """The live servers."""
    not_applied: dict[str, list[str]]
    """What the executor of this installation does not apply, by task."""
    version: str
    """The version of the answering server."""


class EditBody(Body, frozen=True, kw_only=True):
    """A range of a file to be replaced by a text, in lines and columns from 1."""

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


class FixBody(Body, frozen=True, kw_only=True):
    """A cure that a program can apply."""

    safe: bool
    """Whether the file means the same after it."""
    edits: list[EditBody]


class RelatedBody(Body, frozen=True, kw_only=True):
    """A second place that belongs to a diagnostic."""

    message: str
    path: str
    line: int
    column: int


class DiagnosticBody(Body, frozen=True, kw_only=True):
    """A finding of the compiler, in lines and columns from 1."""

    code: str
    """The code of the rule, such as `OPT101`."""
    rule: str
    """The name of the rule."""
    severity: Literal["error", "warning", "info"]
    message: str
    path: str
    """The file, relative to the tree."""
    line: int
    column: int
    end_line: int
    end_column: int
    pointer: str
    """A JSON Pointer into the file."""
    hint: str | None
    """The cure."""
    more: int
    """The number of others that this one stands for."""
    related: list[RelatedBody]
    """Further places."""
    fix: FixBody | None


class DiagnosticListBody(Body, frozen=True, kw_only=True):
    """The compiler's findings about the tree on disk."""

    diagnostics: list[DiagnosticBody]
    stale: list[str]
    """Tasks whose files are broken: their last good definitions are served."""
    removal: RemovalBody | None
    """The removal that is held."""
    files: int
    """The number of files of the tree."""


class HealthBody(Body, frozen=True, kw_only=True):
    """The health of the process."""

    status: Literal["ok", "degraded", "unavailable"]
    problems: list[str]
    """One sentence for each problem."""


# Webhooks


class WebhookAnswerBody(Body, frozen=True, kw_only=True):
    """The outcome of a webhook request."""

    run_id: str | None
    """The run, or the earlier one of a duplicate; null for a request that the task's filter does not want."""
    status: Literal["accepted", "filtered", "duplicate"]
    """`accepted`, `filtered` by the task, or a `duplicate` by its business key."""
    duplicate: bool | UnsetType = UNSET
    """True where an earlier request decided the answer."""
    reason: str | UnsetType = UNSET
    """Why this request counts as a replay."""


class ChallengeBody(Body, frozen=True, kw_only=True):
    """The challenge of a sender that verifies the URL."""

    challenge: str


# Pools


class WaitsBody(Body, frozen=True, kw_only=True):
    """Quantiles of the time from claim to agent, in milliseconds; null without starts."""

    p50: int | None
    p90: int | None
    p99: int | None


class PoolReportBody(Body, frozen=True, kw_only=True):
    """The time of a keeper's report."""

    place: str
    at: Time
    age_seconds: float


class PoolBody(Body, frozen=True, kw_only=True):
    """A pool of warm pods, with the starts of its tasks."""

    pool: str | None
    """The name of the pool; null where no keeper has reported it."""
    place: str | None
    tasks: list[str]
    """The tasks that use it."""
    size: int
    """The wanted number of pods."""
    ready: int
    starting: int
    problem: str
    """Why there are fewer; empty if there are not."""
    warm_starts: int
    cold_starts: int
    wait_ms: WaitsBody


class UnservedBody(Body, frozen=True, kw_only=True):
    """A namespace whose runs no worker takes."""

    namespace: str | None
    tasks: list[str]
    waiting: int
    """The number of runs that wait."""
    message: str


class ShortageBody(Body, frozen=True, kw_only=True):
    """A task whose runs wait for room."""

    task_id: str
    place: str
    reason: str
    message: str
    since: Time
    next_try_at: Time


class SlowStartBody(Body, frozen=True, kw_only=True):
    """A running run whose agent has not begun."""

    run_id: str
    task_id: str
    reason: str
    message: str


class PoolListBody(Body, frozen=True, kw_only=True):
    """The warm pools, and what holds starts up."""

    since: Time
    """The begin of the period whose starts are counted."""
    until: Time
    executor: str
    reports: list[PoolReportBody]
    items: list[PoolBody]
    unserved: list[UnservedBody]
    """Namespaces without a worker."""
    shortages: list[ShortageBody]
    """Tasks that wait for room."""
    starting_slowly: list[SlowStartBody]
    """Runs whose agents have not begun."""


class SizeWaitsBody(Body, frozen=True, kw_only=True):
    """Quantiles of the wait for a start, in milliseconds."""

    p50: int | None
    p99: int | None


class PoolSizeBody(Body, frozen=True, kw_only=True):
    """A size and its consequences."""

    size: int
    warm_share: float
    """The share of starts that would be warm."""
    wait_ms: SizeWaitsBody
    idle_hours_per_day: float
    cpu_hours_per_day: float | None
    memory_gib_hours_per_day: float | None


class PoolPlanItemBody(Body, frozen=True, kw_only=True):
    """The sizes of one task's pool, compared."""

    task_id: str
    current: int
    """The size now."""
    proposed: int
    """The size that reaches the target."""
    why: str
    """Why this size is proposed."""
    days: float
    """The days that were measured."""
    measured_starts: int
    scheduled_starts: int
    refill_seconds: float
    run_seconds: float
    assumed: list[str]
    """The figures that were assumed, because nothing was measured."""
    shared_with: list[str]
    """Other tasks of the same pool."""
    cpu: str
    memory: str
    sizes: list[PoolSizeBody]


class PoolPlanBody(Body, frozen=True, kw_only=True):
    """The effect of other sizes of pools."""

    until: Time
    days: float
    measured_since: Time
    target: float
    """The share of starts that are to be warm."""
    items: list[PoolPlanItemBody]
    left: int
    """The number of tasks that are not listed."""


# Problems


class FaultBody(Body, frozen=True, kw_only=True):
    """One fault of a request."""

    pointer: str
    """A JSON Pointer (RFC 6901) into the body, or `/NAME` of a parameter."""
    message: str
    code: str | UnsetType = UNSET
    """The code of the compiler's rule."""
    hint: str | UnsetType = UNSET
    """The cure."""


class ProblemBody(Body, frozen=True, kw_only=True):
    """A problem (RFC 9457)."""

    type: str
    """The type, which stays the same over versions."""
    title: str
    status: int
    """The HTTP status."""
    detail: str
    """What happened, for people."""
    run_id: str | UnsetType = UNSET
    """Of a duplicate: the run that stands for the same business key."""
    path: str | UnsetType = UNSET
    """Where files may not be changed: the file to commit."""
    document: str | UnsetType = UNSET
    """Where files may not be changed: the YAML to commit."""
    errors: list[FaultBody] | UnsetType = UNSET
    """One entry for each fault."""
