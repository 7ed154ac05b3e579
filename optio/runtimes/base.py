"""The seam of the runtimes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from optio.model.money import ZERO_USD, dollars
from optio.model.registry import CompiledTask
from optio.model.run import LogKind, LogLine, Meter, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """How an agent is called, without the task's own environment and secrets."""

    argv: tuple[str, ...]
    stdin: bytes
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    file_env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnd:
    """How the agent's process ended, as a runtime sees it."""

    code: int | None
    signal: int | None
    phase: str = "agent"
    error: str | None = None


class OutputReader(Protocol):
    """Reads one attempt's output, line by line, from its beginning.

    Texts are given whole; whoever keeps them masks secrets first and cuts afterwards, so that no half of a secret stays.
    """

    @property
    def plain(self) -> frozenset[str]:
        """Streams whose lines mean nothing by themselves: once nothing of them is logged, many may come as one."""
        ...

    @property
    def longest(self) -> int:
        """Of the outcome's text, so many bytes are kept: the last ones."""
        ...

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        """What a line says to people; what it says about usage and success is kept."""
        ...

    @property
    def meter(self) -> Meter:
        """What is used so far."""
        ...

    @property
    def text(self) -> str | None:
        """The agent's own words so far, at least the last of them: what is kept of an attempt that ends without a result."""
        ...

    def stop(self) -> Outcome | None:
        """An outcome that makes going on pointless: over budget, over the turns, no way to log in."""
        ...

    def closing(self, at: datetime) -> list[LogLine]:
        """What the log says last."""
        ...

    def outcome(self, ended: ProcessEnd) -> Outcome:
        """Decided by the terminal event and the exit code, never by searching the text. The worse of the two wins."""
        ...


class Runtime(Protocol):
    """One agent CLI. `program` says whether the executor has to find one; `stall` is its limit of silence."""

    name: str
    program: bool
    stall: timedelta | None

    def invoke(
        self, task: CompiledTask, prompt: str, params: Mapping[str, Any], program: str, spent: Decimal = ZERO_USD
    ) -> Invocation:
        """How to call it. `spent` is what earlier attempts of the run have cost: the agent may spend what is left."""
        ...

    def reader(self, task: CompiledTask, spent: Decimal = ZERO_USD) -> OutputReader:
        """A fresh reader; `spent` as for `invoke`."""
        ...


def log_line(kind: LogKind, text: str, at: datetime) -> LogLine:
    """A log line from text, whatever characters it holds."""
    return LogLine(kind=kind, data=text.encode("utf-8", "replace"), at=at)


def over_limits(task: CompiledTask, meter: Meter, spent: Decimal) -> Outcome | None:
    """The limits of a task, metered live; its budget is the run's, of which earlier attempts have `spent` some."""
    budget: Decimal | None = task.spec.budget
    if budget is not None and meter.cost is not None and spent + meter.cost > budget:
        return Outcome(ok=False, reason="budget", message=f"stopped at {dollars(spent + meter.cost)} of {dollars(budget)}")
    turns = task.spec.max_turns
    if turns is not None and meter.turns is not None and meter.turns > turns:
        return Outcome(ok=False, reason="max_turns", message=f"stopped after {turns} turns")
    return None


def common_outcome(ended: ProcessEnd) -> Outcome | None:
    """Ends that are the same for every runtime: set-up failed, the program could not be started."""
    if ended.phase == "setup":
        return Outcome(ok=False, reason="setup", message=f"a set-up command failed with exit code {ended.code}", again=True)
    if ended.error == "ENOENT":
        return Outcome(ok=False, reason="command_not_found", message="the program was not found")
    if ended.error == "E2BIG":
        return Outcome(
            ok=False, reason="environment", message="the environment and the arguments are too large for this machine"
        )
    if ended.error is not None:
        return Outcome(ok=False, reason="not_executable", message=f"the program cannot be executed ({ended.error})")
    return None


# HTTP status of the model's API -> (reason, whether a second try can help).
BY_STATUS: Mapping[int, tuple[str, bool]] = {
    400: ("bad_request", False),
    401: ("auth", False),
    402: ("quota", False),
    403: ("auth", False),
    404: ("model_not_found", False),
    413: ("context_overflow", False),
    429: ("rate_limit", True),
    503: ("overloaded", True),
    529: ("overloaded", True),
}


def reason_of_status(status: int) -> tuple[str, bool]:
    """Reason and `again` for an API error."""
    if status in BY_STATUS:
        return BY_STATUS[status]
    return ("server_error", True) if status >= 500 else ("bad_request", False)


_SLASH = re.compile(r"\s*/")


def guard_slash(prompt: str) -> str:
    """A prompt that begins with `/` is a command to some CLIs: one fixed line in front makes it text."""
    return f"The task is:\n{prompt}" if _SLASH.match(prompt) else prompt


def token_count(value: Any) -> int | None:
    """A token count as an agent reports it; None for what is no whole number from zero up."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**12:
        return None
    return value


def reject_constant(name: str) -> Any:
    """For `json.loads`: NaN and Infinity are no JSON."""
    raise ValueError(f"{name} is no JSON")


# What a second try cannot change, whoever reports it.
HOPELESS = frozenset(
    {"auth", "quota", "context_overflow", "model_not_found", "bad_request", "refusal", "truncated", "loop", "denied", "config"}
    | {"budget", "max_turns", "cancelled", "timeout", "stalled"}
)
