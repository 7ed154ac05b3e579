"""Admission: decide which queued run starts now, and say why each other one waits. Pure: used by the store's claim and by `GET
/api/workflow-runs/{id}`.

Higher priorities start first, strictly. Tasks of one priority share fairly: the next slot goes to the task with the fewest
running runs, and to its oldest run. A task that is paused, at its own limit or out of starts never blocks another task. Within
a task, no run overtakes an older one, except those that wait for a time or for a run with the same business key.

A task that lacks room (see `model.room`) does not block others either: of all such tasks, one run at a time tries whether there
is room. A place that refuses all tasks holds them all, and one run tries for them. Each Kubernetes namespace is a queue of its
own with its own total limit, so a team cannot fill the slots of another team.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from optio.model import room
from optio.model.namespace import NO_WORKER, is_served, unserved
from optio.model.room import Shortage
from optio.model.text import format_duration
from optio.store.values import NO_LIMIT, AdmissionView, Pause, QueuedRun, Quota

GLOBAL_RULE = "OPTIO_MAX_WORKFLOW_CONCURRENT"


# The reason why a queued run waits.
HoldReason = Literal[
    "paused",  # somebody paused the task
    "no_worker",  # no worker runs, or none serves its namespace
    "delayed",  # its next attempt comes later
    "same_key",  # a run with the same business key is active
    "start_limit",  # `startLimit` is used up
    "task_limit",  # `maxConcurrent` runs of the task are active
    "no_room",  # the cluster has no room
    "refused",  # the cluster or the machine starts no agents for now
    "secret_source",  # its secrets cannot be read now
    "priority",  # only runs of higher priority may start
    "global_limit",  # `OPTIO_MAX_WORKFLOW_CONCURRENT` runs are active
]


@dataclass(frozen=True, slots=True)
class Hold:
    """The reason why a run waits, in a word and in a message.

    `ahead` counts the runs that go first: those of its task if the task as a whole is held, else those of all tasks that are
    not held. `rule` is the setting that holds the run, as it is written in its file. `occupied_by` are the runs that use it up.
    `earliest` is the earliest possible start, if that is known.
    """

    reason: HoldReason
    message: str
    ahead: int = 0
    rule: str | None = None
    occupied_by: Sequence[str] = ()
    earliest: datetime | None = None

    @property
    def position(self) -> int | None:
        """Return the position in the queue, counted from 1, or None while the run is in no queue (`delayed`, `same_key`)."""
        return None if self.reason in ("delayed", "same_key") else self.ahead + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The decision about one view of the queue: `starts` are the ids of the runs to start, in order, and `holds` has a reason
    for every other waiting run."""

    starts: list[str] = field(default_factory=list)
    holds: Mapping[str, Hold] = field(default_factory=dict)


def starts(view: AdmissionView, *, max_running: int) -> list[str]:
    """Return the ids of the runs to start now, in order: at most `max_running` at once in total, and at most as many of a task
    as its own limits allow."""
    return _AdmissionQueue(view).start(max_running)


def decide(view: AdmissionView, *, max_running: int) -> Admission:
    """Return the runs to start like `starts`, and in addition a `Hold` for each run that keeps waiting."""
    starts: list[str] = []
    holds: dict[str, Hold] = {}
    for namespace, part in _by_namespace(view):
        if not is_served(namespace, view.served):
            holds |= _without_worker(namespace, part)
            continue
        line = _AdmissionQueue(part, namespace)
        starts += line.start(max_running)
        holds |= line.holds(max_running)
    return Admission(starts=starts, holds=holds)


def explain(view: AdmissionView, *, max_running: int) -> Mapping[str, Hold]:
    """Return the reason why each run waits, for people. Runs without one are about to be taken by a worker."""
    decision = decide(view, max_running=max_running)
    if view.served is not None and not view.served:
        return {**decision.holds, **dict.fromkeys(decision.starts, Hold("no_worker", ": ".join(NO_WORKER)))}
    return decision.holds


def hold_of(run_id: str, view: AdmissionView, *, max_running: int) -> Hold | None:
    """Return the reason why a queued run waits, or None if a worker is about to take it."""
    return explain(view, max_running=max_running).get(run_id)


def hold_of_new(run: QueuedRun, namespace: str, view: AdmissionView, *, max_running: int) -> Hold | None:
    """Return the reason why a run would wait that was queued now, or None if a worker would take it at once. The view does not
    have the starts that a `startLimit` has used up while none of the task's runs waits."""
    namespaces = {**view.namespaces, run.task_id: namespace} if namespace else view.namespaces
    return hold_of(run.run_id, replace(view, waiting=[*view.waiting, run], namespaces=namespaces), max_running=max_running)


def _by_namespace(view: AdmissionView) -> Iterator[tuple[str, AdmissionView]]:
    """Yield the part of the view that each worker sees: one part for each namespace, or the whole view if one worker takes the
    runs of all tasks."""
    if view.served is None or not view.namespaces:
        yield "", view
        return
    of = view.namespaces
    for namespace in sorted({of.get(waiting.task_id, "") for waiting in view.waiting}):
        yield (
            namespace,
            replace(
                view,
                waiting=[each for each in view.waiting if of.get(each.task_id, "") == namespace],
                running={task: count for task, count in view.running.items() if of.get(task, "") == namespace},
                shortages=[each for each in view.shortages if of.get(each.task_id, each.namespace) == namespace],
                occupants=[each for each in view.occupants if of.get(each.task_id, "") == namespace],
            ),
        )


def _without_worker(namespace: str, view: AdmissionView) -> Iterator[tuple[str, Hold]]:
    message = ": ".join(unserved(namespace))
    for ahead, waiting in enumerate(view.waiting):
        pause = view.pauses.get(waiting.task_id)
        yield waiting.run_id, Hold("no_worker", message, ahead) if pause is None else _paused(pause, ahead)


class _AdmissionQueue:
    """The waiting runs of one namespace, task by task, while slots are given away."""

    def __init__(self, view: AdmissionView, namespace: str = "") -> None:
        self._view = view
        self._scope_text = f"in the namespace {namespace}" if namespace else "in all"
        self._starts: list[QueuedRun] = []
        self._running = dict(view.running)
        self._starts_left = {task: quota.count - quota.used for task, quota in view.quotas.items()}
        self._keys = {(run.task_id, run.dedupe_key): run.run_id for run in view.occupants if run.dedupe_key is not None}
        # A task may be short of room in several places: the latest report counts.
        self._short = {shortage.task_id: shortage for shortage in sorted(view.shortages, key=lambda each: each.at)}
        self._starting = {task: shortage.starting for task, shortage in self._short.items()}
        self._paused: dict[str, list[QueuedRun]] = {}
        self._delayed: list[QueuedRun] = []
        self._same_key: list[QueuedRun] = []
        self._queues: dict[str, deque[QueuedRun]] = {}
        for waiting in view.waiting:
            if waiting.task_id in view.pauses:
                self._paused.setdefault(waiting.task_id, []).append(waiting)
            # A run that was queued in the future was queued before the clock was set back: it is due.
            elif waiting.not_before > view.now >= waiting.queued_at:
                self._delayed.append(waiting)
            else:
                self._queues.setdefault(waiting.task_id, deque()).append(waiting)
        self._refusal = self._short.get(room.WHOLE_PLACE)
        self._trial = self._next_trial()
        # A queue as long as the view's limit may continue behind it: the view has no more runs of a task than may start.
        self._cut_ids = {
            task
            for task, queue in self._queues.items()
            if view.heads < NO_LIMIT and len(queue) >= min(view.heads, queue[0].max_concurrent - self._running.get(task, 0))
        }

    def start(self, max_running: int) -> list[str]:
        """Give away the free slots and return the ids of the runs that start."""
        order = self._order()
        total = sum(self._running.values())
        while order and total < max_running:
            task = order[0][-1]
            queue = self._queues[task]
            if not queue:
                break  # its turn, but its next run is not in the view: the next admission continues from here
            if not self._may(task, queue[0]):
                heapq.heappop(order)
                continue
            waiting = queue.popleft()
            if self._key(waiting) in self._keys:
                self._same_key.append(waiting)
            else:
                self._start(waiting)
                total += 1
            self._next(order, waiting)
        return [waiting.run_id for waiting in self._starts]

    def _may(self, task: str, waiting: QueuedRun) -> bool:
        return self._within_limits(task, waiting) and self._has_room(task)

    def _within_limits(self, task: str, waiting: QueuedRun) -> bool:
        return self._running.get(task, 0) < waiting.max_concurrent and self._starts_left.get(task, 1) > 0

    def _has_room(self, task: str) -> bool:
        if self._refusal is not None:
            return task == self._trial and not self._starting[room.WHOLE_PLACE]
        shortage = self._short.get(task)
        if shortage is None:
            return True
        if shortage.begun:
            return self._starting[task] < shortage.at_once
        return task == self._trial and not self._starting[task]

    def _could_start(self, task: str, queue: deque[QueuedRun]) -> bool:
        return self._within_limits(task, queue[0]) and any(self._key(waiting) not in self._keys for waiting in queue)

    def _next_trial(self) -> str | None:
        """Return the task whose turn it is to try whether there is room: the one that has waited for room the longest; where
        all are refused, the one whose turn it is anyway, if nothing else holds it."""
        if self._refusal is not None:
            if self._starting[room.WHOLE_PLACE] or not self._refusal.is_due(self._view.now):
                return None
            ready = [
                (task in self._short, self._turn(task, queue[0]))
                for task, queue in self._queues.items()
                if self._could_start(task, queue)
            ]
            return min(ready)[1][-1] if ready else None
        short = [shortage for shortage in self._short.values() if not shortage.begun]
        now = self._view.now
        if any(each.starting or now - room.MIN_TRY_INTERVAL < each.at <= now for each in short):
            return None
        due = [
            (each.due, each.task_id)
            for each in short
            if each.is_due(now) and (queue := self._queues.get(each.task_id)) and self._could_start(each.task_id, queue)
        ]
        return min(due)[1] if due else None

    def _start(self, waiting: QueuedRun) -> None:
        task = waiting.task_id
        self._starts.append(waiting)
        self._running[task] = self._running.get(task, 0) + 1
        for short in {room.WHOLE_PLACE, task} & self._starting.keys():
            self._starting[short] += 1
        if task in self._starts_left:
            self._starts_left[task] -= 1
        if waiting.dedupe_key is not None:
            self._keys[task, waiting.dedupe_key] = waiting.run_id

    @staticmethod
    def _key(waiting: QueuedRun) -> tuple[str, str] | None:
        return None if waiting.dedupe_key is None else (waiting.task_id, waiting.dedupe_key)

    # The order: priority, the fewest running, the oldest run

    def _order(self) -> "list[_Turn]":
        order = [self._turn(task, queue[0]) for task, queue in self._queues.items() if queue]
        heapq.heapify(order)
        return order

    def _turn(self, task: str, head: QueuedRun) -> "_Turn":
        return (-head.priority, self._running.get(task, 0), head.seq, task)

    def _next(self, order: "list[_Turn]", taken_run: QueuedRun) -> None:
        """Move the first task of the order to its next run, or drop it from the order."""
        task = order[0][-1]
        queue = self._queues[task]
        if queue:
            heapq.heapreplace(order, self._turn(task, queue[0]))
        elif task in self._cut_ids and self._may(task, taken_run):
            heapq.heapreplace(order, self._turn(task, taken_run))
        else:
            heapq.heappop(order)

    # Why the others wait

    def holds(self, max_running: int) -> Iterator[tuple[str, Hold]]:
        """Yield a hold for each run that was not started. Call it after `start`."""
        for task, paused in self._paused.items():
            pause = self._view.pauses[task]
            yield from ((waiting.run_id, _paused(pause, ahead)) for ahead, waiting in enumerate(paused))
        for waiting in self._delayed:
            message = f"starts at {_seconds(waiting.not_before)} at the earliest"
            yield waiting.run_id, Hold("delayed", message, earliest=waiting.not_before)
        for task, queue in self._queues.items():
            other_runs = deque[QueuedRun]()
            for waiting in queue:
                (self._same_key if self._key(waiting) in self._keys else other_runs).append(waiting)
            self._queues[task] = other_runs
        for waiting in self._same_key:
            holder = self._keys[waiting.task_id, waiting.dedupe_key or ""]
            rule, message = f"dedupe: {{key: {waiting.dedupe_key}}}", f"run {holder} has the same key and is still running"
            yield waiting.run_id, Hold("same_key", message, rule=rule, occupied_by=(holder,))
        for task, queue in self._queues.items():
            if queue and self._starts_left.get(task, 1) <= 0:
                yield from self._out_of_starts(task, queue)
            elif queue and not self._within_limits(task, queue[0]):
                yield from self._at_its_limit(task, queue)
            elif queue and not self._has_room(task):
                yield from self._without_room(self._refusal or self._short[task], queue)
        yield from self._in_line(max_running)

    def _out_of_starts(self, task: str, queue: deque[QueuedRun]) -> Iterator[tuple[str, Hold]]:
        quota = self._view.quotas[task]
        starts = [*quota.starts, *((self._view.now, waiting.run_id) for waiting in self._starts if waiting.task_id == task)]
        window = format_duration(quota.window)
        message = f"{quota.used + len(starts) - len(quota.starts)} of {quota.count} starts in {window} are used"
        rule = f"startLimit: {{count: {quota.count}, per: {window}}}"
        by = tuple(run_id for _, run_id in starts)
        for ahead, waiting in enumerate(queue):
            yield waiting.run_id, Hold("start_limit", message, ahead, rule, by, _opening(quota, starts, ahead))

    def _at_its_limit(self, task: str, queue: deque[QueuedRun]) -> Iterator[tuple[str, Hold]]:
        limit = queue[0].max_concurrent
        by = self._occupants(task)
        for ahead, waiting in enumerate(queue):
            message = f"the task runs at most {limit} at once"
            yield waiting.run_id, Hold("task_limit", message, ahead, f"maxConcurrent: {limit}", by)

    def _without_room(self, shortage: Shortage, queue: deque[QueuedRun]) -> Iterator[tuple[str, Hold]]:
        due = max(shortage.due, self._view.now)
        next_text = f"the next try is due at {_seconds(due)}"
        if self._starting[shortage.task_id]:
            next_text = "a run of the task tries now" if shortage.task_id else "one run tries now"
        elif shortage.is_due(self._view.now):
            next_text = "the next try is due now, or when that of another task has ended"
        reason: HoldReason = "no_room" if shortage.lacks_room else "refused"
        if shortage.reason == room.SECRET_SOURCE:
            reason = "secret_source"
        for ahead, waiting in enumerate(queue):
            yield waiting.run_id, Hold(reason, f"{shortage.message}; {next_text}", ahead, None, (), None if ahead else due)

    def _in_line(self, max_running: int) -> Iterator[tuple[str, Hold]]:
        """Yield the runs that only the total limit holds, in the order in which they would get slots if nothing else
        changed."""
        for task, queue in list(self._queues.items()):
            if queue and not self._may(task, queue[0]):
                del self._queues[task]
        total, by = sum(self._running.values()), self._occupants(None)
        full = f"{total} of {max_running} runs are running {self._scope_text}"
        rule = f"{GLOBAL_RULE}={max_running}"
        ahead = 0
        level, above = None, 0  # the priority that has its turn, and how many runs of higher ones go first
        self._cut_ids = set()
        order = self._order()
        while order:
            waiting = self._queues[order[0][-1]].popleft()
            if waiting.priority != level:
                level, above = waiting.priority, ahead
            if 0 < ahead == above:
                first = "1 run of a higher priority goes" if ahead == 1 else f"{ahead} runs of a higher priority go"
                message = f"{first} first; {full}"
                yield waiting.run_id, Hold("priority", message, ahead, f"priority: {level}", by)
            else:
                yield waiting.run_id, Hold("global_limit", full, ahead, rule, by)
            self._running[waiting.task_id] = self._running.get(waiting.task_id, 0) + 1
            ahead += 1
            self._next(order, waiting)

    def _occupants(self, task: str | None) -> tuple[str, ...]:
        """Return the running runs of one task, or of all, including those that start now."""
        running = [run.run_id for run in self._view.occupants if task in (None, run.task_id)]
        return (*running, *(waiting.run_id for waiting in self._starts if task in (None, waiting.task_id)))


_Turn = tuple[int, int, int, str]


def _paused(pause: Pause, ahead: int) -> Hold:
    reason = f": {pause.reason}" if pause.reason else ""
    return Hold("paused", f"the task is paused by {pause.actor} since {_seconds(pause.at)}{reason}", ahead)


def _opening(quota: Quota, starts: Sequence[tuple[datetime, str]], ahead: int) -> datetime | None:
    """Return when the window has room for one more start behind `ahead` others, if each of them starts as soon as it can."""
    latest = starts[-quota.count :]
    if len(latest) < quota.count:
        return None
    rounds, place = divmod(ahead, quota.count)
    return latest[place][0] + (rounds + 1) * quota.window


def _seconds(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
