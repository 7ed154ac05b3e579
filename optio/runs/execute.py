"""Execution of one attempt, from its claim to its outcome: launch or adopt the agent, follow its output, store log and outcome.

`attempt_states` says what follows what; this module performs it. A worker can die at any line here; another worker then adopts
the attempt and continues. Every write to the store carries the run's fence, so a worker that lost its lease cannot change
anything. Used by `processes.worker`.
"""

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from optio.broker.base import Topic
from optio.errors import LaunchFailed, LeaseLost, SecretUnavailable
from optio.executors.base import Handle
from optio.model.money import RunBudget
from optio.model.registry import CompiledTask
from optio.model.room import SECRET_SOURCE, Delay
from optio.model.run import Outcome, Run
from optio.plugins import BrokenPlugin
from optio.runs import attempt_states as states
from optio.runs.agent_follower import AgentFollower
from optio.runs.attempt_record import AttemptRecord, AttemptSignals, WorkerLeaves
from optio.runs.attempt_states import AttemptEffect, AttemptState, Event, Phase, first_step, transition
from optio.runs.blame import MAX_START_PAUSE_S, ReadTrial
from optio.runs.conclusion import Conclusion
from optio.runs.execution_context import ExecutionContext
from optio.runs.gateway_access import check_connections, direct_note, find_access
from optio.runs.launching import (
    SessionChoice,
    build_launch,
    check_lengths,
    choose_session,
    find_refusal,
    may_continue,
    read_secrets,
)
from optio.runtimes.base import Runtime
from optio.secrets.base import run_secrets
from optio.store.values import Claim
from optio.telemetry.base import Claimed, log_context

log = logging.getLogger(__name__)
_RETRY_PAUSE_S = 1.0


class Execution:
    """One attempt at a run, executed on a thread of its own. All public methods may be called from any thread."""

    def __init__(
        self,
        claim: Claim,
        context: ExecutionContext,
        worker: str,
        free_slot: Callable[[], None] = lambda: None,
        *,
        leased_at: float | None = None,
        claimed: Claimed | None = None,
    ) -> None:
        """Take a claimed run. `free_slot` is called when the run's slot is free for another run. `leased_at` is the time of the
        claim by the executor's clock, now by default. `claimed` is published when the agent begins or the attempt ends: an
        attempt that finds no room does not count as a start."""
        self.run: Run = claim.run
        self.is_lost = False  # another worker has taken the run over
        self._claim, self._context, self._worker = claim, context, worker
        self._leased_at = context.executor.clock() if leased_at is None else leased_at
        self._claim_fact = claimed
        self._signals = AttemptSignals(is_cancelled=claim.run.cancel_requested)
        self._handle: Handle | None = None
        self._handle_lock = threading.Lock()
        self._record = AttemptRecord(claim, context.store, context.broker, self._signals, self._has_ended)
        self._conclusion = Conclusion(self._record, context, free_slot, self._publish_claim)
        self._session = SessionChoice()
        self._access_note: list[str] = []
        # Known from the first effects on.
        self._task: CompiledTask
        self._runtime: Runtime
        self._follower: AgentFollower
        self._perform_effect: Mapping[AttemptEffect, Callable[[AttemptState], Event | None]] = {
            AttemptEffect.CHECK: self._check,
            AttemptEffect.LAUNCH: self._launch,
            AttemptEffect.FIND: self._find,
            AttemptEffect.READ: lambda state: self._follower.read(is_stopping=state.phase is Phase.STOPPING),
            AttemptEffect.STOP: lambda _: self._follower.handle.stop(),
            AttemptEffect.AWAIT: lambda _: self._follower.await_end(),
            AttemptEffect.EXPLAIN: self._explain,
            AttemptEffect.END: self._end,
            AttemptEffect.GIVE_BACK: self._give_back,
            AttemptEffect.RELEASE: lambda _: self._close(remove=False),
            AttemptEffect.REMOVE: lambda _: self._close(remove=not self._conclusion.needs_files),
            AttemptEffect.DROP: self._drop,
        }

    def cancel(self) -> None:
        """Stop the agent, because cancellation was requested."""
        self._signals.is_cancelled = True
        self._wake()

    def recheck(self) -> None:
        """Check soon whether cancellation was requested. Called for a notification that may concern this run."""
        self._signals.must_recheck = True
        self._wake()

    def lease_renewed(self, at: float) -> None:
        """Take note of a renewed lease and pass it on to the agent's supervisor. `at` is when the store was asked, by the
        executor's clock."""
        with self._handle_lock:
            self._leased_at = at
            if self._handle is not None:
                self._handle.renewed(at)

    def leave(self) -> None:
        """Let go without touching the agent, because the lease is lost, or because this worker stops and another takes over."""
        self._signals.left.set()
        self._wake()

    def _wake(self) -> None:
        with self._handle_lock:
            if self._handle is not None:
                self._handle.wake()

    def __call__(self) -> None:
        """Run to the end of the attempt. Never raises."""
        with log_context(run_id=self.run.id, task_id=self.run.task_id, worker=self._worker):
            state, effects = first_step(is_adopted=self._claim.adopted, is_cancelled=self._signals.is_cancelled)
            while effects:
                state, effects = transition(state, self._perform(state, effects))

    def _perform(self, state: AttemptState, effects: Sequence[AttemptEffect]) -> Event:
        """Perform the effects and return the event of the last one, or of the one that was broken off."""
        event: Event | None = None
        try:
            for effect in effects:
                event = self._perform_effect[effect](state)
        except LeaseLost:
            self.is_lost = True
            log.warning("run %s has another owner now", self.run.id)
            return states.LeaseGone()
        except WorkerLeaves:
            log.info("run %s is left to another worker", self.run.id)
            return states.WorkerLeft()
        except Exception as err:
            log.exception("run %s: the worker failed in the phase %s", self.run.id, state.phase)
            return states.WorkerFailed(str(err))
        return states.Performed() if event is None else event

    def _check(self, state: AttemptState) -> Event:
        context = self._context
        self._task = task = self._record.durably(lambda: context.store.definition(self.run.digest))
        self._conclusion.task, self._conclusion.budget = task, RunBudget.of(task.spec, self._claim.spent)
        name = task.spec.agent_runtime
        try:
            self._runtime = context.runtimes[name]
        except BrokenPlugin as err:
            return states.Checked(Outcome(ok=False, reason="runtime_unavailable", message=str(err)))
        except KeyError:
            message = f"the runtime `{name}` is not installed where this worker runs: use one of {', '.join(context.runtimes)}"
            return states.Checked(Outcome(ok=False, reason="runtime_unavailable", message=message))
        is_cancelled = self._record.is_cancel_requested()
        is_exempt = is_cancelled or state.is_adopted
        refusal = None if is_exempt else find_refusal(task, self._conclusion.budget, context.executor)
        return states.Checked(refusal, is_cancelled)

    def _launch(self, state: AttemptState) -> Event:
        context, record, task = self._context, self._record, self._task
        executor, environment = context.executor, task.spec.environment
        try:
            if may_continue(self._claim, self._runtime):
                self._session = choose_session(self._claim, self._runtime, executor, record.attempts())
            names, budget = run_secrets(task, context.credentials), self._conclusion.budget
            access = find_access(context.gateway, self.run, task, budget, names, context.endpoints)
            own = [name for name in names if access is None or name not in access.variables]
            secrets = read_secrets(own, context.secrets) | dict({} if access is None else access.variables)
            record.mask_secrets(secrets.values(), executor, environment)
            check_lengths(secrets, self._runtime)
            session = self._session.session
            endpoint = context.endpoints.get(self._runtime.declaration.name)
            if access is not None and access.endpoint is not None:
                endpoint = access.endpoint
            launch = build_launch(
                self._claim,
                task,
                self._runtime,
                context,
                session=session,
                secrets=secrets,
                endpoint=endpoint,
                tools=None if access is None else access.tools,
                gateway=None if access is None or context.gateway is None else context.gateway.url,
                leased_at=self._leased_at,
            )
            if access is not None:
                record.durably(partial(context.store.open_key, self.run.lease, access.key))
                if task.connections and context.gateway is not None:
                    check_connections(context.gateway, access.token)
            if access is None or access.endpoint is None:
                agent = self._runtime.declaration
                self._access_note = direct_note(context.gateway, task, budget, names, context.endpoints, agent)
            if session is not None:
                record.durably(lambda: context.store.note_continued(self.run.lease, session.last))
            self._follow(executor.start(launch), ReadTrial({}, adopted=False))
        except SecretUnavailable as err:
            return states.Delayed(Delay(reason=SECRET_SOURCE, message=str(err)))
        except LaunchFailed as err:
            if err.temporary:
                return states.Delayed(Delay(reason=err.reason, message=str(err)))
            return states.LaunchRefused(Outcome(ok=False, reason=err.reason, message=str(err), again=err.again))
        return states.Launched()

    def _find(self, state: AttemptState) -> Event:
        handle = self._record.durably(lambda: self._context.executor.find(self.run.id, self.run.attempt))
        if handle is None:
            return states.Missing()
        trial = ReadTrial(self._claim.offsets, adopted=True)
        if state.phase is Phase.RECOVERING:
            handle.close(remove=False)
            return states.Found()
        self._follow(handle, trial)
        if trial.is_to_blame:
            message = f"{trial.count} workers in a row died while they read its output"
            return states.Found(Outcome(ok=False, reason="worker_crash", message=message))
        secrets = self._known_secrets(handle, run_secrets(self._task, self._context.credentials))
        self._record.mask_secrets(secrets, self._context.executor, self._task.spec.environment)
        if trial.is_suspect:
            log.warning("run %s: the last worker died while it read its output (%d in a row)", self.run.id, trial.count)
            self._signals.left.wait(random.uniform(0.0, MAX_START_PAUSE_S))  # noqa: S311
        return states.Found()

    def _follow(self, handle: Handle, trial: ReadTrial) -> None:
        """Take the agent's handle, and get ready to read its output."""
        self._follower = AgentFollower(
            handle,
            trial,
            claim=self._claim,
            task=self._task,
            runtime=self._runtime,
            session=self._session,
            access_note=self._access_note,
            limits=self._conclusion.limits(self._task),
            record=self._record,
            context=self._context,
            finder=self._worker,
            publish_claim=self._publish_claim,
        )
        with self._handle_lock:
            self._handle = handle
            if self._claim.adopted:
                handle.renewed(self._leased_at)

    def _known_secrets(self, handle: Handle, names: Sequence[str]) -> list[str]:
        """Return the values of the agent's secrets. While they cannot be read, no line of its output can be masked, so none is
        stored; a cancelled agent is stopped all the same. Raises WorkerLeaves."""
        problem = ""
        while True:
            try:
                values = [self._context.secrets.get(name) for name in names]
                return [value for value in values if value is not None]
            except SecretUnavailable as err:
                if str(err) != problem:
                    problem = str(err)
                    log.warning("run %s: its output waits: %s", self.run.id, problem)
            if self._record.is_cancel_requested():
                handle.stop()
            if self._signals.left.wait(_RETRY_PAUSE_S):
                raise WorkerLeaves

    def _publish_claim(self) -> None:
        fact, self._claim_fact = self._claim_fact, None
        if fact is not None:
            self._context.telemetry.tell(fact)

    def _has_ended(self) -> bool:
        return self._handle is not None and self._handle.exit() is not None

    def _explain(self, state: AttemptState) -> None:
        if state.verdict is not None:
            self._conclusion.explain(state.verdict, self._claim.offsets)

    def _end(self, state: AttemptState) -> Event:
        end = None if self._handle is None else self._follower.reading.exit
        if end is not None and not self._follower.trial.is_to_blame:
            follower = self._follower
            self._conclusion.conclude(self._task, follower.reading, end, follower.log, state.verdict)
        elif state.verdict is not None:
            self._conclusion.end(state.verdict, end)
        return states.Stored()

    def _give_back(self, state: AttemptState) -> Event:
        if state.delay is not None:
            self._conclusion.give_back(state.delay)
        return states.Stored()

    def _close(self, *, remove: bool) -> None:
        with self._handle_lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            self._follower.close(remove=remove)

    def _drop(self, state: AttemptState) -> None:
        """Give up the lease, so that the agent is adopted like that of a dead worker."""
        self._signals.left.wait(_RETRY_PAUSE_S)
        self._record.durably(lambda: self._context.store.drop(self.run.lease))
        self._context.broker.tell(Topic.QUEUE)
