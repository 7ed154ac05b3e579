"""The scheduler: exact timers over the kept schedules. Any number may run; a slot is unique in the store."""

import contextlib
import heapq
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

import uuid_utils

from optio.broker.base import Topic
from optio.errors import Conflict, OptioError, StoreUnavailable
from optio.model.registry import CompiledTask
from optio.runs import schedule
from optio.runs.schedule import Plan
from optio.wiring import Services

log = logging.getLogger(__name__)
# Seconds between two looks: a clock that is set, or a hint that is lost, is noticed after this.
_LONGEST = 20.0
_SET_BACK = timedelta(seconds=1)
# Slots that are nearer are not planned ahead: they must not be missed over it.
_IN_TIME = timedelta(milliseconds=100)
# Seconds until the next look after a task was changed under us; never none, whatever is wrong.
_AFTER_AN_EDIT = 0.02


def new_id() -> str:
    """A UUID whose order is the order of time (RFC 9562, version 7)."""
    return str(uuid_utils.uuid7())


class Scheduler:
    """Fires due slots. `start` and `stop` may be called from any thread."""

    def __init__(
        self,
        services: Services,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        longest: float = _LONGEST,
    ) -> None:
        self._services = services
        self._clock = clock
        self._longest = longest
        self._wake = threading.Event()
        self._stopping = False
        # A start knows nothing of the clock before it.
        self._stale = self._set_back = True
        self._looked = 0.0
        self._last = datetime.min.replace(tzinfo=UTC)
        self._definitions: dict[str, CompiledTask] = {}
        self._tasks: dict[str, CompiledTask] = {}
        self._heap: list[tuple[datetime, str]] = []
        # What will be due next, planned while there is time: at the slot only the commit is left.
        self._ready: dict[str, tuple[datetime, Plan]] = {}
        # Digests of definitions that cannot be used: they are left out until the task changes, and the others go on.
        self._broken: set[str] = set()
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._unsubscribe = self._services.broker.subscribe(self._hint, (Topic.REGISTRY,))
        self._thread.start()

    def stop(self) -> None:
        """Fire nothing more."""
        self._stopping = True
        self._unsubscribe()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _hint(self, topic: Topic, key: str) -> None:
        self._stale = True
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                pause = self.step()
            except OptioError as err:
                log.warning("the scheduler waits: %s", err)
                self._stale, pause = True, 1.0
            except Exception:
                log.exception("the scheduler's loop failed once")
                self._stale, pause = True, 1.0
            self._wake.wait(pause)

    def step(self) -> float:
        """Fire what is due; seconds until the next look. Raises StoreUnavailable; what was not fired then is fired later."""
        now = self._clock()
        if now + _SET_BACK < self._last:
            log.warning("the clock was set back from %s to %s", self._last.isoformat(), now.isoformat())
            self._set_back = self._stale = True
        self._last = now
        if self._stale or time.monotonic() - self._looked >= self._longest:
            self._stale = False
            self._reload(now)
        self._fire(now)
        if self._stale:
            return _AFTER_AN_EDIT
        if not self._heap:
            return self._longest
        self._prepare()
        return min(self._longest, max(0.0, (self._heap[0][0] - self._clock()).total_seconds()))

    def _prepare(self) -> None:
        following = self._heap[0][0]
        limit = following - _IN_TIME
        for due, task_id in self._heap:
            if self._clock() > limit:
                return
            if due == following and task_id not in self._ready:
                with contextlib.suppress(Exception):  # it is seen again, and said, when the slot is due
                    self._ready[task_id] = (due, schedule.plan(self._tasks[task_id], due, due, new_id))

    def _plan(self, task_id: str, due: datetime, now: datetime) -> Plan:
        ready = self._ready.pop(task_id, None)
        # Were another slot due by now, it is the next to be planned; what counts as missed is planned by the policy.
        if ready is not None and ready[0] == due and now - due <= schedule.MISSED_AFTER:
            return ready[1]
        return schedule.plan(self._tasks[task_id], due, now, new_id)

    def _fire(self, now: datetime) -> None:
        pending: list[tuple[str, datetime | None, Future[list[str]]]] = []
        while self._heap and self._heap[0][0] <= now:
            due, task_id = heapq.heappop(self._heap)
            try:
                plan = self._plan(task_id, due, now)
            except Exception as err:
                self._leave_out(task_id, self._tasks[task_id].digest, err)
                continue
            for note in plan.notes:
                log.warning("%s", note)
            pending.append((task_id, plan.firing.next_fire, self._services.store.fire(plan.firing)))
        started: list[str] = []
        unavailable: StoreUnavailable | None = None
        for task_id, following, future in pending:
            try:
                started += future.result()
            except StoreUnavailable as err:
                unavailable = err
            except Conflict:
                self._stale = True
            except Exception as err:
                self._leave_out(task_id, self._tasks[task_id].digest, err)
            else:
                if following is not None:
                    heapq.heappush(self._heap, (following, task_id))
        if started:
            log.info("%d scheduled runs queued", len(started), extra={"event": "schedule_fired"})
            self._services.broker.tell(Topic.START, *started)
        if unavailable is not None:
            self._stale = True
            raise unavailable

    def _reload(self, now: datetime) -> None:
        """Take up the generation that is served, and the kept schedules."""
        store = self._services.store
        generation = store.generation()
        wanted = generation.tasks if generation is not None else {}
        current = set(wanted.values())
        self._broken &= current
        self._definitions = {digest: task for digest, task in self._definitions.items() if digest in current}
        for task_id, digest in wanted.items():
            if digest not in self._definitions and digest not in self._broken:
                try:
                    self._definitions[digest] = store.definition(digest)
                except StoreUnavailable:
                    raise
                except Exception as err:
                    self._leave_out(task_id, digest, err)
        self._tasks = {task_id: self._definitions[digest] for task_id, digest in wanted.items() if digest in self._definitions}
        kept = store.schedules()
        changes = schedule.reconcile(self._tasks, kept, now, clock_set_back=self._set_back)
        for task_id, why in changes.broken.items():
            self._leave_out(task_id, self._tasks[task_id].digest, why)
        # The row of a definition that cannot be read is kept: what it has missed may be caught up when it can be.
        drop = [task_id for task_id in changes.drop if wanted.get(task_id) not in self._broken]
        if changes.put or drop:
            store.change_schedules(changes.put, drop)
            kept = store.schedules()
        self._heap = [
            (row.next_fire, row.task_id)
            for row in kept.values()
            if row.next_fire is not None and row.task_id in self._tasks and wanted[row.task_id] not in self._broken
        ]
        heapq.heapify(self._heap)
        self._ready.clear()
        self._set_back = False
        self._looked = time.monotonic()

    def _leave_out(self, task_id: str, digest: str, err: Exception) -> None:
        if digest not in self._broken:
            log.error("the schedule of `%s` is left out until the task changes: %s: %s", task_id, type(err).__name__, err)
            self._broken.add(digest)
