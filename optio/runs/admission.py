"""Admission: which queued run starts now, and why each other one waits. Pure.

Fair between tasks: the next slot goes to the task with the fewest running runs, the oldest of its runs first. A task at its
own limit never stands in the way of another.
"""

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from optio.store.base import AdmissionView, Waiting


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a run waits: `delayed`, `task_limit` or `global_limit`; `ahead` counts the runs that go first."""

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
        if waiting.not_before > view.now:
            at = waiting.not_before.isoformat(timespec="seconds")
            holds[waiting.run_id] = Hold("delayed", f"starts at {at} at the earliest")
        else:
            queues.setdefault(waiting.task_id, deque()).append(waiting)
    running = dict(view.running)
    free = max_running - sum(running.values())
    heap = [(running.get(task, 0), queue[0].seq, task) for task, queue in queues.items()]
    heapq.heapify(heap)
    starts: list[str] = []
    place = 0
    while heap:
        count, _, task = heapq.heappop(heap)
        queue = queues[task]
        head = queue[0]
        if count >= head.max_concurrent:
            _hold_task(holds, queue, count)
            continue
        queue.popleft()
        if len(starts) < free:
            starts.append(head.run_id)
        else:
            total = sum(view.running.values())
            message = f"{total} of {max_running} runs are running in all"
            holds[head.run_id] = Hold("global_limit", message, place)
            place += 1
        if queue:
            heapq.heappush(heap, (count + 1, queue[0].seq, task))
    return Admission(starts=starts, holds=holds)


def _hold_task(holds: dict[str, Hold], queue: deque[Waiting], count: int) -> None:
    for ahead, waiting in enumerate(queue):
        message = f"the task runs at most {waiting.max_concurrent} at once"
        holds[waiting.run_id] = Hold("task_limit", message, ahead)
