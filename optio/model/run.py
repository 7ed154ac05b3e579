"""Runs, attempts, log lines and usage as plain data, and the one table of state changes that are allowed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from optio.model.agent_event import AgentEvent
from optio.model.pool import StartKind
from optio.model.usage import Meter, cost_origin

# The origin of a run.
RunTrigger = Literal[
    "manual",  # a person or program, through the API or the CLI
    "schedule",  # a slot of its schedule
    "webhook",  # a delivery to its webhook
]


class RunState(StrEnum):
    """The state of a run. `completed`, `failed` and `cancelled` are final, but a failed run may be retried by hand."""

    QUEUED = "queued"  # accepted, or to be tried again, and not claimed by a worker
    RUNNING = "running"  # claimed by a worker
    COMPLETED = "completed"  # ended with success
    FAILED = "failed"  # ended, and not tried again by itself
    CANCELLED = "cancelled"  # ended on request

    @property
    def terminal(self) -> bool:
        """Return whether nothing more happens to the run by itself."""
        return self in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


class RunChange(StrEnum):
    """The changes that `TRANSITIONS` allows or forbids for each state of a run; they are not stored."""

    CLAIM = "claim"  # a worker takes the run
    COMPLETE = "complete"  # its attempt succeeded
    FAIL = "fail"  # its attempt failed, and no retry is left
    RETRY = "retry"  # its attempt failed, and another one follows
    DEFER = "defer"  # there was no room for its agent
    CANCEL = "cancel"  # a person, or a newer run with its key, ended it
    RETRY_BY_HAND = "retry-by-hand"  # a person queued the failed run again


TRANSITIONS: Mapping[tuple[RunState, RunChange], RunState] = {
    (RunState.QUEUED, RunChange.CLAIM): RunState.RUNNING,
    (RunState.QUEUED, RunChange.CANCEL): RunState.CANCELLED,
    (RunState.RUNNING, RunChange.COMPLETE): RunState.COMPLETED,
    (RunState.RUNNING, RunChange.FAIL): RunState.FAILED,
    (RunState.RUNNING, RunChange.RETRY): RunState.QUEUED,
    (RunState.RUNNING, RunChange.DEFER): RunState.QUEUED,
    (RunState.RUNNING, RunChange.CANCEL): RunState.CANCELLED,
    (RunState.FAILED, RunChange.RETRY_BY_HAND): RunState.QUEUED,
}


def next_state(state: RunState, change: RunChange) -> RunState | None:
    """Return the state that follows a change, or None when the table forbids it."""
    return TRANSITIONS.get((state, change))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one attempt. `reason` is a machine word, `message` is for people; `again` says whether a second try can
    succeed, `not_before_s` how many seconds the agent asks to wait before it."""

    ok: bool
    reason: str
    message: str = ""
    again: bool = False
    not_before_s: float = 0.0
    text: str | None = None
    output: Any = None
    # A failure of Optio or the machine: repeated without counting against the task's `maxRetries`.
    infrastructure: bool = False


class Lease(NamedTuple):
    """The right of a run's owner to write for its attempt, until another worker claims the run."""

    run_id: str
    fence: int


class AttemptName(NamedTuple):
    """An attempt by its run, its number and its definition, for what needs to know no more of a run."""

    id: str
    attempt: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One requested execution of a task, as the store keeps it. `params` have their defaults filled in; `meter` is the total of
    all attempts; `fence` grows with every claim, and only the holder of the newest may change the run."""

    id: str
    seq: int
    task_id: str
    task_name: str
    digest: str
    generation: int | None
    state: RunState
    reason: str
    message: str
    trigger: RunTrigger
    slot: datetime | None
    delivery_id: str | None
    params: Mapping[str, Any]
    max_concurrent: int
    max_retries: int
    attempt: int
    retries: int
    infrastructure_retries: int
    fence: int
    owner: str | None
    lease_until: datetime | None
    cancel_requested: bool
    created_at: datetime
    queued_at: datetime
    not_before: datetime
    started_at: datetime | None
    ended_at: datetime | None
    text: str | None
    output: Any
    meter: Meter
    traceparent: str | None = None
    priority: int = 0
    dedupe_key: str | None = None

    @property
    def lease(self) -> Lease:
        """Return what a write for the run's attempt must carry."""
        return Lease(self.id, self.fence)

    @property
    def duration_s(self) -> float | None:
        """Return the seconds from start to end; None until the run has both."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class AgentPod:
    """The Kubernetes pod of an attempt; `node` is None until the cluster has scheduled it, and `image`, the digest of the
    agent's image as the node resolved it, until the node has it."""

    namespace: str
    name: str
    node: str | None = None
    image: str | None = None

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}" + (f" on {self.node}" if self.node else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIdentity:
    """The agent of an attempt as its events tell it: the version of its CLI, the id of its session, and the model that answered
    last. `machine` is the host name of its process, and `program` that one's path with the digest of its file. Each is None
    where it is not known."""

    version: str | None = None
    session: str | None = None
    model: str | None = None
    machine: str | None = None
    program: str | None = None


UNKNOWN_AGENT = AgentIdentity()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a run, with its own log, cost and end. `began` says how its agent started: as a `process`, or in a `cold` or
    `warm` pod. `pod` is None for processes, and `agent` tells nothing before the end. `continues` is the attempt whose agent
    session it continues. `model_calls` counts those that came through the gateway, and `metered` says that it leads the agent
    to its model, and holds it to the budget."""

    run_id: str
    number: int
    worker: str
    started_at: datetime
    agent_started_at: datetime | None
    began: StartKind | None
    ended_at: datetime | None
    ok: bool | None
    reason: str | None
    message: str | None
    exit_code: int | None
    signal: int | None
    text: str | None
    meter: Meter
    pod: AgentPod | None = None
    agent: AgentIdentity = UNKNOWN_AGENT
    continues: int | None = None
    model_calls: int = 0
    metered: bool = False

    @property
    def cost_origin(self) -> str:
        """Return where the cost comes from, for people. While it runs, it is what its agent tells."""
        return cost_origin(self.meter.cost_source, is_metered=self.metered and self.ended_at is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of a run's state, with the reason and the actor (a user, a worker, a scheduler) who made it."""

    run_id: str
    seq: int
    from_state: RunState | None
    to_state: RunState
    reason: str
    message: str
    at: datetime
    actor: str


class LogKind(StrEnum):
    """The kinds of log lines."""

    TEXT = "text"  # the agent's own messages
    THOUGHT = "thought"  # the agent's words to itself
    TOOL = "tool"  # a tool call
    RESULT = "tool-result"  # a tool's answer
    TURN = "turn"  # the end of a model call, with its usage
    OUTPUT = "output"  # raw standard output
    STDERR = "stderr"  # raw standard error
    SYSTEM = "system"  # Optio's own messages


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One log line, as bytes without the newline. `seq` is its cursor in the run, counted over all attempts. `turn` is the
    number of the model call to which it belongs, counted in its attempt."""

    kind: LogKind
    data: bytes
    at: datetime
    attempt: int = 0
    seq: int = 0
    turn: int | None = None
    event: AgentEvent | None = None

    @property
    def text(self) -> str:
        """Return the line as text, readable and reversible: bytes that are not UTF-8 become escapes of two hex digits."""
        return self.data.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Part of a list, and the cursor that continues it (None on the last page)."""

    items: list[Any] = field(default_factory=list)
    next: str | None = None
