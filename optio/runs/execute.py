"""Execute: one attempt, from its claim to its outcome. A worker can die at any line of this and another goes on."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from optio.broker.base import Broker, Topic
from optio.errors import LaunchFailed, LeaseLost
from optio.executors.base import STREAMS, Executor, Exit, Handle, Launch
from optio.model import retry
from optio.model.registry import CompiledTask
from optio.model.run import LogKind, LogLine, Meter, Outcome, Run, RunState
from optio.runs.lines import Lines
from optio.runs.mask import Masker
from optio.runtimes.base import Ended, Reader, Runtime
from optio.secrets import Secrets
from optio.store.base import Claim, Store

log = logging.getLogger(__name__)
_CHUNK = 1 << 20
_MOST_LINES = 500
# Output that comes faster than this is gathered into one commit.
_GATHER = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an execution works with. `base_env` goes to every agent of a runtime (endpoints that the operator has set)."""

    store: Store
    broker: Broker
    executor: Executor
    runtimes: Mapping[str, Runtime]
    secrets: Secrets
    default_timeout: timedelta
    base_env: Mapping[str, Mapping[str, str]]


class Execution:
    """One attempt at a run, on a thread of its own. `cancel`, `lose` and `leave` may be called from any thread."""

    def __init__(self, claim: Claim, parts: Parts, worker: str) -> None:
        self.run: Run = claim.run
        self._claim = claim
        self._parts = parts
        self._worker = worker
        self._handle: Handle | None = None
        self._handle_lock = threading.Lock()
        self._cancelled = claim.run.cancel_requested
        self._left = False
        self._mask = Masker(())

    def cancel(self) -> None:
        """Stop the agent: the run's end was asked for."""
        self._cancelled = True
        self._wake()

    def leave(self) -> None:
        """Let go without touching the agent: the lease is lost, or this worker stops and another takes over."""
        self._left = True
        self._wake()

    def _wake(self) -> None:
        with self._handle_lock:
            if self._handle is not None:
                self._handle.wake()

    def __call__(self) -> None:
        """Run to the end of the attempt. Never raises."""
        try:
            self._execute()
        except LeaseLost:
            log.warning("run %s has another owner now", self.run.id)
        except Exception as err:
            log.exception("run %s: the worker failed", self.run.id)
            # Give it back rather than keep the lease: the retry limit for our own faults ends a run that always does this.
            outcome = Outcome(ok=False, reason="worker_error", message=str(err)[:500], again=True, infrastructure=True)
            try:
                self._finish(outcome, Meter(), None)
            except Exception:
                log.exception("run %s: its outcome could not be kept; its lease will run out", self.run.id)

    def _execute(self) -> None:
        run, parts = self.run, self._parts
        task = parts.store.definition(run.digest)
        runtime = parts.runtimes[task.spec.agent_runtime]
        handle: Handle | None
        if self._claim.adopted:
            handle = parts.executor.find(run.id, run.attempt)
            if handle is None:
                outcome = Outcome(
                    ok=False, reason="lost", message="its worker died before it began", again=True, infrastructure=True
                )
                self._finish(outcome, run.meter, None)
                return
            self._say(f"found again by {self._worker}")
        else:
            if self._cancelled:
                self._finish(Outcome(ok=False, reason="cancelled"), Meter(), None)
                return
            try:
                launch = self._launch(task, runtime)
                handle = parts.executor.start(launch)
            except LaunchFailed as err:
                outcome = Outcome(
                    ok=False, reason=err.reason, message=str(err), again=err.temporary, infrastructure=err.temporary
                )
                self._finish(outcome, Meter(), None)
                return
            parts.store.agent_started(run.id, run.fence)
            parts.broker.tell(Topic.RUN, run.id)
            notes = parts.executor.notes(task.spec.environment.model_dump(exclude_none=True))
            self._say(*notes)
        with self._handle_lock:
            self._handle = handle
        try:
            finished = self._follow(handle, task, runtime)
        finally:
            with self._handle_lock:
                self._handle = None
        handle.close(remove=finished)

    def _launch(self, task: CompiledTask, runtime: Runtime) -> Launch:
        run, spec = self.run, task.spec
        values: dict[str, str] = {}
        for name in spec.environment.secrets:
            value = self._parts.secrets.get(name)
            if value is None:
                raise LaunchFailed("secret_missing", f"the secret `{name}` has no value: {self._parts.secrets.where(name)}")
            values[name] = value
        self._mask = Masker(values.values())
        program = self._parts.executor.program(runtime.name) if runtime.program else ""
        call = runtime.invoke(task, self._claim.prompt, run.params, program)
        timeout = spec.timeout_span or self._parts.default_timeout
        deadline = datetime.now(UTC) + timeout
        return Launch(
            run_id=run.id,
            attempt=run.attempt,
            argv=call.argv,
            stdin=call.stdin,
            env={
                **call.env,
                **self._parts.base_env.get(runtime.name, {}),
                **spec.environment.env,
                **values,
                "OPTIO_RUN_ID": run.id,
                "OPTIO_TASK_ID": run.task_id,
                "OPTIO_ATTEMPT": str(run.attempt),
                "OPTIO_DEADLINE": str(int(deadline.timestamp())),
            },
            files=call.files,
            file_env=call.file_env,
            setup=tuple(spec.environment.setup_commands),
            timeout_s=timeout.total_seconds(),
        )

    def _say(self, *sentences: str) -> None:
        """Our own words in the run's log."""
        if sentences:
            now = datetime.now(UTC)
            lines = [LogLine(kind=LogKind.SYSTEM, data=text.encode(), at=now) for text in sentences]
            self._append(lines, self._claim.offsets, self.run.meter if self._claim.adopted else Meter())

    def _append(self, lines: list[LogLine], offsets: Mapping[str, int], meter: Meter) -> None:
        masked = [replace(line, data=self._mask(line.data)) for line in lines]
        self._parts.store.append_log(self.run.id, self.run.fence, self.run.attempt, masked, offsets, meter)
        self._parts.broker.tell(Topic.RUN, self.run.id)

    def _follow(self, handle: Handle, task: CompiledTask, runtime: Runtime) -> bool:
        """Read until the end; whether the outcome was kept."""
        if self._claim.adopted:
            values = [self._parts.secrets.get(name) for name in task.spec.environment.secrets]
            self._mask = Masker(value for value in values if value is not None)
        reader = runtime.reader(task)
        output = _Output(handle, reader, self._claim.offsets)
        stall = task.spec.stall_span or runtime.stall
        quiet_since = time.monotonic()
        stopped: Outcome | None = None
        asked = False
        while not self._left:
            ended = handle.exit()  # before reading: what was written before the end is then read below
            lines = output.take(last=ended is not None)
            if lines or output.moved:
                quiet_since = time.monotonic()
                for start in range(0, max(1, len(lines)), _MOST_LINES):
                    self._append(lines[start : start + _MOST_LINES], output.offsets, reader.meter)
            if ended is not None:
                self._finish(self._outcome(ended, reader, stopped), reader.meter, ended)
                return True
            if stopped is None and not self._cancelled:
                stopped = reader.stop() or _stalled(stall, time.monotonic() - quiet_since)
            if (stopped is not None or self._cancelled) and not asked:
                asked = True
                handle.stop()
            if output.moved:
                time.sleep(_GATHER)
            else:
                handle.wait(_patience(stall, quiet_since))
        return False

    def _outcome(self, ended: Exit, reader: Reader, stopped: Outcome | None) -> Outcome:
        if self._cancelled:
            return Outcome(ok=False, reason="cancelled")
        if stopped is not None:
            return stopped
        if ended.lost:
            return Outcome(ok=False, reason="lost", message="its supervisor was killed", again=True, infrastructure=True)
        if ended.stopped_by == "timeout":
            return Outcome(ok=False, reason="timeout", message="the time limit was reached")
        if ended.stopped_by is not None:
            # An earlier owner asked for the end and died before it could say why.
            again = Outcome(
                ok=False, reason="interrupted", message="it was stopped from outside", again=True, infrastructure=True
            )
            return reader.stop() or again
        return reader.outcome(Ended(code=ended.code, signal=ended.signal, phase=ended.phase, error=ended.error))

    def _finish(self, outcome: Outcome, meter: Meter, ended: Exit | None) -> None:
        run = self._parts.store.finish(
            self.run.id,
            self.run.fence,
            replace(
                outcome,
                text=None if outcome.text is None else self._masked(outcome.text),
                message=self._masked(outcome.message),
            ),
            meter,
            None if ended is None else ended.code,
            None if ended is None else ended.signal,
            lambda run, outcome, now: retry.decide(run, outcome, now=now, jitter=random.random()),  # noqa: S311
        )
        extra = {"event": "run_finished", "run_id": run.id, "task_id": run.task_id, "reason": run.reason}
        how = "is queued again" if run.state is RunState.QUEUED else run.state.value
        log.info("run %s %s (%s)", run.id, how, run.reason, extra=extra)
        self._parts.broker.tell(Topic.RUN, run.id)
        self._parts.broker.tell(Topic.QUEUE)

    def _masked(self, text: str) -> str:
        return self._mask(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


class _Output:
    """All streams of an attempt, from the first byte; lines that an earlier owner has kept are read again but not given."""

    def __init__(self, handle: Handle, reader: Reader, kept: Mapping[str, int]) -> None:
        self._handle, self._reader, self._kept = handle, reader, kept
        self._lines = {stream: Lines() for stream in STREAMS}
        self.moved = False

    @property
    def offsets(self) -> dict[str, int]:
        """How far whole lines were read."""
        return {stream: max(lines.done, self._kept.get(stream, 0)) for stream, lines in self._lines.items()}

    def take(self, *, last: bool) -> list[LogLine]:
        """What came since the last call; `last` also gives the line that has no newline. Bounded unless it is the last."""
        found: list[LogLine] = []
        self.moved = False
        now = datetime.now(UTC)
        for stream, lines in self._lines.items():
            while data := self._handle.read(stream, lines.read, _CHUNK):
                self.moved = True
                for line, end in lines.feed(data):
                    self._line(stream, line, end, now, found)
                if len(found) > _MOST_LINES and not last:
                    return found
            if last:
                for line, end in lines.rest():
                    self._line(stream, line, end, now, found)
        return found

    def _line(self, stream: str, line: bytes, end: int, now: datetime, found: list[LogLine]) -> None:
        said = self._reader.line(stream, line, now)
        if end > self._kept.get(stream, 0):
            found.extend(said)


def _stalled(limit: timedelta | None, quiet: float) -> Outcome | None:
    if limit is None or quiet < limit.total_seconds():
        return None
    return Outcome(ok=False, reason="stalled", message=f"no output for {int(quiet)} s")


def _patience(limit: timedelta | None, quiet_since: float) -> float:
    """How long to wait for output at most: until the stall limit, and never so long that a lost wake-up matters."""
    longest = 5.0
    if limit is None:
        return longest
    return max(0.01, min(longest, quiet_since + limit.total_seconds() - time.monotonic()))


Executions = Callable[[Claim], Execution]
