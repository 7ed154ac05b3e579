"""The record of one attempt in the store: its log, how far its output was read, its agent's beginning, pod and delays.

Every write carries the run's fence, so a worker that lost its lease cannot change anything. Texts are masked here, before they
leave this process. Used by `runs.execute` and the modules that it is made of.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from optio.broker.base import Broker, Topic
from optio.errors import LeaseLost, StoreFull, StoreUnavailable
from optio.executors.base import Executor, LaunchArrival
from optio.model.mask import Masker
from optio.model.model_call import ModelCall
from optio.model.room import Delay
from optio.model.run import AgentPod, Attempt, LogKind, LogLine, Run, RunState
from optio.model.task import Environment
from optio.model.usage import Meter
from optio.runs.output import masked_line
from optio.runtimes.base import log_line
from optio.store.base import ExecutionStore
from optio.store.values import AgentStart, Claim

T = TypeVar("T")
log = logging.getLogger(__name__)
MAX_MESSAGE = 500
MAX_TRACED_CALLS = 1000
# A full disk may have room again soon: the log of an ended attempt waits so many seconds for it.
_FULL_PATIENCE_S = 5.0
# A delay with the same reason in other words, such as a scheduler's numbers, is logged again after so many seconds.
_REWORDED_S = 30.0
# Shared by all runs without secrets.
_NO_SECRETS = Masker(())


class WorkerLeaves(Exception):
    """Raised when this worker stops, or loses its lease, while an attempt waits for the store or for secrets."""


class AttemptSignals:
    """The wishes of other threads: that the worker lets go of the attempt (`left`), that its agent is stopped, or that the
    store is asked whether it shall be."""

    def __init__(self, *, is_cancelled: bool) -> None:
        self.left = threading.Event()
        self.is_cancelled = is_cancelled
        self.must_recheck = False


class AttemptRecord:
    """The record of an attempt, written while its worker owns the run. `has_ended` tells whether the agent has."""

    def __init__(
        self, claim: Claim, store: ExecutionStore, broker: Broker, signals: AttemptSignals, has_ended: Callable[[], bool]
    ) -> None:
        self.run, self._claim = claim.run, claim
        self.claimed_at = time.monotonic()
        self.signals = signals
        self._store, self._broker, self._has_ended = store, broker, has_ended
        self._cursor = claim.last_line
        self.mask = _NO_SECRETS
        self.delay: Delay | None = None  # the last one that was stored
        self._delay_stored_at = 0.0
        self._arrival: LaunchArrival | None = None  # of the launch, until it is stored
        self._pod: tuple[AgentPod, Future[None]] | None = None
        self._full_since: float | None = None

    def durably(self, change: Callable[[], T]) -> T:
        """Apply a change to the store, and repeat it while the store is unavailable; the agent continues meanwhile. Raises
        WorkerLeaves."""
        pause = 0.1
        while True:
            try:
                return change()
            except StoreUnavailable as err:
                log.warning("run %s waits for the store: %s", self.run.id, err)
            if self.signals.left.wait(pause):
                raise WorkerLeaves
            pause = min(2 * pause, 2.0)

    def is_cancel_requested(self) -> bool:
        """Return whether cancellation was requested, after a notification as the store has it."""
        signals = self.signals
        if signals.must_recheck:
            signals.must_recheck = False
            signals.is_cancelled |= self.durably(lambda: self._store.cancel_requested(self.run.lease))
        return signals.is_cancelled

    def mask_secrets(self, secrets: Iterable[str], executor: Executor, environment: Environment) -> None:
        """Mask these secrets from now on, and what the executor itself gives the agent."""
        values = [*secrets, *executor.private(environment)]
        self.mask = Masker(values) if values else _NO_SECRETS

    def append(self, lines: Sequence[LogLine], offsets: Mapping[str, int], meter: Meter) -> None:
        """Store lines, how far the output was read, and what was used until then, in one commit."""
        masked = [masked_line(line, self.mask) for line in lines]
        cursor = self._cursor

        def append_lines(lines: list[LogLine]) -> int:
            return self._store.append_log(self.run.lease, lines, offsets, meter, after=cursor, began=self.agent_start())

        def change() -> int:
            try:
                return append_lines(masked)
            except StoreFull:
                if not masked or not self._blocks_its_own_end():
                    raise
            log.warning("run %s: %d lines of its log are not kept: the disk is full", self.run.id, len(masked))
            return append_lines([])

        self._cursor = self.durably(change)
        if self._arrival is not None:
            self._arrival = None
            self._invite_others()
        if lines:
            self._broker.tell(Topic.RUN, self.run.id)

    def _blocks_its_own_end(self) -> bool:
        """Return whether the disk has been full for a while and the attempt, whose files may fill it, waits only for its log to
        be stored."""
        now = time.monotonic()
        self._full_since = self._full_since or now
        return now - self._full_since > _FULL_PATIENCE_S and self._has_ended()

    def expect_start(self, arrival: LaunchArrival) -> None:
        """Take note of the agent's beginning, to be stored with its first output, or by `store_start`."""
        self._arrival = arrival
        self._broker.tell(Topic.RUN, self.run.id)

    @property
    def has_start(self) -> bool:
        """Return whether the store has the agent's beginning, if there was one."""
        return self._arrival is None

    def agent_start(self) -> AgentStart | None:
        """Return the agent's beginning as the store takes it; None if it has it, or if there was none."""
        arrival = self._arrival
        if arrival is None:
            return None
        return AgentStart(timedelta(seconds=time.monotonic() - arrival.at), arrival.how, tried=self._claim.tries)

    def store_start(self, after_s: float) -> None:
        """Store the agent's beginning, unless it was stored with its output within so many seconds."""
        start = self.agent_start()
        if start is None or start.ago.total_seconds() < after_s:
            return
        try:
            commit = self._store.agent_started(self.run.lease, start)
        except StoreUnavailable:
            return  # stored with the next lines, or when the store is back
        self._arrival = None
        commit.add_done_callback(lambda _: self._invite_others())

    def _invite_others(self) -> None:
        """Notify workers that there may be room, because this attempt, which was to try that, found room."""
        if self._claim.tries:
            self._broker.tell(Topic.QUEUE)

    def store_pod(self, pod: AgentPod | None) -> None:
        """Store what is known of the attempt's pod at once, and again if the store was unavailable."""
        if pod is None:
            return
        if self._pod is not None:
            known, commit = self._pod
            if known == pod and not (commit.done() and commit.exception()):
                return
        commit = self._store.note_pod(self.run.lease, pod)
        self._pod = pod, commit
        commit.add_done_callback(lambda _: self._broker.tell(Topic.RUN, self.run.id))

    @property
    def is_in_pod(self) -> bool:
        """Return whether the attempt has a pod."""
        return self._pod is not None

    def store_delay(self, delay: Delay | None) -> None:
        """Store why the agent has not begun yet, with one commit for each reason."""
        if delay is None or delay == self.delay:
            return
        now, reason = time.monotonic(), None if self.delay is None else self.delay.reason
        if delay.reason == reason and now - self._delay_stored_at < _REWORDED_S:
            return
        self.delay, self._delay_stored_at = delay, now
        masked = self.masked_delay(delay)
        # Logged already, by the attempt that was given back for this reason.
        is_logged = delay.reason in (reason, self._claim.deferred)
        lines = [] if is_logged else [log_line(LogKind.SYSTEM, f"not begun yet: {masked.message}", datetime.now(UTC))]
        self._cursor = self.durably(lambda: self._store.explain(self.run.lease, masked, lines))
        self._broker.tell(Topic.RUN, self.run.id)

    def masked_delay(self, delay: Delay) -> Delay:
        """Return the delay with a message that anyone may read."""
        return replace(delay, message=self.mask.text(delay.message)[:MAX_MESSAGE])

    def attempts(self) -> list[Attempt]:
        """Return all attempts of the run, this one included, oldest first."""
        return list(self.durably(lambda: self._store.attempts(self.run.id)))

    def attempt(self) -> Attempt | None:
        """Return this attempt as the store has it now; None if that does not have it."""
        attempts = self._store.attempts(self.run.id)
        return next((attempt for attempt in attempts if attempt.number == self.run.attempt), None)

    def model_calls(self) -> Sequence[ModelCall]:
        """Return the first model calls of this attempt through the gateway, as many as a trace has room for."""
        return self._store.model_calls(self.run.id, attempt=self.run.attempt, limit=MAX_TRACED_CALLS)

    def confirm(self, end: Callable[[], Run]) -> Run:
        """Store the end of the attempt, once. It is there already if the store became unavailable after storing it and before
        confirming that."""

        def change() -> Run:
            try:
                return end()
            except LeaseLost:
                run = self._store.run(self.run.id)
                if run.fence == self.run.fence and run.state is not RunState.RUNNING:
                    return run
                raise

        return self.durably(change)
