"""The worker: claims runs when a notification says so, renews their leases, and adopts runs whose worker is gone.

It polls as well, because notifications may be lost. What happens within a run is `runs.execute`.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial

from optio.broker.base import Topic
from optio.errors import LeaseLost, NotFound, OptioError
from optio.model.fleet import ProcessKind
from optio.model.pool import Pool
from optio.model.room import PLACE_REFUSALS, SECRET_SOURCE
from optio.model.run import Run, RunState
from optio.model.session import used_directory
from optio.process_identity import is_gone, process_name
from optio.runs import admission
from optio.runs.execute import Execution
from optio.runs.launching import gateway_of
from optio.runs.warm_pool_demand import WarmPoolSync
from optio.store.values import NEVER_ORPHANED, AdmissionView, Claim
from optio.telemetry.base import Adopted, Claimed, Gauge
from optio.wiring import Services

log = logging.getLogger(__name__)
_TOPICS = (Topic.START, Topic.QUEUE, Topic.CANCEL, Topic.REGISTRY)
# Seconds between two polls: they find what a lost notification would miss.
_POLL_S = 2.0
_HINTED = timedelta(seconds=0.1)
# A deviation of so many seconds means that the store's clock has jumped, or that its answer was very late.
_MAX_CLOCK_JUMP_S = 1.0
# Seconds for handing everything over: service managers usually wait ten, and an unavailable store takes five of them.
_LEAVE_TIMEOUT_S = 4.0
# A third of the time after which the store regards a silent worker as gone.
_NOTED_EVERY_S = 10.0
# Seconds between two searches for remains of attempts whose worker never came back.
_TIDY_PERIOD_S = 60.0
# A worker that took the turn and died is waited for no longer than this.
_TIDY_LEASE = timedelta(minutes=5)
# Pools that the metrics know by name.
_MAX_POOLS = 50


class Worker:
    """The loops that claim runs and execute each on a thread. `start` and `stop` may be called from any thread."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._parts = services.parts()
        self._place = services.executor.place()
        self._tidying = f"tidy {self._place}"
        self.name = process_name()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._untidy = threading.Event()
        self._is_served = threading.Event()
        self._scope = services.settings.scope
        self._warming = WarmPoolSync(
            services.store, services.executor, self._place, self._scope, gateway_of=partial(gateway_of, self._parts)
        )
        self._noted_at: float | None = None
        self._refusals: set[str] = set()
        self._running: dict[str, tuple[Execution, threading.Thread]] = {}
        # Runs that a CANCEL named since the last claim began. One of them may be among those that it returns.
        self._named_ids: set[str] = set()
        self._capacity = services.settings.worker_concurrent or services.settings.max_workflow_concurrent
        # A process begins at once; a pod has to be made, and its agent begins when it runs.
        self._reason = "started" if services.settings.executor == "process" else "starting"
        self._busy: set[str] = set()
        self._strangers: set[str] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Run the loops on threads of their own."""
        # One worker takes a START, which is for tasks without a namespace.
        topics = [topic for topic in _TOPICS if topic is not Topic.START or self._scope.includes(None)]
        self._unsubscribe = self._services.broker.subscribe(self._hint, topics)
        self._services.executor.prepare()
        for probe in self._services.executor.examine():
            if probe.status != "ok":
                log.warning("%s: %s: %s", probe.name, probe.detail, probe.hint)
        if self._services.metrics is not None:
            self._services.metrics.add(self._readings)
        loops = [self._claim_loop, self._heartbeat_loop, self._tidy_loop]
        if self._services.settings.executor != "process":  # a process needs no place to be ready
            loops.append(self._pool_loop)
        for target in loops:
            thread = threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Hand everything over: agents continue, leases end at once, and another worker adopts the runs."""
        limit = time.monotonic() + _LEAVE_TIMEOUT_S
        self._stopping.set()
        self._wake.set()
        self._untidy.set()
        self._is_served.set()
        self._unsubscribe()
        # After the claim loop nothing begins any more. The heartbeat and tidy loops may take their time.
        self._join("claim_loop", _LEAVE_TIMEOUT_S / 2)
        with self._lock:
            running = list(self._running.values())
        for execution, _ in running:
            execution.leave()
        for _, thread in running:
            thread.join(max(0.0, limit - time.monotonic()))
        self._join("pool_loop", max(0.0, limit - time.monotonic()))
        try:
            self._services.store.release(self.name)
            self._services.store.forget_process(ProcessKind.WORKER, self.name)
            self._services.broker.tell(Topic.QUEUE)
        except OptioError as err:
            log.warning("leases could not be given back, they will run out: %s", err)

    def _join(self, loop: str, timeout_s: float) -> None:
        for thread in self._threads:
            if thread.name == loop:
                thread.join(timeout_s)

    def _hint(self, topic: Topic, key: str) -> None:
        if topic is not Topic.CANCEL:
            if topic is Topic.REGISTRY:
                self._is_served.set()
            if topic is not Topic.QUEUE or not key or self._scope.includes(key):
                self._wake.set()
            return
        with self._lock:
            execution = self._running.get(key)
            if execution is None:
                self._named_ids.add(key)
        if execution is not None:
            execution[0].recheck()

    def _claim_loop(self) -> None:
        store = self._services.store
        lease = self._services.settings.lease
        woken, swept = False, False
        steady = _ClockSteadiness(lease)
        while True:
            self._services.pulses.beat("claim", 0)
            # Cleared before anything is checked, the end included: a notification that comes meanwhile triggers another round.
            self._wake.clear()
            if self._stopping.is_set():
                break
            with self._lock:
                self._named_ids.clear()
            try:
                self._note()
                orphaned = NEVER_ORPHANED
                if not woken:
                    self._release_the_dead()
                    if steady.look(store.now(), self._services.executor.clock()):
                        orphaned = self._services.settings.orphan_timeout
                max_running = self._services.settings.max_workflow_concurrent
                asked_at = self._services.executor.clock()
                for claim in store.adopt(
                    self.name, lease, max_running, place=self._place, scope=self._scope, orphaned=orphaned
                ):
                    self._services.telemetry.tell(Adopted(claim.run))
                    self._begin(claim, asked_at)
                free = self._capacity - len(self._busy)
                self._refusals.clear()
                asked_at = self._services.executor.clock()
                for claim in store.claim(
                    self.name,
                    lease,
                    self._admit,
                    place=self._place,
                    scope=self._scope,
                    room=self._room,
                    most=free,
                    reason=self._reason,
                ):
                    self._begin(claim, asked_at, self._claimed(claim, swept))
                self._services.refusals.intersection_update(self._refusals)
                self._services.refusals.update(self._refusals)
                self._services.broker.ready(len(self._busy) < self._capacity)
                due = None if self._wake.is_set() else store.next_due()
                pause = _POLL_S if due is None else min(_POLL_S, max(0.0, due.total_seconds()) + 0.001)
            except OptioError as err:
                log.warning("the worker waits: %s", err)
                pause = 1.0
            except Exception:
                log.exception("the worker's loop failed once")
                pause = 1.0
            self._services.pulses.beat("claim", pause)
            woken = self._wake.wait(pause)
            # A poll without a notification or a due time: a run that it finds has lost its notification.
            swept = not woken and pause == _POLL_S
        self._services.pulses.end("claim")

    def _note(self) -> None:
        """Record that this worker is there, before it claims runs."""
        now = time.monotonic()
        if self._noted_at is None or now - self._noted_at >= _NOTED_EVERY_S:
            self._services.store.note_worker(self.name, self._scope, self._capacity)
            self._noted_at = now

    def _claimed(self, claim: Claim, swept: bool) -> Claimed | None:
        run = claim.run
        if run.lease_until is None:
            return None
        # By the store's clock alone: the lease began when the run was claimed.
        claimed_at = run.lease_until - self._services.settings.lease
        wait = claimed_at - max(run.queued_at, run.not_before)
        # The notification of a younger run may still be on its way.
        return Claimed(run, wait, swept and wait > _HINTED and not claim.deferred)

    def _readings(self) -> Iterator[Gauge]:
        yield Gauge("worker_runs", "runs that this worker has", len(self._busy))
        for reason in PLACE_REFUSALS:
            refuses = reason in self._services.refusals
            yield Gauge("place_refuses", "whether runs wait because no agent can start here", refuses, {"reason": reason})
        yield Gauge("worker_capacity", "runs that it may have at once", self._capacity)
        yield from _pool_readings(self._services.executor.pools() or ())

    def _room(self, running: int) -> int:
        return self._services.settings.max_workflow_concurrent - running

    def _admit(self, view: AdmissionView) -> list[str]:
        self._refusals |= {shortage.reason for shortage in view.shortages} & {*PLACE_REFUSALS, SECRET_SOURCE}
        return admission.starts(view, max_running=self._services.settings.max_workflow_concurrent)

    def _begin(self, claim: Claim, leased_at: float, fact: Claimed | None = None) -> None:
        run_id = claim.run.id

        def freed() -> None:
            """The run has ended: what is left to do for it must not keep the next one waiting."""
            self._busy.discard(run_id)
            self._wake.set()

        execution = Execution(claim, self._parts, self.name, freed, leased_at=leased_at, claimed=fact)

        def work() -> None:
            try:
                execution()
            finally:
                if execution.is_lost:
                    self._untidy.set()
                with self._lock:
                    if self._running.get(run_id, (None,))[0] is execution:
                        del self._running[run_id]
                        freed()

        thread = threading.Thread(target=work, name=f"run-{run_id}", daemon=True)
        with self._lock:
            before = self._running.get(run_id)
            self._running[run_id] = (execution, thread)
            self._busy.add(run_id)
            if run_id in self._named_ids:
                execution.recheck()
        if before is not None:
            before[0].leave()  # this process was suspended for longer than its own lease
        thread.start()

    def _heartbeat_loop(self) -> None:
        lease = self._services.settings.lease
        suspects: set[str] = set()
        pause = lease.total_seconds() / 3
        self._services.pulses.beat("leases", pause)
        while not self._stopping.wait(pause):
            self._services.pulses.beat("leases", pause)
            with self._lock:
                running = {run_id: execution for run_id, (execution, _) in self._running.items()}
            if not running:
                continue
            asked_at = self._services.executor.clock()
            try:
                owned = self._services.store.renew(self.name, lease)
                suspects = self._drop_the_forgotten(suspects, set(owned) - set(running))
            except OptioError as err:
                log.warning("leases could not be renewed: %s", err)
                continue
            except Exception:
                log.exception("leases could not be renewed this time")
                continue
            for run_id, execution in running.items():
                if run_id not in owned:
                    execution.leave()
                    self._untidy.set()
                    continue
                execution.lease_renewed(asked_at)
                if owned[run_id]:
                    execution.cancel()
        self._services.pulses.end("leases")

    def _drop_the_forgotten(self, before: set[str], idle: set[str]) -> set[str]:
        """Give back runs that are leased to this worker and that nothing has worked on twice in a row. Once may mean that the
        run is just about to begin; but its lease must not be renewed for ever."""
        for run_id in before & idle:
            log.error(
                "run %s is leased to this worker, but nothing executes it: giving it back", run_id, extra={"run_id": run_id}
            )
            with contextlib.suppress(LeaseLost):
                self._services.store.drop(self._services.store.run(run_id).lease)
            self._wake.set()
        return idle - before

    def _pool_loop(self) -> None:
        while not self._stopping.is_set():
            self._services.pulses.beat("pools", 0)
            self._is_served.clear()
            try:
                self._warming.look()
            except OptioError as err:
                log.debug("pools stay as they are: %s", err)  # the claim loop logs it
            except Exception:
                log.exception("the pools could not be updated this time")
            self._services.pulses.beat("pools", _POLL_S)
            if not self._stopping.is_set():
                self._is_served.wait(_POLL_S)
        self._services.pulses.end("pools")

    def _tidy_loop(self) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            is_needed = pause == 0.0
            if self._untidy.wait(pause):
                # The worker that has taken a run over may only now find out that its agent is gone.
                is_needed = True
                self._untidy.clear()
                self._stopping.wait(self._services.settings.lease.total_seconds())
            pause = _TIDY_PERIOD_S
            try:
                self._tidy_for_all(is_needed=is_needed)
            except OptioError as err:
                log.warning("what ended attempts left is looked through later: %s", err)
                self._untidy.set()
            except Exception:
                log.exception("what ended attempts left could not be looked through")

    def _tidy_for_all(self, *, is_needed: bool) -> None:
        """Tidy a place that all its workers see, by one of them at a time, or at once if this worker knows of something to
        remove."""
        store, every = self._services.store, timedelta(seconds=_TIDY_PERIOD_S * 0.9)
        if store.acquire_job_lease(self._tidying, self.name, every, _TIDY_LEASE):
            self.tidy()
            store.release_job_lease(self._tidying, self.name)
        elif is_needed:
            self.tidy()

    def tidy(self) -> None:
        """End and remove attempts that no worker will return to: their worker died between outcome and removal, or was away for
        so long that the run was repeated elsewhere."""
        store, executor = self._services.store, self._services.executor
        attempts = executor.attempts()
        running = store.running_attempts() if attempts else {}
        for run_id, attempt in attempts:
            if self._stopping.is_set():
                return
            if running.get(run_id) == attempt:  # nearly all: no query for each
                continue
            try:
                run = store.run(run_id)
            except NotFound:
                self._tell_of_a_stranger(f"{run_id}-{attempt}")
                continue
            # The database is an older copy that was put back: who claims this attempt will find it.
            to_come = attempt > run.attempt and not run.state.terminal
            is_over = not to_come and (run.state is not RunState.RUNNING or attempt < run.attempt)
            if is_over and not self._session_may_go_on(run, attempt):
                executor.remove(run_id, attempt)

    def _session_may_go_on(self, run: Run, attempt: int) -> bool:
        """Return whether a further attempt of the run is, or may be, in HOME and the working directory of this one."""
        if run.state.terminal or not self._services.executor.can_continue(run.id, attempt):
            return False
        return used_directory(run, self._services.store.attempts(run.id)) == attempt

    def _tell_of_a_stranger(self, name: str) -> None:
        """Log an unknown attempt once and leave it alone. Another database may have used this directory, or this one was
        restored from before that run."""
        if name not in self._strangers:
            self._strangers.add(name)
            words = "the attempt %s belongs to no known run: it is left alone, and ends after OPTIO_ORPHAN_TIMEOUT"
            log.warning(words, name, extra={"event": "attempt_unknown"})

    def _release_the_dead(self) -> None:
        """End the leases of workers of this machine whose process is gone, instead of waiting for them to expire."""
        for owner in self._services.store.owners():
            if is_gone(owner):
                count = self._services.store.release(owner)
                log.info("taking over %d runs of a worker that is gone", count)


def _pool_readings(pools: Sequence[Pool]) -> Iterator[Gauge]:
    """Yield gauges of the largest pools by name, and of all others together: authors of task files must not create metrics
    without limit."""
    ordered = sorted(pools, key=lambda pool: (-pool.size, pool.key))
    counts: dict[str, Counter[str]] = {}
    for place, pool in enumerate(ordered):
        count = counts.setdefault(pool.key if place < _MAX_POOLS else "other", Counter())
        count.update({"wanted": pool.size, "ready": pool.ready, "starting": pool.starting})
    for key, count in counts.items():
        for state in ("wanted", "ready", "starting"):
            yield Gauge("pool_places", "places for agents that are kept ready", count[state], {"pool": key, "state": state})


class _ClockSteadiness:
    """A check whether the store's clock has advanced steadily for a while. After a jump, leases of living workers seem to be
    over until they are renewed, and their agents must not be taken for dead."""

    def __init__(self, span: timedelta) -> None:
        self._needed_s = span.total_seconds()
        self._last_offset: float | None = None
        self._since = 0.0

    def look(self, now: datetime, clock: float) -> bool:
        """Take a sample and return whether the clock is steady. `now` is the store's time, `clock` one that nobody sets."""
        offset = now.timestamp() - clock
        if self._last_offset is None or abs(offset - self._last_offset) > _MAX_CLOCK_JUMP_S:
            self._since = clock
        self._last_offset = offset
        return clock - self._since > self._needed_s
