"""The scheduler: exact timers over the stored schedules. Any number of schedulers may run side by side; the store makes each
slot unique.

All of them use the store's time. Whatever a machine's own clock does, a scheduler on it fires nothing early or late.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import uuid_utils

from optio.broker.base import Topic, announce_queued
from optio.errors import Conflict, OptioError, StoreUnavailable
from optio.model.fleet import ProcessKind
from optio.model.registry import CompiledTask
from optio.process_identity import process_name
from optio.runs import schedule
from optio.runs.agenda import Agenda
from optio.runs.schedule import ScheduleChanges, ScheduleStep
from optio.store.base import Clock
from optio.store.values import Firing, GenerationRow
from optio.telemetry.base import Fired, Queued
from optio.wiring import Services

log = logging.getLogger(__name__)
# Seconds between two steps at most: a clock that was set, or a lost notification, is noticed after this.
_MAX_WAIT_S = 20.0
_SET_BACK = timedelta(seconds=1)
# A third of the time after which the store regards a silent scheduler as gone.
_NOTED_EVERY_S = 10.0
# Slots that are nearer than this are not planned ahead, so that planning does not delay them.
_IN_TIME = timedelta(milliseconds=100)
# Slots per commit: enough to make the commit cheap for each, few enough that nobody waits long for its locks.
_MAX_SLOTS_PER_COMMIT = 250
# Seconds until the next step after a task was changed meanwhile; never zero, whatever is wrong.
_EDIT_SETTLE_S = 0.02
# If more definitions than this are unknown, all are read in one query.
_DEFINITIONS_PER_READ = 50
# Seconds by which the wall clock may deviate from the monotonic clock before the store is asked again.
_MAX_CLOCK_DRIFT_S = 0.5


def new_id() -> str:
    """Return a UUID that sorts by time of creation (RFC 9562, version 7)."""
    return str(uuid_utils.uuid7())


class StoreClock:
    """A callable that returns the store's time. Between two queries it advances with this process's monotonic clock, which
    nobody can set."""

    def __init__(self, store: Clock) -> None:
        self._store = store
        self._at = datetime.min.replace(tzinfo=UTC)
        self._asked_at = -_MAX_WAIT_S
        self._wall = 0.0

    def __call__(self) -> datetime:
        """Return the store's time. Raises StoreUnavailable."""
        passed = time.monotonic() - self._asked_at
        # They deviate if the machine slept, or its clock was set; the store may use the very same clock.
        if passed >= _MAX_WAIT_S or abs(time.time() - self._wall - passed) > _MAX_CLOCK_DRIFT_S:
            self._at = self._store.now()
            self._asked_at, self._wall = time.monotonic(), time.time()
            return self._at
        return self._at + timedelta(seconds=passed)


@dataclass(frozen=True, slots=True)
class _PlannedSlots:
    """The slots of one moment by task, planned in advance, so that only the commit is left."""

    moment: datetime
    plans: Mapping[str, ScheduleStep]
    fire: Callable[[], Future[list[list[str] | Exception]]]


def _due_without_plan(due: Set[str], ready: Iterable[_PlannedSlots]) -> set[str]:
    """Return the due tasks that are in none of these batches."""
    return set(due).difference(*(lot.plans for lot in ready))


def _parts(task_ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield the tasks of each commit. Two schedulers take them in the same order, so that they do not block each other."""
    ordered = sorted(task_ids)
    return (ordered[place : place + _MAX_SLOTS_PER_COMMIT] for place in range(0, len(ordered), _MAX_SLOTS_PER_COMMIT))


class Scheduler:
    """The loop that fires due slots. `start` and `stop` may be called from any thread. `clock` replaces the store's clock in
    tests."""

    def __init__(
        self,
        services: Services,
        *,
        clock: Callable[[], datetime] | None = None,
        longest: float = _MAX_WAIT_S,
    ) -> None:
        self._services = services
        self._clock = clock or StoreClock(services.store)
        self._longest = longest
        self._wake = threading.Event()
        self._stopping = False
        # After a start, nothing is known of the clock before it.
        self._stale = self._set_back = True
        self._looked_at = 0.0
        self._noted_at: float | None = None
        self._last = datetime.min.replace(tzinfo=UTC)
        self._definitions: dict[str, CompiledTask] = {}
        self._tasks: dict[str, CompiledTask] = {}
        self._generation: int | None = None
        self._agenda = Agenda()
        self._ready: list[_PlannedSlots] = []
        # Digests of definitions that cannot be used: they are left out until the task changes, and the others go on.
        self._broken_ids: set[str] = set()
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Run the loop on a thread of its own."""
        self._unsubscribe = self._services.broker.subscribe(self._hint, (Topic.REGISTRY,))
        self._thread.start()

    def stop(self) -> None:
        """Fire nothing more, and wait for the loop to end."""
        self._stopping = True
        self._unsubscribe()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5)
        try:
            self._services.store.forget_process(ProcessKind.SCHEDULER, process_name())
        except OptioError as err:
            log.warning("this scheduler stops, which the database cannot be told: %s", err)

    def _hint(self, topic: Topic, key: str) -> None:
        self._stale = True
        self._wake.set()

    def _loop(self) -> None:
        while True:
            self._wake.clear()
            if self._stopping:  # checked after clearing: the cleared event may have been set for it
                break
            self._services.pulses.beat("schedule", 0)
            try:
                self._note()
                pause = min(_NOTED_EVERY_S, self.step())
            except OptioError as err:
                log.warning("the scheduler waits for the store: %s", err)
                self._stale, pause = True, 1.0
            except Exception:
                log.exception("the scheduler's loop failed once")
                self._stale, pause = True, 1.0
            self._services.pulses.beat("schedule", pause)
            self._wake.wait(pause)
        self._services.pulses.end("schedule")

    def _note(self) -> None:
        """Record that this scheduler is there. Nothing waits for the commit."""
        now = time.monotonic()
        if self._noted_at is None or now - self._noted_at >= _NOTED_EVERY_S:
            self._services.store.note_scheduler(process_name())
            self._noted_at = now

    def step(self) -> float:
        """Fire what is due and return the seconds until the next step. Raises StoreUnavailable; slots that were not fired then
        are fired later."""
        now = self._clock()
        if now + _SET_BACK < self._last:
            log.warning("the clock was set back from %s to %s", self._last.isoformat(), now.isoformat())
            self._set_back = self._stale = True
        self._last = now
        if self._stale or time.monotonic() - self._looked_at >= self._longest:
            self._stale = False
            self._reload(now)
        self._fire(now)
        if self._stale:
            return _EDIT_SETTLE_S
        following = self._agenda.first
        if following is None:
            return self._longest
        self._prepare(following)
        return min(self._longest, max(0.0, (following - self._clock()).total_seconds()))

    def _prepare(self, following: datetime) -> None:
        """Plan the slots that are due next while there is time, so that only their commit is left at the moment itself."""
        limit = following - _IN_TIME
        due = self._agenda.tasks(following)
        self._ready = self._of(following, due)
        for task_ids in _parts(_due_without_plan(due, self._ready)):
            plans: dict[str, ScheduleStep] = {}
            for task_id in task_ids:
                if self._clock() > limit:
                    return
                with contextlib.suppress(Exception):  # it is seen again, and said, when the slot is due
                    plans[task_id] = self._plan(task_id, following, following)
            if plans:
                with contextlib.suppress(Exception):
                    self._ready.append(self._lot(following, plans))

    def _of(self, moment: datetime, due: Set[str]) -> list["_PlannedSlots"]:
        """Return the prepared batches for this moment that contain only due tasks."""
        return [lot for lot in self._ready if lot.moment == moment and due >= lot.plans.keys()]

    def _plan(self, task_id: str, due: datetime, now: datetime) -> ScheduleStep:
        return schedule.plan_step(self._tasks[task_id], due, now, new_id, self._generation)

    def _lot(self, moment: datetime, plans: dict[str, ScheduleStep]) -> "_PlannedSlots":
        return _PlannedSlots(moment, plans, self._services.store.ready([plan.firing for plan in plans.values()]))

    def _lots(self, moment: datetime, due: Set[str], now: datetime) -> Iterator["_PlannedSlots"]:
        """Yield all batches that are due at this moment. Slots that count as missed by now are planned anew, by the policy."""
        ready = self._of(moment, due) if now - moment <= schedule.MISSED_AFTER else []
        self._ready = []
        yield from ready
        for task_ids in _parts(_due_without_plan(due, ready)):
            try:
                lots = [self._lot(moment, {task_id: self._plan(task_id, moment, now) for task_id in task_ids})]
            except Exception:
                lots = list(self._singly(moment, task_ids, now))
            yield from lots

    def _singly(self, moment: datetime, task_ids: Sequence[str], now: datetime) -> Iterator["_PlannedSlots"]:
        for task_id in task_ids:
            try:
                yield self._lot(moment, {task_id: self._plan(task_id, moment, now)})
            except Exception as err:
                self._leave_out(task_id, self._tasks[task_id].digest, err)

    def _fire(self, now: datetime) -> None:
        clock = time.monotonic()
        pending: list[tuple[_PlannedSlots, Future[list[list[str] | Exception]]]] = []
        while (moment := self._agenda.first) is not None and moment <= now:
            pending += [(lot, lot.fire()) for lot in self._lots(moment, self._agenda.pop(), now)]
        fired: list[tuple[Firing, list[str], timedelta]] = []
        unavailable: StoreUnavailable | None = None
        for lot, future in pending:
            for note in (note for plan in lot.plans.values() for note in plan.notes):
                log.warning("%s", note)
            results: list[list[str] | Exception]
            try:
                results = future.result()
            except Exception as err:
                results = [err] * len(lot.plans)
            took = timedelta(seconds=time.monotonic() - clock)
            for (task_id, plan), result in zip(lot.plans.items(), results, strict=True):
                if isinstance(result, StoreUnavailable):
                    unavailable = result
                elif isinstance(result, Conflict):
                    self._stale = True
                elif isinstance(result, Exception):
                    self._leave_out(task_id, self._tasks[task_id].digest, result)
                else:
                    fired.append((plan.firing, result, took))
                    if plan.firing.next_fire is not None:
                        self._agenda.add(task_id, plan.firing.next_fire)
        starts = [(run_id, self._tasks[firing.task_id].namespace) for firing, fresh, _ in fired for run_id in fresh]
        if starts:
            log.info("%d scheduled runs queued", len(starts), extra={"event": "schedule_fired"})
            announce_queued(self._services.broker, starts)
        for firing, fresh, took in fired:
            self._tell_of(firing, fresh, now, now + took)
        if unavailable is not None:
            self._stale = True
            raise unavailable

    def _tell_of(self, firing: Firing, run_ids: list[str], started_at: datetime, ended_at: datetime) -> None:
        """Publish what this scheduler did. If another one was first, that one publishes it."""
        if firing.runs and not run_ids:
            return
        fresh = [run for run in firing.runs if run.id in run_ids]
        verdicts: Counter[str] = Counter(verdict.verdict for verdict in firing.verdicts if verdict.verdict != "fired")
        verdicts["fired"] = len(fresh)
        if firing.skipped is not None:
            verdicts[firing.skipped.verdict] += firing.skipped.count or 0
        lateness = tuple(ended_at - run.slot for run in fresh if run.slot is not None)
        self._services.telemetry.tell(Fired(firing.task_id, +verdicts, lateness))
        for run in fresh:
            self._services.telemetry.tell(Queued(run.id, firing.task_id, run.trigger, started_at, run.traceparent))

    def _reload(self, now: datetime) -> None:
        """Take up the served generation and the stored schedules."""
        store = self._services.store
        generation = self._take_up(now)
        self._tasks = self._served(generation)
        self._generation = None if generation is None else generation.id
        digests = generation.tasks if generation is not None else {}
        current = set(digests.values())
        self._broken_ids &= current
        self._definitions = {digest: task for digest, task in self._definitions.items() if digest in current}
        rows = store.schedules()
        # Nothing is left to change, unless the clock was wrong, or another version has kept something else.
        changes = self._sound(schedule.reconcile(self._tasks, rows, now, clock_set_back=self._set_back), digests)
        if changes.put or changes.drop:
            store.change_schedules(changes.put, changes.drop, seen=rows)
            rows = store.schedules()
        self._agenda = Agenda(
            (row.task_id, row.next_fire)
            for row in rows.values()
            if row.next_fire is not None and row.task_id in self._tasks and digests[row.task_id] not in self._broken_ids
        )
        self._ready = [lot for lot in self._ready if all(self._is_served(plan.firing) for plan in lot.plans.values())]
        self._set_back = False
        self._looked_at = time.monotonic()

    def _is_served(self, firing: Firing) -> bool:
        task = self._tasks.get(firing.task_id)
        return task is not None and task.digest == firing.digest

    def _take_up(self, now: datetime) -> GenerationRow | None:
        """Apply the changes of all generations that no scheduler has taken up, each as of its own time. Return the newest
        generation."""
        store = self._services.store
        while True:
            for generation in store.unscheduled_generation():
                # A generation from the future was activated while the clock was wrong.
                at = generation.activated_at if generation.activated_at <= now + schedule.MISSED_AFTER else now
                changes = self._sound(schedule.reconcile(self._served(generation), store.schedules(), at), generation.tasks)
                if not store.schedule_generation(generation.id, changes.put, changes.drop, changes.closings):
                    break  # another scheduler was first: what is kept has changed
            newest = store.generation()
            if newest is None or newest.scheduled_at is not None:
                return newest

    def _served(self, generation: GenerationRow | None) -> dict[str, CompiledTask]:
        """Return the definitions of a generation that can be read."""
        tasks: dict[str, CompiledTask] = {}
        digests = generation.tasks if generation is not None else {}
        if sum(digest not in self._definitions for digest in digests.values()) > _DEFINITIONS_PER_READ:
            self._definitions |= self._services.store.served_definitions()
        for task_id, digest in digests.items():
            if digest not in self._definitions and digest not in self._broken_ids:
                try:
                    self._definitions[digest] = self._services.store.definition(digest)
                except StoreUnavailable:
                    raise
                except Exception as err:
                    self._leave_out(task_id, digest, err)
            if digest in self._definitions:
                tasks[task_id] = self._definitions[digest]
        return tasks

    def _sound(self, changes: ScheduleChanges, digests: Mapping[str, str]) -> ScheduleChanges:
        """Return the changes without those that follow from definitions which cannot be used here. Their rows are kept, so that
        missed slots can be caught up once the definitions are usable."""
        for task_id, reason in changes.broken.items():
            self._leave_out(task_id, digests[task_id], reason)
        undecided = {task_id for task_id in changes.drop if digests.get(task_id) in self._broken_ids}
        return replace(
            changes,
            drop=[task_id for task_id in changes.drop if task_id not in undecided],
            closings=[closing for closing in changes.closings if closing.task_id not in undecided],
        )

    def _leave_out(self, task_id: str, digest: str, err: Exception) -> None:
        if digest not in self._broken_ids:
            log.error("the schedule of `%s` is left out until the task changes: %s: %s", task_id, type(err).__name__, err)
            self._broken_ids.add(digest)
