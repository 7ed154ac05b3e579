"""The worker: claims runs when a hint says so, keeps their leases, and finds runs again whose worker is gone."""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from optio.broker.base import Topic
from optio.errors import LeaseLost, NotFound, OptioError
from optio.executors.procfs import machine, start_time
from optio.runs import admission
from optio.runs.execute import Execution
from optio.store.base import AdmissionView, Claim
from optio.wiring import Services

log = logging.getLogger(__name__)
_TOPICS = (Topic.START, Topic.QUEUE, Topic.CANCEL, Topic.REGISTRY)
# Hints drive; this finds what a lost hint would lose.
_SWEEP = 2.0
# For a stop in all: who stops us waits for ten seconds as a rule.
_LEAVE = 8.0
# What attempts left on disk whose worker never came back to them is looked for so often.
_TIDY = 600.0


class Worker:
    """Runs executions, each on a thread. `start` and `stop` may be called from any thread."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._parts = services.parts()
        self._machine = _machine()
        self._place = services.executor.place()
        self.name = f"{self._machine}:{os.getpid()}:{start_time(os.getpid())}"
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._running: dict[str, tuple[Execution, threading.Thread]] = {}
        self._capacity = services.settings.worker_concurrent or services.settings.max_workflow_concurrent
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin, on threads of its own."""
        self._unsubscribe = self._services.broker.subscribe(self._hint, _TOPICS)
        self._services.executor.prepare()
        for target in (self._claim_loop, self._heartbeat_loop, self._tidy_loop):
            thread = threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Hand everything over: agents go on, leases end at once, another worker finds them."""
        limit = time.monotonic() + _LEAVE
        self._stopping.set()
        self._wake.set()
        self._unsubscribe()
        for thread in self._threads[:1]:  # after the claim loop nothing begins any more; the others may take their time
            thread.join(_LEAVE / 2)
        with self._lock:
            running = list(self._running.values())
        for execution, _ in running:
            execution.leave()
        for _, thread in running:
            thread.join(max(0.0, limit - time.monotonic()))
        try:
            if running:
                self._services.store.release(self.name)
            self._services.broker.tell(Topic.QUEUE)
        except OptioError as err:
            log.warning("leases could not be given back, they will run out: %s", err)

    def _hint(self, topic: Topic, key: str) -> None:
        if topic is not Topic.CANCEL:
            self._wake.set()
            return
        with self._lock:
            found = self._running.get(key)
        if found is not None:
            found[0].look()

    def _claim_loop(self) -> None:
        store = self._services.store
        lease = self._services.settings.lease
        woken = False
        while not self._stopping.is_set():
            # Cleared before looking: a hint that comes while we look makes us look again.
            self._wake.clear()
            try:
                if not woken:
                    self._release_the_dead()
                most = self._services.settings.max_workflow_concurrent
                for claim in store.adopt(
                    self.name, lease, most, place=self._place, orphaned=self._services.settings.orphan_timeout
                ):
                    self._begin(claim)
                free = self._capacity - len(self._busy)
                for claim in store.claim(self.name, lease, self._admit, place=self._place, room=self._room, most=free):
                    self._begin(claim)
                self._services.broker.ready(len(self._busy) < self._capacity)
                due = store.next_due()
                pause = _SWEEP if due is None else min(_SWEEP, max(0.0, (due - datetime.now(UTC)).total_seconds()) + 0.001)
            except OptioError as err:
                log.warning("the worker waits: %s", err)
                pause = 1.0
            except Exception:
                log.exception("the worker's loop failed once")
                pause = 1.0
            woken = self._wake.wait(pause)

    def _room(self, running: int) -> int:
        return self._services.settings.max_workflow_concurrent - running

    def _admit(self, view: AdmissionView) -> list[str]:
        return admission.decide(view, max_running=self._services.settings.max_workflow_concurrent).starts

    def _begin(self, claim: Claim) -> None:
        run_id = claim.run.id

        def freed() -> None:
            """The run has ended: what is left to do for it must not keep the next one waiting."""
            self._busy.discard(run_id)
            self._wake.set()

        execution = Execution(claim, self._parts, self.name, freed)

        def work() -> None:
            try:
                execution()
            finally:
                with self._lock:
                    if self._running.get(run_id, (None,))[0] is execution:
                        del self._running[run_id]
                        freed()

        thread = threading.Thread(target=work, name=f"run-{run_id}", daemon=True)
        with self._lock:
            before = self._running.get(run_id)
            self._running[run_id] = (execution, thread)
            self._busy.add(run_id)
        if before is not None:
            before[0].leave()  # we were stopped for longer than our own lease
        thread.start()

    def _heartbeat_loop(self) -> None:
        lease = self._services.settings.lease
        suspects: set[str] = set()
        while not self._stopping.wait(lease.total_seconds() / 3):
            with self._lock:
                running = {run_id: execution for run_id, (execution, _) in self._running.items()}
            if not running:
                continue
            try:
                owned = self._services.store.renew(self.name, lease)
                suspects = self._drop_the_forgotten(suspects, set(owned) - set(running))
            except OptioError as err:
                log.warning("leases could not be renewed: %s", err)
                continue
            for run_id, execution in running.items():
                if run_id not in owned:
                    execution.leave()
                elif owned[run_id]:
                    execution.cancel()

    def _drop_the_forgotten(self, before: set[str], idle: set[str]) -> set[str]:
        """A run of ours that nothing works on, twice in a row, is not just about to begin: it must not be renewed for ever."""
        for run_id in before & idle:
            log.error("run %s is ours and nothing works on it: giving it back", run_id)
            with contextlib.suppress(LeaseLost):
                self._services.store.drop(run_id, self._services.store.run(run_id).fence)
            self._wake.set()
        return idle - before

    def _tidy_loop(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = _TIDY
            try:
                self.tidy()
            except Exception:
                log.exception("what ended attempts left could not be looked through")

    def tidy(self) -> None:
        """Remove attempts that nobody comes back to: their worker died between the outcome and the removal."""
        store, executor = self._services.store, self._services.executor
        for run_id, attempt in executor.attempts():
            if self._stopping.is_set():
                return
            try:
                run = store.run(run_id)
            except NotFound:
                continue  # another database has used this directory
            if run.state.terminal or attempt < run.attempt:
                executor.remove(run_id, attempt)

    def _release_the_dead(self) -> None:
        """Workers of this machine whose process is gone need no lease to run out."""
        for owner in self._services.store.owners():
            name, _, began = owner.rpartition(":")
            where, _, pid = name.rpartition(":")
            if where == self._machine and pid.isdigit() and str(start_time(int(pid))) != began:
                count = self._services.store.release(owner)
                log.info("taking over %d runs of a worker that is gone", count)


def _machine() -> str:
    """Where process ids mean what they mean here: not in another container of the same name, nor after a boot."""
    with contextlib.suppress(OSError):
        return "/".join((socket.gethostname(), *machine()))
    return socket.gethostname()
