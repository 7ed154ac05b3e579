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
from optio.model.money import RunBudget
from optio.model.registry import CompiledTask
from optio.model.result_file import ResultFile
from optio.model.run import UNKNOWN_AGENT, AgentIdentity, LogKind, LogLine, Outcome
from optio.model.usage import Meter
from optio.plugins import package_of
from optio.runtimes.base import AttemptContext, Invocation, OutputReader, ProcessEnd, Runtime, log_line, over_limits, unenforced

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
    also for runtimes that do not read it. The limits of the task hold for every reader."""

    def __init__(self, runtime: Runtime, task: CompiledTask, budget: RunBudget) -> None:
        self._runtime, self._task, self._budget = runtime, task, budget
        self._failure: Outcome | None = None
        self._meter = Meter()
        self._identity = UNKNOWN_AGENT
        self._reader: OutputReader
        self._reader = self._ask("reader", lambda: runtime.reader(task), object, None)  # type: ignore[assignment]
        theirs = self._ask("file", lambda: getattr(self._reader, "file", None), object, None)
        self._reads_file = isinstance(theirs, ResultFile)
        self.file: ResultFile = theirs if isinstance(theirs, ResultFile) else ResultFile()

    @property
    def plain(self) -> frozenset[str]:
        found = self._ask("plain", lambda: self._reader.plain, frozenset, frozenset(_LOGGED_AS_IS))
        return found | {"result"} if self.file.is_given_up else found

    @property
    def longest(self) -> int:
        return self._ask("longest", lambda: self._reader.longest, int, 0)

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        problem = self.file.line(data) if stream == "result" and not self._reads_file else None
        return [*self._line(stream, data, at), *([] if problem is None else [log_line(LogKind.SYSTEM, problem, at)])]

    def _line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        if self._failure is None:
            try:
                found = self._reader.line(stream, data, at)
                _expect_lines(found)
            except MemoryError:
                raise
            except _RAISED as err:
                self._fail("line", err)
            else:
                return found
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
            found: AgentIdentity = getattr(self._reader, "identity", UNKNOWN_AGENT)
            if not all(each is None or isinstance(each, str) for each in (found.version, found.session, found.model)):
                raise TypeError("the value has a part that is not a text")
            return found

        self._identity = self._ask("identity", identity, AgentIdentity, self._identity)
        return self._identity

    @property
    def is_retrying(self) -> bool:
        return self._ask("is_retrying", lambda: getattr(self._reader, "is_retrying", False), bool, False)

    def stop(self) -> Outcome | None:
        def stopped() -> Outcome | None:
            found = self._reader.stop()
            if found is not None:
                _expect_outcome(found)
            return found

        found = self._ask("stop", stopped, object, None)
        if found is None and not self._ask("is_over", lambda: getattr(self._reader, "is_over", False), bool, False):
            found = over_limits(self._task, self.meter, self._budget, self._unpriced)
        return self._failure or found

    @property
    def _unpriced(self) -> str | None:
        return self._ask("unpriced", lambda: getattr(self._reader, "unpriced", None), (str, type(None)), None)

    def closing(self, at: datetime) -> list[LogLine]:
        def lines() -> list[LogLine]:
            found = self._reader.closing(at)
            _expect_lines(found)
            return found

        none: list[LogLine] = []
        found = self._ask("closing", lines, list, none)
        own = [
            *([] if self._reads_file else self.file.closing()),
            *unenforced(self._task, self.meter, self._budget, self._unpriced),
        ]
        return [*found, *(log_line(LogKind.SYSTEM, text, at) for text in own)]

    def outcome(self, ended: ProcessEnd) -> Outcome:
        def outcome() -> Outcome:
            found = self._reader.outcome(ended)
            _expect_outcome(found)
            return found

        found = self._ask("outcome", outcome, Outcome, _NO_OUTCOME)
        return self._failure or found

    def _ask(self, name: str, call: Callable[[], T], kind: type | tuple[type, ...], otherwise: T) -> T:
        """Return what the runtime's code returns; after a failure, what takes its place."""
        if self._failure is None:
            try:
                found = call()
                if not isinstance(found, kind):
                    raise TypeError(f"the value is of the type {type(found).__name__}")
            except MemoryError:
                raise
            except _RAISED as err:
                self._fail(name, err)
            else:
                return found
        return otherwise

    def _fail(self, name: str, err: BaseException) -> None:
        message = _message(self._runtime, f"read the agent's output, in `{name}`", err)
        log.error("%s", message, exc_info=err)
        self._failure = Outcome(ok=False, reason=REASON, message=message)


def _message(runtime: Runtime, doing: str, err: BaseException) -> str:
    name = runtime.declaration.name
    words = " ".join(str(err).split())
    said = f"{type(err).__name__}: {words}" if words else type(err).__name__
    return f"the runtime `{name}` of {package_of(name)} failed while it {doing}: {said}"


def _expect_lines(found: Any) -> None:
    if not isinstance(found, list) or not all(isinstance(each, LogLine) for each in found):
        raise TypeError("the value is not a list of log lines")


def _expect_outcome(found: Any) -> None:
    if not isinstance(found, Outcome) or not isinstance(found.reason, str) or not isinstance(found.message, str):
        raise TypeError("the value is not an outcome with a reason and a message")
    json.dumps(found.output)


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
        wrong = next((each for each in values if not isinstance(each, kind)), None)
        if wrong is not None:
            raise TypeError(f"`{name}` has a value of the type {type(wrong).__name__}, not {kind.__name__}")
    if not call.argv:
        raise TypeError("`argv` is empty")
