"""Runs and attempts as plain data, and the one table of what may follow what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any


class RunState(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Nothing happens to it any more by itself."""
        return self in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


class RunChange(StrEnum):
    """What may happen to a run."""

    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL = "fail"
    RETRY = "retry"
    DEFER = "defer"
    CANCEL = "cancel"
    RETRY_BY_HAND = "retry-by-hand"


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
    """The state that follows, or None when the change is not allowed."""
    return TRANSITIONS.get((state, change))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens. `output` includes `reasoning`; `cached` is not in `fresh`."""

    fresh: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            fresh=self.fresh + other.fresh,
            cached=self.cached + other.cached,
            cache_write=self.cache_write + other.cache_write,
            output=self.output + other.output,
            reasoning=self.reasoning + other.reasoning,
        )

    @property
    def total(self) -> int:
        """All tokens, each once."""
        return self.fresh + self.cached + self.cache_write + self.output

    def to_json(self) -> dict[str, int]:
        """camelCase, as the API speaks."""
        return {
            "fresh": self.fresh,
            "cached": self.cached,
            "cacheWrite": self.cache_write,
            "output": self.output,
            "reasoning": self.reasoning,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, int] | None) -> "Usage":
        """Inverse of `to_json`; None is no usage."""
        data = data or {}
        return cls(
            fresh=data.get("fresh", 0),
            cached=data.get("cached", 0),
            cache_write=data.get("cacheWrite", 0),
            output=data.get("output", 0),
            reasoning=data.get("reasoning", 0),
        )


class CostSource(StrEnum):
    """Where a cost figure comes from."""

    CLI = "cli"
    PRICES = "prices"
    ESTIMATE = "estimate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What an attempt has used so far. `turns` and `cost` are None where the agent does not say."""

    usage: Usage = Usage()
    turns: int | None = None
    tool_calls: int = 0
    cost: Decimal | None = None
    cost_source: CostSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt ended. `reason` is a machine word; `again` says whether a second try can succeed."""

    ok: bool
    reason: str
    message: str = ""
    again: bool = False
    not_before_s: float = 0.0
    text: str | None = None
    output: Any = None
    # Our own fault or the machine's: repeated without touching the task's `maxRetries`.
    infrastructure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution that was asked for. `params` are effective: defaults filled in."""

    id: str
    seq: int
    task_id: str
    task_name: str
    digest: str
    generation: int | None
    state: RunState
    reason: str
    message: str
    trigger: str
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
    def duration_s(self) -> float | None:
        """Seconds between start and end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class AgentPod:
    """The Kubernetes pod of an attempt; `node` is None until the cluster has chosen one."""

    namespace: str
    name: str
    node: str | None = None

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}" + (f" on {self.node}" if self.node else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a run, with its own log, cost and end. `began` is how: as a `process`, or in a `cold` or `warm` place. `pod`
    is None for processes."""

    run_id: str
    number: int
    worker: str
    started_at: datetime
    agent_started_at: datetime | None
    began: str | None
    ended_at: datetime | None
    ok: bool | None
    reason: str | None
    message: str | None
    exit_code: int | None
    signal: int | None
    text: str | None
    meter: Meter
    pod: AgentPod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of a run's state."""

    run_id: str
    seq: int
    from_state: RunState | None
    to_state: RunState
    reason: str
    message: str
    at: datetime
    actor: str


class LogKind(StrEnum):
    """What a log line is."""

    TEXT = "text"  # what the agent says
    TOOL = "tool"  # a tool call
    RESULT = "tool-result"  # what the tool answered
    OUTPUT = "output"  # raw standard output
    STDERR = "stderr"
    SYSTEM = "system"  # Optio's own words


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line, as bytes without its newline; `seq` is the run's cursor, counted over all attempts."""

    kind: LogKind
    data: bytes
    at: datetime
    attempt: int = 0
    seq: int = 0

    @property
    def text(self) -> str:
        """Readable and reversible: what is no UTF-8 stands as `\\xNN`."""
        return self.data.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Part of a list, and the cursor that continues it (None at the end)."""

    items: list[Any] = field(default_factory=list)
    next: str | None = None
