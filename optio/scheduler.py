"""The scheduler: exact timers over the kept schedules. Any number may run; a slot is unique in the store."""

import heapq
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import uuid_utils

from optio.broker.base import Topic
from optio.errors import OptioError
from optio.model.registry import CompiledTask
from optio.runs import schedule
from optio.wiring import Services

log = logging.getLogger(__name__)
# The longest sleep: a clock that is set, or a hint that is lost, is noticed after this.
_LONGEST = 20.0


def new_id() -> str:
    """A UUID whose order is the order of time (RFC 9562, version 7)."""
    return str(UUID(int=uuid_utils.uuid7().int))


class Scheduler:
    """Fires due slots. `start` and `stop` may be called from any thread."""

    def __init__(self, services: Services, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._services = services
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = False
        self._stale = True
        self._definitions: dict[str, CompiledTask] = {}
        self._tasks: dict[str, CompiledTask] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._unsubscribe = self._services.broker.subscribe(self._hint)
        self._thread.start()

    def stop(self) -> None:
        """Fire nothing more."""
        self._stopping = True
        self._unsubscribe()
        self._wake.set()
        self._thread.join(5)

    def _hint(self, topic: Topic, key: str) -> None:
        if topic is Topic.REGISTRY:
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
        """Fire what is due; seconds until the next look."""
        if self._stale:
            self._stale = False
            self._reload()
        now = self._clock()
        futures = []
        while self._heap and self._heap[0][0] <= now:
            due, task_id = heapq.heappop(self._heap)
            plan, problem = schedule.firing(self._tasks[task_id], due, now, new_id)
            if problem:
                log.warning("%s", problem)
            futures.append(self._services.store.fire(plan))
            if plan.next_fire is not None:
                heapq.heappush(self._heap, (plan.next_fire, task_id))
        started = [run_id for future in futures for run_id in future.result()]
        if started:
            log.info("%d scheduled runs queued", len(started), extra={"event": "schedule_fired"})
            self._services.broker.tell(Topic.QUEUE)
        if not self._heap:
            return _LONGEST
        return min(_LONGEST, max(0.0, (self._heap[0][0] - self._clock()).total_seconds()))

    def _reload(self) -> None:
        store = self._services.store
        generation = store.generation()
        wanted = generation.tasks if generation is not None else {}
        known = {digest: task for digest, task in self._definitions.items() if digest in set(wanted.values())}
        for digest in wanted.values():
            if digest not in known:
                known[digest] = store.definition(digest)
        self._definitions = known
        self._tasks = {task_id: known[digest] for task_id, digest in wanted.items()}
        changes = schedule.reconcile(self._tasks, store.schedules(), self._clock())
        if changes.put or changes.drop:
            store.change_schedules(changes.put, changes.drop)
        rows = store.schedules().values()
        self._heap = [(row.next_fire, row.task_id) for row in rows if row.next_fire is not None and row.task_id in self._tasks]
        heapq.heapify(self._heap)
