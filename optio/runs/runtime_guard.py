"""A guard around a runtime's own code, which may be of another package: whatever it raises or returns fails its run alone, at
once, with the reason `runtime_failed`. Used by `runs.execute`.

Without it an exception of a reader would be taken for a failure of the worker, which leaves the agent to other workers: they
would read the same line and fail in the same way.
"""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from optio.errors import LaunchFailed
from optio.model.registry import CompiledTask
from optio.model.result_file import ResultFile
from optio.model.run import UNKNOWN_AGENT, AgentIdentity, LogKind, LogLine, Outcome
from optio.model.usage import Meter
from optio.plugins import package_of
from optio.runtimes.base import AttemptContext, Invocation, OutputReader, ProcessEnd, Runtime, log_line

T = TypeVar("T")
log = logging.getLogger(__name__)
REASON = "runtime_failed"
# A plug-in that calls `sys.exit` would end the thread of its run without a word.
_RAISED = (Exception, SystemExit)
_NO_OUTCOME = Outcome(ok=False, reason=REASON)
_LOGGED_AS_IS: Mapping[str, LogKind] = {"stdout": LogKind.OUTPUT, "stderr": LogKind.STDERR}


def invoke(runtime: Runtime, task: CompiledTask, prompt: str, params: Mapping[str, Any], context: AttemptContext) -> Invocation:
    """Return how to call the agent. Raises LaunchFailed if the runtime's `invoke` raises or returns something else."""
    try:
        call = runtime.invoke(task, prompt, params, context)
        _expect_invocation(call)
    except MemoryError:
        raise
    except _RAISED as err:
        raise LaunchFailed(REASON, _message(runtime, "prepared the call of its agent", err)) from err
    return call


class GuardedReader:
    """A runtime's reader that never raises. After its first failure the runtime's code is not called again: `stop` and
    `outcome` return the failure, the meter stays as it was, and output is logged as it is. `file` is what the result file says,
    also for runtimes that do not read it. `spending_limits` holds what it reports to the limits of the task."""

    def __init__(self, runtime: Runtime, task: CompiledTask) -> None:
        self._runtime = runtime
        self.failure: Outcome | None = None
        self._meter = Meter()
        self._identity = UNKNOWN_AGENT
        self._reader: OutputReader
        self._reader = self._ask("reader", lambda: runtime.reader(task), object, None)  # type: ignore[assignment]
        file = self._ask("file", lambda: getattr(self._reader, "file", None), object, None)
        self._reads_file = isinstance(file, ResultFile)
        self.file: ResultFile = file if isinstance(file, ResultFile) else ResultFile()

    @property
    def plain(self) -> frozenset[str]:
        streams = self._ask("plain", lambda: self._reader.plain, frozenset, frozenset(_LOGGED_AS_IS))
        return streams | {"result"} if self.file.is_given_up else streams

    @property
    def longest(self) -> int:
        return self._ask("longest", lambda: self._reader.longest, int, 0)

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        problem = self.file.line(data) if stream == "result" and not self._reads_file else None
        return [*self._line(stream, data, at), *([] if problem is None else [log_line(LogKind.SYSTEM, problem, at)])]

    def _line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        if self.failure is None:
            try:
                lines = self._reader.line(stream, data, at)
                _expect_lines(lines)
            except MemoryError:
                raise
            except _RAISED as err:
                self._fail("line", err)
            else:
                return lines
        kind = _LOGGED_AS_IS.get(stream)
        return [] if kind is None else [LogLine(kind=kind, data=data, at=at)]

    @property
    def meter(self) -> Meter:
        self._meter = self._ask("meter", lambda: self._reader.meter, Meter, self._meter)
        return self._meter

    @property
    def text(self) -> str | None:
        return self._ask("text", lambda: self._reader.text, (str, type(None)), None)

    @property
    def identity(self) -> AgentIdentity:
        def identity() -> AgentIdentity:
            facts: AgentIdentity = getattr(self._reader, "identity", UNKNOWN_AGENT)
            if not all(fact is None or isinstance(fact, str) for fact in (facts.version, facts.session, facts.model)):
                raise TypeError("the value has a part that is not a text")
            return facts

        self._identity = self._ask("identity", identity, AgentIdentity, self._identity)
        return self._identity

    @property
    def is_retrying(self) -> bool:
        return self._ask("is_retrying", lambda: getattr(self._reader, "is_retrying", False), bool, False)

    @property
    def is_over(self) -> bool:
        return self._ask("is_over", lambda: getattr(self._reader, "is_over", False), bool, False)

    @property
    def unpriced(self) -> str | None:
        return self._ask("unpriced", lambda: getattr(self._reader, "unpriced", None), (str, type(None)), None)

    @property
    def begun_turns(self) -> int:
        return self._ask("begun_turns", lambda: getattr(self._reader, "begun_turns", 0), int, 0)

    def stop(self) -> Outcome | None:
        def outcome() -> Outcome | None:
            reason = self._reader.stop()
            if reason is not None:
                _expect_outcome(reason)
            return reason

        reason = self._ask("stop", outcome, object, None)
        return self.failure or reason

    def closing(self, at: datetime) -> list[LogLine]:
        def lines() -> list[LogLine]:
            lines = self._reader.closing(at)
            _expect_lines(lines)
            return lines

        no_lines: list[LogLine] = []
        texts = [] if self._reads_file else self.file.closing()
        return [*self._ask("closing", lines, list, no_lines), *(log_line(LogKind.SYSTEM, text, at) for text in texts)]

    def outcome(self, ended: ProcessEnd) -> Outcome:
        def outcome() -> Outcome:
            outcome = self._reader.outcome(ended)
            _expect_outcome(outcome)
            return outcome

        result = self._ask("outcome", outcome, Outcome, _NO_OUTCOME)
        return self.failure or result

    def _ask(self, name: str, call: Callable[[], T], kind: type | tuple[type, ...], default: T) -> T:
        """Return what the runtime's code returns; after a failure, what takes its place."""
        if self.failure is None:
            try:
                answer = call()
                if not isinstance(answer, kind):
                    raise TypeError(f"the value is of the type {type(answer).__name__}")
            except MemoryError:
                raise
            except _RAISED as err:
                self._fail(name, err)
            else:
                return answer
        return default

    def _fail(self, name: str, err: BaseException) -> None:
        message = _message(self._runtime, f"read the agent's output, in `{name}`", err)
        log.error("%s", message, exc_info=err)
        self.failure = Outcome(ok=False, reason=REASON, message=message)


def _message(runtime: Runtime, doing: str, err: BaseException) -> str:
    name = runtime.declaration.name
    words = " ".join(str(err).split())
    problem = f"{type(err).__name__}: {words}" if words else type(err).__name__
    return f"the runtime `{name}` of {package_of(name)} failed while it {doing}: {problem}"


def _expect_lines(lines: Any) -> None:
    if not isinstance(lines, list) or not all(isinstance(line, LogLine) for line in lines):
        raise TypeError("the value is not a list of log lines")


def _expect_outcome(outcome: Any) -> None:
    if not isinstance(outcome, Outcome) or not isinstance(outcome.reason, str) or not isinstance(outcome.message, str):
        raise TypeError("the value is not an outcome with a reason and a message")
    json.dumps(outcome.output)


def _expect_invocation(call: Any) -> None:
    if not isinstance(call, Invocation):
        raise TypeError(f"the value is of the type {type(call).__name__}")
    for name, kind, values in (
        ("argv", str, call.argv),
        ("stdin", bytes, (call.stdin,)),
        ("env", str, (*call.env, *call.env.values())),
        ("files", str, call.files),
        ("files", bytes, call.files.values()),
        ("file_env", str, (*call.file_env, *call.file_env.values())),
        ("file_options", str, (*call.file_options, *call.file_options.values())),
        ("setup", str, call.setup),
        ("telemetry", str, () if call.telemetry is None else (call.telemetry,)),
    ):
        misfit = next((value for value in values if not isinstance(value, kind)), None)
        if misfit is not None:
            raise TypeError(f"`{name}` has a value of the type {type(misfit).__name__}, not {kind.__name__}")
    if not call.argv:
        raise TypeError("`argv` is empty")
