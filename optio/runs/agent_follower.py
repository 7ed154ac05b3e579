"""Following an agent: its output is read round by round into the log, until it has ended or something is to be decided.

A round polls the attempt's end, takes what came, and stores it. Here nobody decides what follows: `attempt_states` does.
"""

from collections.abc import Callable, Sequence

from optio.executors.base import Handle
from optio.model.credential import default_credential
from optio.model.isolation import NAMESPACE
from optio.model.registry import CompiledTask
from optio.runs import attempt_states as states
from optio.runs.attempt_log import AttemptLog
from optio.runs.attempt_record import AttemptRecord
from optio.runs.attempt_states import Event
from optio.runs.blame import ReadTrial, Turn, without_counts
from optio.runs.execution_context import ExecutionContext
from optio.runs.launching import SessionChoice
from optio.runs.reading import Reading
from optio.runs.runtime_guard import GuardedReader
from optio.runs.spending_limits import SpendingLimits
from optio.runtimes.base import Runtime
from optio.store.values import Claim
from optio.telemetry.base import Started

# The beginning of an agent is stored with its first output, or by itself if there is none for so many seconds.
_START_STORED_S = 0.1


class AgentFollower:
    """A started agent as its worker follows it. `finder` is the worker that has found an adopted one again, and
    `publish_claim` publishes the claim of a run whose agent has begun."""

    def __init__(
        self,
        handle: Handle,
        trial: ReadTrial,
        *,
        claim: Claim,
        task: CompiledTask,
        runtime: Runtime,
        session: SessionChoice,
        access_note: Sequence[str],
        limits: SpendingLimits,
        record: AttemptRecord,
        context: ExecutionContext,
        finder: str,
        publish_claim: Callable[[], None],
    ) -> None:
        self.handle, self.trial = handle, trial
        self._is_adopted, self._task = claim.adopted, task
        self._session, self._access_note, self._limits = session, access_note, limits
        self._record, self._context = record, context
        self._finder, self._publish_claim = finder, publish_claim
        self._is_started = False  # the agent's beginning was published
        self.reading = Reading(
            handle,
            GuardedReader(runtime, task),
            trial,
            Turn(context.suspects),
            offsets=without_counts(claim.offsets),
            stall=task.spec.stall_span or runtime.stall,
            is_adopted=claim.adopted,
        )
        self.log = AttemptLog(record, context.executor, task.spec.environment, self._opening, is_adopted=claim.adopted)

    def close(self, *, remove: bool) -> None:
        """Let go of the agent; with `remove`, delete what it left."""
        self.reading.turn.end()
        self.handle.close(remove=remove)

    def read(self, *, is_stopping: bool) -> Event:
        """Read the output until the attempt has ended, is to be stopped, or is left."""
        reading, record, signals = self.reading, self._record, self._record.signals
        while not signals.left.is_set():
            record.store_pod(self.handle.pod())
            self._note_start()
            if not reading.poll(signals.left.is_set):
                break
            self.log.store_count(reading)
            lines = reading.take()
            if not reading.output.caught_up:
                self._await_stored_output()
                continue
            if reading.is_over and reading.exit is not None:
                reading.last_lines = lines
                return states.AgentEnded(reading.exit, signals.is_cancelled)
            self.log.add(reading, lines, has_agent=self._is_started or self._is_adopted)
            reading.turn.end()
            event = None if reading.exit is not None else self._stop_event(is_stopping=is_stopping)
            if event is not None:
                return event
            self._wait_for_output()
        record.store_start(after_s=0.0)
        self.trial.withdraw()
        self.log.store_count(reading)
        return states.WorkerLeft()

    def await_end(self) -> Event:
        """Wait for the end of an agent whose output kills workers, without reading it."""
        while (end := self.handle.exit()) is None:
            if self._record.signals.left.is_set():
                return states.WorkerLeft()
            self.handle.wait(1.0)
        self.reading.exit = end
        return states.AgentEnded(end)

    def _note_start(self) -> None:
        """Publish the agent's beginning when it has begun, and store why it has not until then."""
        if self._is_started:
            return
        self._record.store_delay(self.handle.delay())
        arrival = self.handle.begun()
        if arrival is None:
            return
        self._is_started = True
        if not self._is_adopted:
            self._publish_claim()
            name, run = self._task.spec.agent_runtime, self._record.run
            self._context.telemetry.tell(Started(run, name, arrival.at - self._record.claimed_at, arrival.how))
        self._record.expect_start(arrival)
        self.reading.agent_began()
        self._wait_for_output()  # so soon there is none

    def _await_stored_output(self) -> None:
        """Wait for output that the previous owner has stored, and that is still on its way here."""
        self.log.store_count(self.reading)
        self.reading.turn.end()
        if not self.reading.output.has_data:
            self.handle.wait(1.0)

    def _stop_event(self, *, is_stopping: bool) -> Event | None:
        """Return why the agent must be asked to stop, unless it was already."""
        is_cancelled = self._record.is_cancel_requested()
        if is_stopping:
            return None
        if is_cancelled:
            return states.CancelRequested()
        outcome = self._limits.stop_reason(self.reading.reader) or self.reading.stall()
        return None if outcome is None else states.StopDue(outcome)

    def _wait_for_output(self) -> None:
        reading = self.reading
        self._record.store_start(after_s=_START_STORED_S)
        if not reading.output.has_data:
            patience = reading.silence.patience()
            self.handle.wait(patience if self._record.has_start else min(_START_STORED_S, patience))
        elif reading.output.drained and reading.exit is None:
            self._record.signals.left.wait(reading.silence.gather())

    def _opening(self) -> list[str]:
        """Return the first lines of the log: what confines the agent, and how it signs in, or who has found it again."""
        pod, task, executor = self.handle.pod(), self._task, self._context.executor
        place = [] if pod is None else [str(pod)]
        if self._is_adopted:
            return [f"found again by {self._finder}", *place]
        namespaces = () if task.namespace is None else (NAMESPACE,)
        texts = [*executor.notes(task.spec.environment), *executor.not_applied(namespaces), *self._session.note()]
        credential = default_credential(task, self._context.credentials)
        if credential is not None:
            texts.append(f"the agent signs in by {credential}, which the operator offers (OPTIO_CREDENTIALS)")
        return [*texts, *self._access_note, *place]
