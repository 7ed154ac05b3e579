"""The protocol of runtimes, and what all of them share: log lines, ends, and reasons of API errors. `runs.execute` calls a
runtime; an executor runs its program."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from optio.model.money import ZERO_USD
from optio.model.registry import CompiledTask
from optio.model.run import LogKind, LogLine, Outcome
from optio.model.runtimes import Declaration, Program
from optio.model.usage import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """The call of an agent: program and arguments, standard input, variables and files, without the task's own environment and
    secrets. `files` are paths below HOME; `file_env` names variables that hold the absolute path of one of them, and
    `file_options` are options that take one, at the end of the arguments. `telemetry` is an empty one, to which the CLI appends
    its telemetry: its reader gets that as the stream `telemetry`. `setup` are shell commands that run before the agent, as the
    set-up commands of a task do."""

    argv: tuple[str, ...]
    stdin: bytes
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    file_env: Mapping[str, str] = field(default_factory=dict)
    file_options: Mapping[str, str] = field(default_factory=dict)
    telemetry: str | None = None
    setup: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnd:
    """The end of the agent's process as a runtime sees it: exit code or signal, and the phase and error if it never started."""

    code: int | None
    signal: int | None
    phase: str = "agent"
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolServer:
    """The MCP server (streamable HTTP) that offers an attempt its tools, and the key that opens it, as a bearer token."""

    url: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of each request."""
        return {"Authorization": f"Bearer {self.key}"}


TOOL_SERVER = "optio"
"""The name by which agents know their server of tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptContext:
    """The circumstances of one attempt: the program's path, the endpoint of its model service if an operator set one, and what
    earlier attempts of the run have spent of its budget. `session` is the id of the agent's session that this attempt
    continues, in the same HOME and working directory; None for a new session. `tools` is the server of its tools, if it has
    any."""

    program: str = ""
    endpoint: str | None = None
    spent: Decimal = ZERO_USD
    session: str | None = None
    tools: ToolServer | None = None


class OutputReader(Protocol):
    """A parser of one attempt's output, line by line, from its beginning.

    Texts are returned whole. The caller masks secrets first and cuts afterwards, so that no half of a secret remains, and holds
    the meter to the task's limits. A reader may also have `identity` (an `AgentIdentity`, whose `machine` is left to the
    caller), `is_retrying`, `is_over` (the agent has told its end, so no limit stops it), `unpriced` (a model that answered and
    has no price), and `begun_turns` (how many turns it has begun, where that is known before the meter counts them).
    """

    @property
    def plain(self) -> frozenset[str]:
        """Return the streams whose lines have no meaning of their own: many of their lines may be passed as one once the log is
        full."""
        ...

    @property
    def longest(self) -> int:
        """Return how many bytes of the outcome's text are kept, counted from its end."""
        ...

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        """Return the log lines for a line of output, and remember what it says about usage and success."""
        ...

    @property
    def meter(self) -> Meter:
        """Return the usage and cost so far, live or final. A model call that was answered has a cost or makes it None."""
        ...

    @property
    def text(self) -> str | None:
        """Return the agent's own words so far, at least the last of them. Kept for an attempt that ends without a result."""
        ...

    def stop(self) -> Outcome | None:
        """Return an outcome if it is pointless to continue, for example without a login. Otherwise None."""
        ...

    def closing(self, at: datetime) -> list[LogLine]:
        """Return the last lines for the log, after the output has ended."""
        ...

    def outcome(self, end: ProcessEnd) -> Outcome:
        """Return the outcome, decided by the terminal event and the exit code, never by searching the text. The worse of the
        two wins."""
        ...


class Runtime(Protocol):
    """An agent CLI, as `declaration` describes it. `side` is a pattern below HOME for the file in which the CLI keeps its
    session: its reader gets that as the stream `side`. `stall` is the limit of silence."""

    declaration: Declaration
    side: str | None
    stall: timedelta | None

    def invoke(self, task: CompiledTask, prompt: str, params: Mapping[str, Any], context: AttemptContext) -> Invocation:
        """Return how to call the agent. `context.session` is set only if the declaration says that it can `resume`."""
        ...

    def reader(self, task: CompiledTask) -> OutputReader:
        """Return a fresh reader for one attempt. The meter of an attempt that continues a session counts its own model calls
        alone. Its cost is None where nobody knows what the calls have cost."""
        ...


_NO_KEYS = ".optio-no-keys.sh"


def hide_keys(task: CompiledTask, script: str, keys: Iterable[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return (files, file_env) of an invocation that take variables away from the agent's commands. `script` is the variable
    that names a file which their shell runs first; a task that sets it hides nothing."""
    if script in task.spec.environment.env:
        return {}, {}
    # A name may be none that a shell can unset.
    return {_NO_KEYS: f"unset {' '.join(keys)} 2>/dev/null || :\n".encode()}, {script: _NO_KEYS}


def log_line(kind: LogKind, text: str, at: datetime) -> LogLine:
    """Return a log line made of text, whatever characters it holds."""
    return LogLine(kind=kind, data=text.encode("utf-8", "replace"), at=at)


def end_text(end: ProcessEnd) -> str:
    """Return how a process ended in words: `exit code 1`, `signal 9`."""
    return f"exit code {end.code}" if end.code is not None else f"signal {end.signal}"


def no_result(end: ProcessEnd, said: str, *, began: bool, printed: str = "", program: Program | None = None) -> Outcome:
    """Return the outcome of an agent that printed no terminal event: it did not begin at all, for the reason that it `said`,
    was killed, or broke off. `printed` is the first line of its output."""
    if not began and end.code not in (0, None):
        return Outcome(ok=False, reason="config", message=said or f"exit code {end.code} before the first event")
    if end.signal is not None:
        return Outcome(ok=False, reason="signal", message=f"killed by {end_text(end)}", again=True)
    message = f"ended with {end_text(end)} and no result event"
    if not began and end.code == 0:
        message = "ended with exit code 0 and no event that Optio knows"
        if program is not None:
            message += f": compare `{program.name} --version` with {program.tested}, which Optio is tested with"
        message += f". It printed: {printed}" if printed else ". It printed nothing"
    return Outcome(ok=False, reason="no_result", message=message, again=True)


_NOT_FOUND = "the program was not found, or it is a script and the interpreter in its first line was not found"
_NOT_EXECUTABLE = {
    "EACCES": ": its file permissions do not allow it",
    "ENOEXEC": ": it is for another processor, or a script whose first line names no interpreter",
}


def common_outcome(end: ProcessEnd) -> Outcome | None:
    """Return the outcome of ends that mean the same for every runtime: set-up failed, or the program could not be started.
    Otherwise None."""
    if end.phase == "setup":
        return Outcome(ok=False, reason="setup", message=f"a set-up command failed with exit code {end.code}", again=True)
    if end.error == "ENOENT":
        return Outcome(ok=False, reason="command_not_found", message=_NOT_FOUND)
    if end.error == "E2BIG":
        return Outcome(
            ok=False, reason="environment", message="the environment and the arguments are too large for this machine"
        )
    if end.error is not None:
        cause = _NOT_EXECUTABLE.get(end.error, "")
        return Outcome(ok=False, reason="not_executable", message=f"the program cannot be executed ({end.error}){cause}")
    return None


# HTTP status of the model's API -> (reason, whether a second attempt can help).
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
    """Return the reason for an HTTP status of a model API, and whether a second attempt may help."""
    if status in BY_STATUS:
        return BY_STATUS[status]
    return ("server_error", True) if status >= 500 else ("bad_request", False)


# What JavaScript trims, which most of the CLIs are written in: a byte order mark is a blank to it.
_COMMAND = re.compile(r"[\s\ufeff]*/")


def is_command(prompt: str) -> bool:
    """Return whether some CLIs would take the prompt for a command, because it begins with `/`."""
    return _COMMAND.match(prompt) is not None


def guard_slash(prompt: str) -> str:
    """Return the prompt, with a fixed line in front if it would be taken for a command."""
    return f"The task is:\n{prompt}" if is_command(prompt) else prompt
