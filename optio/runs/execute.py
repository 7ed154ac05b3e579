"""Execution of one attempt, from its claim to its outcome: launch or adopt the agent, follow its output, store log and outcome.

A worker can die at any line of this module; another worker then adopts the attempt and continues. Every write to the store
carries the run's fence, so a worker that lost its lease cannot change anything. Used by `processes.worker`.
"""

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from optio.broker.base import Broker, Topic
from optio.errors import LaunchFailed, LeaseLost, SecretUnavailable, StoreFull, StoreUnavailable
from optio.executors.base import Executor, Exit, Handle, Launch, LaunchArrival
from optio.model import retry
from optio.model.credential import default_credential
from optio.model.isolation import NAMESPACE, cure
from optio.model.mask import Masker
from optio.model.money import RunBudget, dollars, why_unpriced
from optio.model.registry import CompiledTask
from optio.model.result import with_instructions
from optio.model.room import SECRET_SOURCE, Delay
from optio.model.run import UNKNOWN_AGENT, AgentIdentity, AgentPod, Attempt, LogKind, LogLine, Outcome, Run, RunState
from optio.model.runtimes import declaration_of
from optio.model.session import REFUSED, UNFIT, Session, prompt_to_go_on, session_to_continue, used_directory, was_repaired
from optio.model.task import Environment
from optio.model.usage import CostSource, Meter
from optio.plugins import BrokenPlugin
from optio.runs.blame import MAX_START_PAUSE_S, ReadTrial, Turn, without_counts
from optio.runs.declared_result import judge_result
from optio.runs.output import kept
from optio.runs.reading import Reading
from optio.runs.runtime_guard import GuardedReader, invoke
from optio.runtimes.base import AttemptContext, OutputReader, ProcessEnd, Runtime, log_line
from optio.secrets.base import Secrets, run_secrets
from optio.store.base import ExecutionStore
from optio.store.values import AgentStart, Claim
from optio.telemetry.base import SILENT, Claimed, Finished, GivenBack, Started, Telemetry, log_context

T = TypeVar("T")
log = logging.getLogger(__name__)
MAX_MESSAGE = 500
# The beginning of an agent is stored with its first output, or by itself if there is none for so many seconds.
_BEGIN_NOTED_S = 0.1
_RETRY_PAUSE_S = 1.0
# A full disk may have room again soon: the log of an ended attempt waits so many seconds for it.
_FULL_PATIENCE_S = 5.0
# A delay with the same reason in other words, such as a scheduler's numbers, is logged again after so many seconds.
_REWORDED_S = 30.0
# The notes about an agent's confinement are logged after so many seconds, or before its first line.
_OPENING_S = 0.5
# Shared by all runs without secrets.
_NOTHING = Masker(())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """The collaborators and settings of an execution. `endpoints` maps a runtime to the model service that the operator set for
    it, and `credentials` are the operator's secrets for agents whose task names none. `suspects` is held by the one execution
    that reads the output of a suspect (see `runs.blame`)."""

    store: ExecutionStore
    broker: Broker
    executor: Executor
    runtimes: Mapping[str, Runtime]
    secrets: Secrets
    default_timeout: timedelta
    orphan_timeout: timedelta
    endpoints: Mapping[str, str]
    credentials: Sequence[str] = ()
    telemetry: Telemetry = SILENT
    suspects: threading.Lock = field(default_factory=threading.Lock)


class _WorkerLeft(Exception):
    """Raised when this worker stops, or loses its lease, while the execution waits for the store."""


class Execution:
    """One attempt at a run, executed on a thread of its own. All methods may be called from any thread."""

    def __init__(
        self,
        claim: Claim,
        parts: ExecutionContext,
        worker: str,
        freed: Callable[[], None] = lambda: None,
        *,
        leased_at: float | None = None,
        claimed: Claimed | None = None,
    ) -> None:
        """Take a claimed run. `freed` is called when the run's slot is free for another run. `leased_at` is the time of the
        claim by the executor's clock, now by default. `claimed` is published when the agent begins or the attempt ends: an
        attempt that finds no room does not count as a start."""
        self.run: Run = claim.run
        self._claim = claim
        self._cursor = claim.last_line
        self._parts = parts
        self._worker = worker
        self._freed = freed
        self._leased_at = parts.executor.clock() if leased_at is None else leased_at
        self.lost = False  # another worker has taken the run over
        self._handle: Handle | None = None
        self._handle_lock = threading.Lock()
        self._cancelled = claim.run.cancel_requested
        self._changed = False
        self._left = threading.Event()
        self._mask = _NOTHING
        self._runtime, self._model = "", ""
        self._budget = RunBudget()
        self._born = time.monotonic()
        self._began: LaunchArrival | None = None  # when and how the agent did, until that is kept
        self._told = False
        self._stays = False  # the remains of the attempt are kept
        self._session: Session | None = None  # that this worker let the attempt continue
        self._repair: retry.Repair | None = None
        self._new_session = ""  # why no session is continued
        self._kept_directory: int | None = None  # the attempt in whose directory a session is that the next one may continue
        self._noted_pod: tuple[AgentPod, Future[None]] | None = None
        self._claimed_fact = claimed
        self._delay: Delay | None = None  # the last one that was recorded, and when
        self._delay_said_at = 0.0
        self._full_since: float | None = None  # the disk has had no room for its log since then

    def cancel(self) -> None:
        """Stop the agent, because cancellation was requested."""
        self._cancelled = True
        self._wake()

    def look(self) -> None:
        """Check soon whether cancellation was requested. Called for a notification that may concern this run."""
        self._changed = True
        self._wake()

    def renewed(self, at: float) -> None:
        """Take note of a renewed lease and pass it on to the agent's supervisor. `at` is when the store was asked, by the
        executor's clock."""
        with self._handle_lock:
            self._leased_at = at
            if self._handle is not None:
                self._handle.renewed(at)

    def leave(self) -> None:
        """Let go without touching the agent, because the lease is lost, or because this worker stops and another takes over."""
        self._left.set()
        self._wake()

    def _wake(self) -> None:
        with self._handle_lock:
            if self._handle is not None:
                self._handle.wake()

    def __call__(self) -> None:
        """Run to the end of the attempt. Never raises."""
        with log_context(run_id=self.run.id, task_id=self.run.task_id, worker=self._worker):
            self._attempt()

    def _attempt(self) -> None:
        try:
            self._execute()
        except LeaseLost:
            self.lost = True
            log.warning("run %s has another owner now", self.run.id)
        except _WorkerLeft:
            log.info("run %s is left to another worker", self.run.id)
        except Exception as err:
            log.exception("run %s: the worker failed", self.run.id)
            try:
                self._after_failure(err)
            except (LeaseLost, _WorkerLeft):
                return
            except Exception:
                log.exception("run %s: its attempt could not be ended", self.run.id)

    def _after_failure(self, err: Exception) -> None:
        """End the attempt if its agent never began. Otherwise leave the agent running, to be adopted like the agent of a dead
        worker."""
        handle = self._durably(lambda: self._parts.executor.find(self.run.id, self.run.attempt))
        if handle is None:
            outcome = Outcome(ok=False, reason="worker_error", message=str(err), again=True, infrastructure=True)
            self._finish(outcome, self.run.meter, None)
            return
        handle.close(remove=False)
        self._left.wait(_RETRY_PAUSE_S)
        self._durably(lambda: self._parts.store.drop(self.run.lease))
        self._parts.broker.tell(Topic.QUEUE)

    def _durably(self, change: Callable[[], T]) -> T:
        """Apply a change to the store, and repeat it while the store is unavailable; the agent continues meanwhile. Raises
        _WorkerLeft."""
        pause = 0.1
        while True:
            try:
                return change()
            except StoreUnavailable as err:
                log.warning("run %s waits for the store: %s", self.run.id, err)
            if self._left.wait(pause):
                raise _WorkerLeft
            pause = min(2 * pause, 2.0)

    def _execute(self) -> None:
        store = self._parts.store
        task = self._durably(lambda: store.definition(self.run.digest))
        self._runtime, self._model = task.spec.agent_runtime, task.spec.model or ""
        self._budget = RunBudget.of(task.spec, self._claim.spent)
        try:
            runtime = self._parts.runtimes[self._runtime]
        except (KeyError, BrokenPlugin) as err:
            known = ", ".join(self._parts.runtimes)
            message = f"the runtime `{self._runtime}` is not installed where this worker runs: use one of {known}"
            message = str(err) if isinstance(err, BrokenPlugin) else message
            self._finish(Outcome(ok=False, reason="runtime_unavailable", message=message), Meter(), None)
            return
        if self._changed:
            self._look_for_cancel()
        handle = self._adopt() if self._claim.adopted else self._start(task, runtime)
        if handle is None:
            return
        finished = False
        with self._handle_lock:
            self._handle = handle
            if self._claim.adopted:
                handle.renewed(self._leased_at)
        try:
            finished = self._follow(handle, task, runtime)
        finally:
            with self._handle_lock:
                self._handle = None
            handle.close(remove=finished and not self._stays and self._kept_directory != self.run.attempt)

    def _look_for_cancel(self) -> None:
        self._changed = False
        self._cancelled |= self._durably(lambda: self._parts.store.cancel_requested(self.run.lease))

    def _adopt(self) -> Handle | None:
        handle = self._durably(lambda: self._parts.executor.find(self.run.id, self.run.attempt))
        if handle is None:
            message = "its worker died before the agent began"
            self._fail(Outcome(ok=False, reason="lost", message=message, again=True, infrastructure=True))
        return handle

    def _start(self, task: CompiledTask, runtime: Runtime) -> Handle | None:
        if self._cancelled:
            self._finish(Outcome(ok=False, reason="cancelled"), Meter(), None)
            return None
        budget = self._budget
        if budget.limit is not None and budget.is_spent:
            # A retry decided by an older version, in which the budget belonged to an attempt.
            message = f"not begun: {dollars(budget.spent, exact=True)} of the run's budget of {dollars(budget.limit)} is spent"
            self._finish(Outcome(ok=False, reason="budget", message=message), Meter(), None)
            return None
        unpriced = why_unpriced(task.spec)
        if unpriced is not None:
            self._finish(Outcome(ok=False, reason="unpriced", message=": ".join(unpriced)), Meter(), None)
            return None
        # The policy's demands hold for every worker that executes the task.
        lacking = self._parts.executor.not_applied(task.isolation)
        if lacking:
            names = [name for name in task.isolation if self._parts.executor.not_applied([name])]
            message = f"not isolated as the policy demands: {'; '.join(lacking)}: start workers with {cure(names)}"
            self._finish(Outcome(ok=False, reason="not_isolated", message=message), Meter(), None)
            return None
        try:
            launch = self._launch(task, runtime, self._session_to_continue(runtime))
            if self._session is not None:
                continued = self._session.last
                self._durably(lambda: self._parts.store.note_continued(self.run.lease, continued))
            handle = self._parts.executor.start(launch)
        except SecretUnavailable as err:
            self._give_back(Delay(reason=SECRET_SOURCE, message=str(err)))
            return None
        except LaunchFailed as err:
            if err.temporary:
                self._give_back(Delay(reason=err.reason, message=str(err)))
            else:
                self._finish(Outcome(ok=False, reason=err.reason, message=str(err)), self.run.meter, None)
            return None
        return handle

    def _session_to_continue(self, runtime: Runtime) -> Session | None:
        """Return the agent's session in which this attempt goes on, if it can. A retry by hand begins anew: it finds no files.
        Raises LaunchFailed."""
        run, declared = self.run, runtime.declaration
        if not declared.capabilities.resume or declared.program is None or run.attempt == 1:
            return None
        attempts = self._durably(lambda: self._parts.store.attempts(run.id))
        found = session_to_continue([each for each in attempts if each.number < run.attempt])
        if found is not None and (found.reason in UNFIT or run.retries + run.infrastructure_retries):
            executor = self._parts.executor
            if executor.can_continue(run.id, found.first, executor.program(declared.name)):
                self._session = found
            else:
                self._new_session = f"begins anew: the session of attempt {found.last} cannot be continued here"
        return self._session

    def _has_just_begun(self, handle: Handle) -> bool:
        begun = None if self._told else handle.begun()
        if begun is None:
            return False
        self._told = True
        self._began = begun
        if not self._claim.adopted:
            self._tell_of_the_claim()
            self._parts.telemetry.tell(Started(self.run, self._runtime, begun.at - self._born, begun.how))
        self._parts.broker.tell(Topic.RUN, self.run.id)
        return True

    def _tell_of_the_claim(self) -> None:
        fact, self._claimed_fact = self._claimed_fact, None
        if fact is not None:
            self._parts.telemetry.tell(fact)

    def _explain(self, handle: Handle) -> None:
        """Record why the agent has not begun yet, with one commit for each reason."""
        delay = None if self._told else handle.delay()
        if delay is None or delay == self._delay:
            return
        now, known = time.monotonic(), None if self._delay is None else self._delay.reason
        if delay.reason == known and now - self._delay_said_at < _REWORDED_S:
            return
        self._delay, self._delay_said_at = delay, now
        why = self._fit_delay(delay)
        # Logged already, by the attempt that was given back for this reason.
        again = delay.reason in (known, self._claim.deferred)
        lines = [] if again else [log_line(LogKind.SYSTEM, f"not begun yet: {why.message}", datetime.now(UTC))]
        run, store = self.run, self._parts.store
        self._cursor = self._durably(lambda: store.explain(run.lease, why, lines))
        self._parts.broker.tell(Topic.RUN, run.id)

    def _launch(self, task: CompiledTask, runtime: Runtime, session: Session | None) -> Launch:
        run, spec = self.run, task.spec
        values: dict[str, str] = {}
        for name in run_secrets(task, self._parts.credentials):
            value = self._parts.secrets.get(name)
            if value is None:
                raise LaunchFailed("secret_missing", f"the secret `{name}` has no value: {self._parts.secrets.where(name)}")
            values[name] = value
        self._mask = self._masker(spec.environment, values.values())
        agent = runtime.declaration
        short = next((name for name, value in values.items() if len(value) < agent.shortest_secret), None)
        if short is not None:
            why = f"{agent.title} masks it in all that it prints: set one of {agent.shortest_secret} characters or more"
            raise LaunchFailed("config", f"the value of the secret `{short}` is too short: {why}")
        context = AttemptContext(
            program="" if agent.program is None else self._parts.executor.program(agent.name),
            endpoint=self._parts.endpoints.get(agent.name),
            spent=self._claim.spent,
            session=None if session is None else session.id,
        )
        prompt = with_instructions(self._claim.prompt, spec) if session is None else prompt_to_go_on(session)
        call = invoke(runtime, task, prompt, run.params, context)
        timeout = spec.timeout_span or self._parts.default_timeout
        deadline = datetime.now(UTC) + timeout
        return Launch(
            run_id=run.id,
            attempt=run.attempt,
            argv=call.argv,
            stdin=call.stdin,
            env={
                **call.env,
                **self._parts.telemetry.environment(run),
                **spec.environment.env,
                **values,
                "OPTIO_RUN_ID": run.id,
                "OPTIO_TASK_ID": run.task_id,
                "OPTIO_ATTEMPT": str(run.attempt),
                "OPTIO_DEADLINE": str(int(deadline.timestamp())),
            },
            files=call.files,
            file_env=call.file_env,
            file_options=call.file_options,
            side=runtime.side,
            telemetry=call.telemetry,
            # Whatever set-up commands made is in the working directory of the session already.
            setup=(*(spec.environment.setup_commands if session is None else ()), *call.setup),
            setup_env=spec.environment.env if spec.environment.setup_ahead else None,
            environment=spec.environment,
            runtime_program=agent.program is not None,
            warm=spec.warm_pool_size > 0,
            continues=None if session is None else session.first,
            timeout_s=timeout.total_seconds(),
            orphan_s=self._parts.orphan_timeout.total_seconds(),
            leased_at=self._leased_at,
        )

    def _masker(self, environment: Environment, secrets: Iterable[str]) -> Masker:
        values = [*secrets, *self._parts.executor.private(environment)]
        return Masker(values) if values else _NOTHING

    def _keep(self, lines: list[LogLine], offsets: Mapping[str, int], meter: Meter) -> None:
        masked = [kept(line, self._mask) for line in lines]
        run, after = self.run, self._cursor

        def append(lines: list[LogLine]) -> int:
            store, began = self._parts.store, self._since_began()
            return store.append_log(run.lease, lines, offsets, meter, after=after, began=began)

        def change() -> int:
            try:
                return append(masked)
            except StoreFull:
                if not masked or not self._blocks_its_own_end():
                    raise
            log.warning("run %s: %d lines of its log are not kept: the disk is full", run.id, len(masked))
            return append([])

        self._cursor = self._durably(change)
        if self._began is not None:
            self._began = None
            self._let_others_try()
        if lines:
            self._parts.broker.tell(Topic.RUN, run.id)

    def _blocks_its_own_end(self) -> bool:
        """Return whether the disk has been full for a while and the attempt, whose files may fill it, waits only for its log to
        be stored."""
        now = time.monotonic()
        self._full_since = self._full_since or now
        return now - self._full_since > _FULL_PATIENCE_S and self._handle is not None and self._handle.exit() is not None

    def _since_began(self) -> AgentStart | None:
        begun = self._began
        return (
            None
            if begun is None
            else AgentStart(timedelta(seconds=time.monotonic() - begun.at), begun.how, tried=self._claim.tries)
        )

    def _note_began(self, after: float) -> None:
        """Record the beginning of the agent, unless it was recorded with its output within `after` seconds."""
        began = self._since_began() if self._began is not None and time.monotonic() - self._began.at >= after else None
        if began is not None:
            try:
                noted = self._parts.store.agent_started(self.run.lease, began)
            except StoreUnavailable:
                return  # stored with the next lines, or when the store is back
            self._began = None
            noted.add_done_callback(lambda _: self._let_others_try())

    def _let_others_try(self) -> None:
        """Notify workers that there may be room, because this attempt, which was to try that, found room."""
        if self._claim.tries:
            self._parts.broker.tell(Topic.QUEUE)

    def _note_pod(self, handle: Handle) -> None:
        """Record what is known of the attempt's pod at once, and again if the store was unavailable."""
        pod, noted = handle.pod(), self._noted_pod
        if pod is None or (noted is not None and noted[0] == pod and not (noted[1].done() and noted[1].exception())):
            return
        self._noted_pod = pod, self._parts.store.note_pod(self.run.lease, pod)
        self._noted_pod[1].add_done_callback(lambda _: self._parts.broker.tell(Topic.RUN, self.run.id))

    def _follow(self, handle: Handle, task: CompiledTask, runtime: Runtime) -> bool:
        """Read the output until the attempt ends. Return whether its outcome was stored."""
        trial = ReadTrial(self._claim.offsets, adopted=self._claim.adopted)
        if trial.is_to_blame:
            return self._give_up(handle, trial.count)
        turn = Turn(self._parts.suspects)
        reading = Reading(
            handle,
            GuardedReader(runtime, task, self._budget),
            trial,
            turn,
            offsets=without_counts(self._claim.offsets),
            meter=self.run.meter,
            stall=task.spec.stall_span or runtime.stall,
            adopted=self._claim.adopted,
        )
        if self._claim.adopted:
            self._mask = self._masker(
                task.spec.environment, self._known_secrets(handle, run_secrets(task, self._parts.credentials))
            )
        if trial.is_suspect:
            log.warning("run %s: the last worker died while it read its output (%d in a row)", self.run.id, trial.count)
            self._left.wait(random.uniform(0.0, MAX_START_PAUSE_S))  # noqa: S311
        try:
            return self._read(reading, task)
        finally:
            turn.end()

    def _known_secrets(self, handle: Handle, names: Sequence[str]) -> list[str]:
        """Return the values of the agent's secrets. While they cannot be read, no line of its output can be masked, so none is
        stored; a cancelled agent is stopped all the same. Raises _WorkerLeft."""
        problem = ""
        while True:
            try:
                values = [self._parts.secrets.get(name) for name in names]
                return [value for value in values if value is not None]
            except SecretUnavailable as err:
                if str(err) != problem:
                    problem = str(err)
                    log.warning("run %s: its output waits: %s", self.run.id, problem)
            if self._changed:
                self._look_for_cancel()
            if self._cancelled:
                handle.stop()
            if self._left.wait(_RETRY_PAUSE_S):
                raise _WorkerLeft

    def _read(self, reading: Reading, task: CompiledTask) -> bool:
        while not self._left.is_set():
            self._note_pod(reading.handle)
            self._explain(reading.handle)
            if self._has_just_begun(reading.handle):
                reading.agent_began()
                self._wait_for_output(reading)  # so soon there is none
            if not reading.poll(self._left.is_set):
                break
            self._store_count(reading)
            lines = reading.take()
            if not reading.output.caught_up:
                self._store_count(reading)
                reading.turn.end()
                if not reading.output.moved:
                    reading.handle.wait(1.0)  # output that the previous owner has stored is still on its way
                continue
            if reading.is_over and reading.ended is not None:
                self._conclude(reading, reading.ended, lines, task)
                return True
            self._log(reading, lines, task)
            reading.turn.end()
            self._stop_if_due(reading)
            self._wait_for_output(reading)
        self._note_began(after=0.0)
        reading.trial.withdraw()
        self._store_count(reading)
        return False

    def _conclude(self, reading: Reading, ended: Exit, lines: list[LogLine], task: CompiledTask) -> None:
        """Keep the end of an attempt: its last lines and its outcome, or its place in the queue where it found no room."""
        reader = reading.reader
        if ended.no_room is not None and reading.stopped is None and not self._cancelled:
            self._give_back(ended.no_room)
            return
        lines += reading.output.rest(ended.sizes)
        # The outcome comes last: it says so if the reader has failed at one of these.
        meter, longest, text = reader.meter, reader.longest, reader.text
        agent = self._identity(reader, reading.handle)
        outcome = self._outcome(ended, reader, reading.stopped)
        outcome = judge_result(task, outcome, reader.file.report, meter, self._mask.text)
        outcome = self._without_session(outcome, meter)
        if outcome.text is None:
            outcome = replace(outcome, text=text or None)
        self._repair = self._repair_of(outcome, meter, agent)
        lines += self._reason_of(outcome)
        lines += self._let_stay(task.spec.environment, outcome, meter, ended)
        self._log(reading, lines, task, outcome)
        self._finish(outcome, meter, ended, longest=longest, agent=agent)

    def _repair_of(self, outcome: Outcome, meter: Meter, agent: AgentIdentity) -> retry.Repair | None:
        """Return whether the agent can be told in its session what is wrong with its result, or was told already."""
        declared = declaration_of(self._runtime)
        if outcome.reason not in UNFIT or declared is None or not declared.capabilities.resume:
            return None
        *before, mine = self._durably(lambda: self._parts.store.attempts(self.run.id))
        if was_repaired([*before, mine]):
            return "made"
        ended = replace(mine, ended_at=datetime.now(UTC), reason=outcome.reason, meter=meter, agent=agent)
        session = session_to_continue([*before, ended])
        return "possible" if session is not None and self._parts.executor.can_continue(self.run.id, session.first) else None

    def _without_session(self, outcome: Outcome, meter: Meter) -> Outcome:
        """Return the outcome, or that the agent could not continue its session: the next attempt begins anew, and that is no
        retry of the task's."""
        refused = outcome.reason in ("config", "no_result", "bad_request")
        if outcome.ok or not refused or meter.usage.total or meter.tool_calls:
            return outcome
        mine = self._kept_attempt() if self.run.attempt > 1 else None
        if mine is None or mine.continues is None:
            return outcome
        message = f"the session of attempt {mine.continues} could not be continued: {outcome.message}"
        return Outcome(ok=False, reason=REFUSED, message=message, again=True, infrastructure=True)

    def _log(self, reading: Reading, lines: list[LogLine], task: CompiledTask, outcome: Outcome | None = None) -> None:
        """Keep what came, with the log's first lines before it and the executor's explanation of a refusal behind it."""
        # A short run that says nothing and does well needs no log: a commit for it alone would double its cost.
        if not reading.is_open and (lines or self._is_silent(reading) or (outcome is not None and not outcome.ok)):
            reading.is_open = True
            lines = [*self._opening(task, reading.handle), *lines]
        if not reading.is_hinted and (hint := self._refusal_hint(lines, task.spec.environment)):
            reading.is_hinted = True
            lines.append(log_line(LogKind.SYSTEM, hint, datetime.now(UTC)))
        meter = reading.reader.meter
        if lines or reading.trial.is_changed or (meter != reading.kept and outcome is None):
            reading.kept = meter
            self._keep(lines, {**reading.output.offsets, **reading.trial.entry()}, meter)

    def _is_silent(self, reading: Reading) -> bool:
        return reading.silence.age > _OPENING_S and (self._told or self._claim.adopted)

    def _stop_if_due(self, reading: Reading) -> None:
        """Ask the agent to stop, once, where a limit is met or somebody asked for the run's end."""
        if reading.ended is not None:
            return
        if self._changed:
            self._look_for_cancel()
        if reading.stopped is None and not self._cancelled:
            reading.stopped = reading.reader.stop() or reading.stalled()
        if (reading.stopped is not None or self._cancelled) and not reading.is_stop_asked:
            reading.is_stop_asked = True
            reading.handle.stop()

    def _wait_for_output(self, reading: Reading) -> None:
        self._note_began(after=_BEGIN_NOTED_S)
        if not reading.output.moved:
            patience = reading.silence.patience()
            reading.handle.wait(patience if self._began is None else min(_BEGIN_NOTED_S, patience))
        elif reading.output.drained and reading.ended is None:
            self._left.wait(reading.silence.gather())

    def _opening(self, task: CompiledTask, handle: Handle) -> list[LogLine]:
        adopted = [f"found again by {self._worker}"] if self._claim.adopted else None
        executor = self._parts.executor
        namespace = () if task.namespace is None else (NAMESPACE,)
        texts = adopted or [*executor.notes(task.spec.environment), *executor.not_applied(namespace), *self._session_notes()]
        pod, default = handle.pod(), default_credential(task, self._parts.credentials)
        if default is not None and not adopted:
            texts.append(f"the agent signs in by {default}, which the operator offers (OPTIO_CREDENTIALS)")
        return [log_line(LogKind.SYSTEM, text, datetime.now(UTC)) for text in (*texts, *([] if pod is None else [str(pod)]))]

    def _session_notes(self) -> list[str]:
        session = self._session
        if session is None:
            return [self._new_session] if self._new_session else []
        calls = "1 tool call" if session.tool_calls == 1 else f"{session.tool_calls} tool calls"
        why = ", to mend its result" if session.reason in UNFIT else ""
        return [f"continues the session of attempt {session.last}, which had made {calls}{why}"]

    def _let_stay(self, environment: Environment, outcome: Outcome, meter: Meter, ended: Exit) -> list[LogLine]:
        """Keep what the last attempt of a failed run left, if the task has `keepFailed`; return lines for the log that say
        so."""
        span, now = environment.keep_failed_span, datetime.now(UTC)
        if span is None or outcome.ok or self._cancelled:
            return []
        if isinstance(self._decide(self.run, outcome, now, meter, ended, jitter=0.0), retry.RetryAt):
            return []
        stay = self._parts.executor.keep(self.run.id, self.run.attempt, span.total_seconds())
        self._stays = stay is not None and stay.is_kept
        return [] if stay is None else [log_line(LogKind.SYSTEM, stay.told, now)]

    def _refusal_hint(self, lines: list[LogLine], environment: Environment) -> str | None:
        hint = self._parts.executor.refusal_hint
        printed = (line.data for line in lines if line.kind is not LogKind.SYSTEM)
        return next((said for data in printed if (said := hint(data, environment))), None)

    def _store_count(self, reading: Reading) -> None:
        if reading.trial.is_changed:
            self._keep([], {**reading.output.offsets, **reading.trial.entry()}, reading.kept)

    def _give_up(self, handle: Handle, crashes: int) -> bool:
        """End a run whose output kills workers, without reading the rest of it."""
        handle.stop()
        while (ended := handle.exit()) is None:
            if self._left.is_set():
                return False
            handle.wait(1.0)
        message = f"{crashes} workers in a row died while they read its output"
        self._finish(Outcome(ok=False, reason="worker_crash", message=message), self.run.meter, ended)
        return True

    def _outcome(self, ended: Exit, reader: OutputReader, stopped: Outcome | None) -> Outcome:
        if self._cancelled:
            return Outcome(ok=False, reason="cancelled")
        if stopped is not None:
            return stopped
        if ended.lost and ended.by_agent:
            message = "its supervisor was killed while the agent ran"
            return Outcome(ok=False, reason="supervisor_killed", message=message, again=True)
        if ended.lost:
            return Outcome(ok=False, reason="lost", message="its supervisor was killed", again=True, infrastructure=True)
        if ended.reason is not None:
            again = ended.temporary
            return Outcome(ok=False, reason=ended.reason, message=ended.message, again=again, infrastructure=again)
        if ended.stopped_by == "timeout":
            return Outcome(ok=False, reason="timeout", message="the time limit was reached")
        if ended.stopped_by == "disk_quota":
            return Outcome(ok=False, reason="disk", message="it wrote more than OPTIO_ATTEMPT_DISK allows")
        if ended.stopped_by == "disk_files":
            return Outcome(ok=False, reason="disk", message="it made more files than OPTIO_ATTEMPT_FILES allows")
        if ended.stopped_by == "processes":
            message = "it had more processes and threads at once than OPTIO_ATTEMPT_PROCESSES allows"
            return Outcome(ok=False, reason="processes", message=message)
        if ended.stopped_by == "disk_full":
            return Outcome(ok=False, reason="disk", message="the disk was nearly full, and its own files filled it", again=True)
        if ended.stopped_by == "orphaned":
            message = "no worker of its machine reached the store for too long"
            return Outcome(ok=False, reason="orphaned", message=message, again=True, infrastructure=True)
        if ended.stopped_by is not None:
            # A previous owner requested the stop and died before it recorded why.
            interrupted = Outcome(
                ok=False, reason="interrupted", message="it was stopped from outside", again=True, infrastructure=True
            )
            return reader.stop() or interrupted
        return reader.outcome(ProcessEnd(code=ended.code, signal=ended.signal, phase=ended.phase, error=ended.error))

    def _give_back(self, delay: Delay) -> None:
        """Return the run to the queue because its agent cannot start for now, so that another run can use the slot."""
        why, until = self._fit_delay(delay), delay.until
        words = "" if self._delay is not None else f"not begun: {why.message}; "
        line = log_line(LogKind.SYSTEM, f"{words}the run waits in the queue until {until}", datetime.now(UTC))
        run = self._durably(lambda: self._kept(lambda: self._parts.store.give_back(self.run.lease, why, [line])))
        if run.state is not RunState.QUEUED:
            self._tell_of_the_end(run, run.reason, Meter())
            return
        log.info("run %s waits until %s (%s)", run.id, until, why.reason, extra={"event": "run_given_back", "run_id": run.id})
        self._freed()
        self._parts.broker.tell(Topic.RUN, run.id)
        self._parts.telemetry.tell(GivenBack(run, why.reason))

    def _fit_delay(self, delay: Delay) -> Delay:
        return replace(delay, message=self._mask.text(delay.message)[:MAX_MESSAGE])

    def _reason_of(self, outcome: Outcome) -> list[LogLine]:
        """Return a log line that says why the infrastructure failed an attempt. The agent has not logged it, and the run may be
        retried."""
        if not outcome.infrastructure:
            return []
        words = f"attempt {self.run.attempt} failed ({outcome.reason})"
        return [log_line(LogKind.SYSTEM, f"{words}: {outcome.message}" if outcome.message else words, datetime.now(UTC))]

    def _fail(self, outcome: Outcome) -> None:
        """End an attempt that has no agent."""
        lines = self._reason_of(outcome)
        if lines:
            self._keep(lines, self._claim.offsets, self.run.meter)
        self._finish(outcome, self.run.meter, None)

    def _identity(self, reader: GuardedReader, handle: Handle) -> AgentIdentity:
        """Return what the agent told of itself, masked like all that it prints, with machine and program of a process. A pod
        names its node and its image."""
        told = reader.identity
        version, session, model = (name and self._mask.text(name) for name in (told.version, told.session, told.model))
        machine = socket.gethostname() if handle.pod() is None else None
        facts = self._parts.executor.program_facts(self._runtime)
        version = version or facts.version
        return AgentIdentity(version=version, session=session, model=model, machine=machine, program=facts.identity)

    def _finish(
        self,
        outcome: Outcome,
        meter: Meter,
        ended: Exit | None,
        *,
        longest: int = 0,
        agent: AgentIdentity = UNKNOWN_AGENT,
    ) -> None:
        outcome = self._fit(outcome, longest)
        run = self._durably(lambda: self._end(outcome, meter, ended, agent))
        left = self._leave_session(run)
        self._tell_of_the_end(run, outcome.reason, meter)
        if left is not None:
            self._parts.executor.remove(run.id, left)

    def _leave_session(self, run: Run) -> int | None:
        """Decide whose directory the next attempt of the run may need, and return the one that nobody needs any more."""
        agent = declaration_of(self._runtime)
        can_go_on = run.state is RunState.QUEUED and agent is not None and agent.capabilities.resume
        if run.attempt == 1 and not can_go_on:
            return None
        attempts = self._durably(lambda: self._parts.store.attempts(run.id))
        before, after = used_directory(self.run, attempts), used_directory(run, attempts) if can_go_on else None
        if after is not None and self._parts.executor.can_continue(run.id, after):
            self._kept_directory = after
        return None if before == self._kept_directory else before

    def _tell_of_the_end(self, run: Run, reason: str, meter: Meter) -> None:
        extra = {"event": "run_finished", "run_id": run.id, "task_id": run.task_id, "reason": run.reason}
        how = "is queued again" if run.state is RunState.QUEUED else run.state.value
        log.info("run %s %s (%s)", run.id, how, run.reason, extra=extra)
        self._freed()
        self._parts.broker.tell(Topic.RUN, run.id)
        self._tell_of_the_claim()
        self._parts.telemetry.tell(Finished(run, self.run, self._runtime, self._model, reason, meter, self._kept_attempt))

    def _end(self, outcome: Outcome, meter: Meter, ended: Exit | None, agent: AgentIdentity) -> Run:
        mine = self.run
        return self._kept(
            lambda: self._parts.store.finish(
                mine.lease,
                outcome,
                meter,
                None if ended is None else ended.code,
                None if ended is None else ended.signal,
                lambda run, outcome, now: self._decide(run, outcome, now, meter, ended, jitter=random.random()),  # noqa: S311
                began=self._since_began(),
                agent=agent,
            )
        )

    def _decide(
        self, run: Run, outcome: Outcome, now: datetime, meter: Meter, ended: Exit | None, *, jitter: float
    ) -> retry.RetryAt | retry.GiveUp:
        had_agent = ended is not None and ended.phase != "setup" and ended.error is None
        # The agent has made up the price of a model that it does not know.
        cost = None if meter.cost_source is CostSource.ESTIMATE else meter.cost
        budget = self._budget.after(cost, had_agent=had_agent)
        return retry.decide_retry(run, outcome, now=now, jitter=jitter, budget=budget, repair=self._repair)

    def _kept(self, end: Callable[[], Run]) -> Run:
        try:
            return end()
        except LeaseLost:
            # Ended by this worker, if the store became unavailable after storing the end and before confirming it.
            kept = self._parts.store.run(self.run.id)
            if kept.fence == self.run.fence and kept.state is not RunState.RUNNING:
                return kept
            raise

    def _kept_attempt(self) -> Attempt | None:
        attempts = self._parts.store.attempts(self.run.id)
        return next((each for each in attempts if each.number == self.run.attempt), None)

    def _fit(self, outcome: Outcome, longest: int) -> Outcome:
        """Mask the outcome's text, then cut it: in the other order, half of a secret could remain."""
        text = outcome.text
        if text is not None:
            text = self._mask.text(text).encode()[-longest:].decode("utf-8", "ignore")
        return replace(
            outcome,
            reason=self._mask.text(outcome.reason),
            message=self._mask.text(outcome.message)[:MAX_MESSAGE],
            text=text,
            output=self._mask.json(outcome.output),
        )
