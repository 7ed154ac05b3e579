"""The end of an attempt: the outcome that its exit, its output and its result make, and what that means for its run.

The outcome is decided by `end_outcome`, `declared_result` and the retry policy, and stored in one commit, by which the run is
completed, failed or queued again. Used by `runs.execute`.
"""

import logging
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from optio.broker.base import Topic
from optio.executors.base import Exit
from optio.model import retry
from optio.model.mask import Masker
from optio.model.model_call import CallTotals
from optio.model.money import RunBudget
from optio.model.registry import CompiledTask
from optio.model.room import Delay
from optio.model.run import UNKNOWN_AGENT, AgentIdentity, LogLine, Outcome, Run, RunState
from optio.model.runtimes import declaration_of
from optio.model.session import REFUSED, UNFIT, session_to_continue, used_directory, was_repaired
from optio.model.usage import CostSource, Meter
from optio.runs import gateway_access
from optio.runs.attempt_log import AttemptLog, system_lines
from optio.runs.attempt_record import MAX_MESSAGE, AttemptRecord
from optio.runs.attempt_states import CANCELLED
from optio.runs.declared_result import judge_result
from optio.runs.end_outcome import outcome_of
from optio.runs.execution_context import ExecutionContext
from optio.runs.reading import Reading
from optio.runs.runtime_guard import GuardedReader
from optio.runs.spending_limits import SpendingLimits
from optio.telemetry.base import Finished, GivenBack

log = logging.getLogger(__name__)
# The gateway settles a call soon after its agent is gone.
_SETTLE_S, _SETTLE_PAUSE_S = 2.0, 0.05


class _Result(NamedTuple):
    """All that is stored of an ended attempt. `max_text_bytes` are kept of the outcome's text, counted from its end."""

    outcome: Outcome
    meter: Meter
    exit: Exit | None = None
    agent: AgentIdentity = UNKNOWN_AGENT
    repair: retry.Repair | None = None
    is_cancelled: bool = False
    max_text_bytes: int = 0


class Conclusion:
    """The end of one attempt. `task` and `budget` are known when the definition was read. `free_slot` is called as soon as the
    run has ended: what is left to do then keeps no other run waiting. `publish_claim` publishes the claim, unless the agent's
    beginning has done so."""

    def __init__(
        self,
        record: AttemptRecord,
        context: ExecutionContext,
        free_slot: Callable[[], None],
        publish_claim: Callable[[], None],
    ) -> None:
        self._record, self._run = record, record.run
        self._context, self._store, self._executor = context, context.store, context.executor
        self._free_slot, self._publish_claim = free_slot, publish_claim
        self.task: CompiledTask | None = None
        self.budget = RunBudget()
        self._keeps_remains = False
        self._session_directory: int | None = None  # the attempt in whose directory the next one may go on

    @property
    def needs_files(self) -> bool:
        """Return whether what the attempt left on disk is needed, by people or by the next attempt."""
        return self._keeps_remains or self._session_directory == self._run.attempt

    def conclude(
        self, task: CompiledTask, reading: Reading, end: Exit, attempt_log: AttemptLog, verdict: Outcome | None
    ) -> None:
        """Store the last lines and the outcome of an agent that was read to its end. `verdict` counts more than its own end."""
        reader, limits = reading.reader, self.limits(task, patience_s=_SETTLE_S)
        lines = [*reading.last_lines, *reading.output.rest(end.sizes)]
        lines += system_lines(*limits.unenforced(reader))
        # The outcome comes last: it says so if the reader has failed at one of these.
        meter, max_text_bytes, text, agent = reader.meter, reader.longest, reader.text, self._identity(reader)
        outcome = verdict or outcome_of(end, reader, limits)
        if limits.totals is not None:
            lines += system_lines(*gateway_access.notes(meter, limits.totals))
            meter = gateway_access.metered(meter, limits.totals)
            outcome = outcome if verdict is not None else gateway_access.judge(outcome, limits.totals)
        outcome = judge_result(task, outcome, reader.file.report, meter, self._record.mask.text)
        outcome = self._without_session(outcome, meter)
        if outcome.text is None:
            outcome = replace(outcome, text=text or None)
        repair = self._repair(outcome, meter, agent)
        result = _Result(outcome, meter, end, agent, repair, verdict is CANCELLED, max_text_bytes)
        lines += self._why_failed(outcome)
        lines += self._keep_remains(task, result)
        attempt_log.close(reading, lines, is_ok=outcome.ok)
        self._finish(result)

    def limits(self, task: CompiledTask, *, patience_s: float = 0.0) -> SpendingLimits:
        """Return the limits of what the agent may use, with what its calls through the gateway have used so far."""
        return SpendingLimits(task, self.budget, self._call_totals(patience_s))

    def _call_totals(self, patience_s: float = 0.0) -> CallTotals | None:
        """Return what the attempt's calls through the gateway have used. With patience, calls that an agent has broken off by
        its end are settled by then."""
        if self._context.gateway is None:
            return None
        until = time.monotonic() + patience_s
        while True:
            totals = self._record.durably(lambda: self._store.call_totals(self._run.id, self._run.attempt))
            if totals is None or not totals.open or time.monotonic() >= until:
                return totals
            time.sleep(_SETTLE_PAUSE_S)

    def end(self, outcome: Outcome, end: Exit | None = None) -> None:
        """Store the outcome of an attempt whose output was not read to its end."""
        totals = self._call_totals(_SETTLE_S)
        meter = self._run.meter if totals is None else gateway_access.metered(self._run.meter, totals)
        self._finish(_Result(outcome, meter, end))

    def explain(self, outcome: Outcome, offsets: Mapping[str, int]) -> None:
        """Log why the infrastructure failed an attempt that has no agent."""
        lines = self._why_failed(outcome)
        if lines:
            self._record.append(lines, offsets, self._run.meter)

    def give_back(self, delay: Delay) -> None:
        """Return the run to the queue because its agent cannot start for now, so that another run can use the slot."""
        masked, until = self._record.masked_delay(delay), delay.until
        words = "" if self._record.delay is not None else f"not begun: {masked.message}; "
        lines = system_lines(f"{words}the run waits in the queue until {until}")
        run = self._record.confirm(lambda: self._store.give_back(self._run.lease, masked, lines))
        if run.state is not RunState.QUEUED:
            self._publish_end(run, run.reason, Meter())
            return
        log.info(
            "run %s waits until %s (%s)", run.id, until, masked.reason, extra={"event": "run_given_back", "run_id": run.id}
        )
        self._free_slot()
        self._context.broker.tell(Topic.RUN, run.id)
        self._context.telemetry.tell(GivenBack(run, masked.reason))

    def _finish(self, result: _Result) -> None:
        outcome = _masked(result.outcome, result.max_text_bytes, self._record.mask)
        end = result.exit
        run = self._record.confirm(
            lambda: self._store.finish(
                self._run.lease,
                outcome,
                result.meter,
                None if end is None else end.code,
                None if end is None else end.signal,
                lambda run, outcome, now: self._decide(run, outcome, now, result, jitter=random.random()),  # noqa: S311
                began=self._record.agent_start(),
                agent=result.agent,
            )
        )
        unused = self._unused_directory(run)
        self._publish_end(run, outcome.reason, result.meter)
        if unused is not None:
            self._executor.remove(run.id, unused)

    def _decide(
        self, run: Run, outcome: Outcome, now: datetime, result: _Result, *, jitter: float
    ) -> retry.RetryAt | retry.GiveUp:
        meter, end = result.meter, result.exit
        had_agent = end is not None and end.phase != "setup" and end.error is None
        # The agent has made up the price of a model that it does not know.
        cost = None if meter.cost_source is CostSource.ESTIMATE else meter.cost
        budget = self.budget.after(cost, had_agent=had_agent)
        return retry.decide_retry(run, outcome, now=now, jitter=jitter, budget=budget, repair=result.repair)

    def _publish_end(self, run: Run, reason: str, meter: Meter) -> None:
        extra = {"event": "run_finished", "run_id": run.id, "task_id": run.task_id, "reason": run.reason}
        state = "is queued again" if run.state is RunState.QUEUED else run.state.value
        log.info("run %s %s (%s)", run.id, state, run.reason, extra=extra)
        self._free_slot()
        self._context.broker.tell(Topic.RUN, run.id)
        self._publish_claim()
        model = "" if self.task is None else self.task.spec.model or ""
        record = self._record
        calls = tuple if self._context.gateway is None else record.model_calls
        self._context.telemetry.tell(Finished(run, self._run, self._runtime, model, reason, meter, record.attempt, calls))

    @property
    def _runtime(self) -> str:
        return "" if self.task is None else self.task.spec.agent_runtime

    @property
    def _can_resume(self) -> bool:
        agent = declaration_of(self._runtime)
        return agent is not None and agent.capabilities.resume

    def _identity(self, reader: GuardedReader) -> AgentIdentity:
        """Return what the agent told of itself, masked like all that it prints, with machine and program of a process. A pod
        names its node and its image."""
        agent, mask = reader.identity, self._record.mask
        version, session, model = (name and mask.text(name) for name in (agent.version, agent.session, agent.model))
        machine = None if self._record.is_in_pod else socket.gethostname()
        facts = self._executor.program_facts(self._runtime)
        version = version or facts.version
        return AgentIdentity(version=version, session=session, model=model, machine=machine, program=facts.identity)

    def _repair(self, outcome: Outcome, meter: Meter, agent: AgentIdentity) -> retry.Repair | None:
        """Return whether the agent can be told in its session what is wrong with its result, or was told already."""
        if outcome.reason not in UNFIT or not self._can_resume:
            return None
        *earlier, current = self._record.attempts()
        if was_repaired([*earlier, current]):
            return "made"
        current = replace(current, ended_at=datetime.now(UTC), reason=outcome.reason, meter=meter, agent=agent)
        session = session_to_continue([*earlier, current])
        return "possible" if session is not None and self._executor.can_continue(self._run.id, session.first) else None

    def _without_session(self, outcome: Outcome, meter: Meter) -> Outcome:
        """Return the outcome, or that the agent could not continue its session: the next attempt begins anew, and that is no
        retry of the task's."""
        was_refused = outcome.reason in ("config", "no_result", "bad_request")
        if outcome.ok or not was_refused or meter.usage.total or meter.tool_calls or self._run.attempt == 1:
            return outcome
        attempt = self._record.attempt()
        if attempt is None or attempt.continues is None:
            return outcome
        message = f"the session of attempt {attempt.continues} could not be continued: {outcome.message}"
        return Outcome(ok=False, reason=REFUSED, message=message, again=True, infrastructure=True)

    def _unused_directory(self, run: Run) -> int | None:
        """Decide whose directory the next attempt of the run may need, and return the one that nobody needs any more."""
        may_go_on = run.state is RunState.QUEUED and self._can_resume
        if run.attempt == 1 and not may_go_on:
            return None
        attempts = self._record.attempts()
        before, after = used_directory(self._run, attempts), used_directory(run, attempts) if may_go_on else None
        if after is not None and self._executor.can_continue(run.id, after):
            self._session_directory = after
        return None if before == self._session_directory else before

    def _keep_remains(self, task: CompiledTask, result: _Result) -> list[LogLine]:
        """Keep what the last attempt of a failed run left, if the task has `keepFailed`; return lines for the log that say
        so."""
        span, now = task.spec.environment.keep_failed_span, datetime.now(UTC)
        if span is None or result.outcome.ok or result.is_cancelled:
            return []
        if isinstance(self._decide(self._run, result.outcome, now, result, jitter=0.0), retry.RetryAt):
            return []
        stay = self._executor.keep(self._run.id, self._run.attempt, span.total_seconds())
        self._keeps_remains = stay is not None and stay.is_kept
        return [] if stay is None else system_lines(stay.told)

    def _why_failed(self, outcome: Outcome) -> list[LogLine]:
        """Return a log line that says why the infrastructure failed an attempt. The agent has not logged it, and the run may be
        retried."""
        if not outcome.infrastructure:
            return []
        words = f"attempt {self._run.attempt} failed ({outcome.reason})"
        return system_lines(f"{words}: {outcome.message}" if outcome.message else words)


def _masked(outcome: Outcome, max_text_bytes: int, mask: Masker) -> Outcome:
    """Mask the outcome's text, then cut it: in the other order, half of a secret could remain."""
    text = outcome.text
    if text is not None:
        text = mask.text(text).encode()[-max_text_bytes:].decode("utf-8", "ignore")
    return replace(
        outcome,
        reason=mask.text(outcome.reason),
        message=mask.text(outcome.message)[:MAX_MESSAGE],
        text=text,
        output=mask.json(outcome.output),
    )
