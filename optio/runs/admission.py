"""Admission: which queued run starts now, and why each other one waits. Pure.

Fair between tasks: the next slot goes to the task with the fewest running runs, the oldest of its runs first. A task at its
own limit never stands in the way of another; of one task, no run overtakes an older one.
"""

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from optio.store.base import AdmissionView, Waiting


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a run waits: `delayed`, `task_limit` or `global_limit`. `ahead` counts the runs that go first: those of its task when
    that is at its limit, else those of all tasks that are not."""

    reason: str
    message: str
    ahead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """`starts` in their order, and a hold for every other waiting run."""

    starts: list[str] = field(default_factory=list)
    holds: Mapping[str, Hold] = field(default_factory=dict)


def decide(view: AdmissionView, *, max_running: int) -> Admission:
    """Never admits more than `max_running` in all, nor more than a task's own limit."""
    holds: dict[str, Hold] = {}
    queues: dict[str, deque[Waiting]] = {}
    for waiting in view.waiting:
        # What was queued in the future was queued before the clock was set back: it is due.
        if waiting.not_before > view.now >= waiting.queued_at:
            at = waiting.not_before.isoformat(timespec="seconds")
            holds[waiting.run_id] = Hold("delayed", f"starts at {at} at the earliest")
        else:
            queues.setdefault(waiting.task_id, deque()).append(waiting)
    running = {task: view.running.get(task, 0) for task in queues}
    total = sum(view.running.values())
    starts: list[str] = []
    order = _order(queues, running)
    while order and total < max_running:
        task = order[0][-1]
        queue = queues[task]
        if running[task] >= queue[0].max_concurrent:
            heapq.heappop(order)
            continue
        starts.append(queue.popleft().run_id)
        running[task] += 1
        total += 1
        _next(order, queues, running)
    for task, queue in list(queues.items()):
        if queue and running[task] >= queue[0].max_concurrent:
            message = f"the task runs at most {queue[0].max_concurrent} at once"
            holds |= {waiting.run_id: Hold("task_limit", message, ahead) for ahead, waiting in enumerate(queue)}
            del queues[task]
    order = _order(queues, running)
    message = f"{total} of {max_running} runs are running in all"
    ahead = 0
    while order:
        task = order[0][-1]
        holds[queues[task].popleft().run_id] = Hold("global_limit", message, ahead)
        running[task] += 1
        ahead += 1
        _next(order, queues, running)
    return Admission(starts=starts, holds=holds)


_Order = list[tuple[int, int, str]]


def _order(queues: Mapping[str, deque[Waiting]], running: Mapping[str, int]) -> _Order:
    """A heap of the tasks that have something waiting: (running, the oldest run, task)."""
    order = [(running[task], queue[0].seq, task) for task, queue in queues.items() if queue]
    heapq.heapify(order)
    return order


def _next(order: _Order, queues: Mapping[str, deque[Waiting]], running: Mapping[str, int]) -> None:
    """The first task of the heap has moved on."""
    task = order[0][-1]
    if queues[task]:
        heapq.heapreplace(order, (running[task], queues[task][0].seq, task))
    else:
        heapq.heappop(order)
