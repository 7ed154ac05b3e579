"""A worker's part in warm pools: tell the executor which pods the served tasks want ready, and store what the executor reports
about them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from optio.executors.base import Executor, WarmDemand
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import Pool
from optio.model.registry import CompiledTask
from optio.model.run import RunState
from optio.store.base import PoolStore
from optio.store.values import RunFilter

# Unchanged demand and reports are repeated after so many seconds: the executor may have been unable to follow, and readers of
# a report want to know that it is current.
_REPORT_AGAIN_S = 30.0
# Idle pods stay away so many seconds after the last run that waited for room: by then the runs behind it have begun, or wait
# for room themselves.
_MAKES_WAY_S = 60.0
_MAKES_WAY = "it makes way for runs that wait for room"


class WarmPoolSync:
    """The synchronisation of served tasks, executor and store for one worker. When the worker stops, the pods stay for the next
    one: nothing is withdrawn. `gateway_of` returns the gateway of a task's launches."""

    def __init__(
        self,
        store: PoolStore,
        executor: Executor,
        place: str,
        scope: WorkerScope = ALL_TASKS,
        *,
        gateway_of: Callable[[CompiledTask], str | None] = lambda task: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._executor, self._place, self._scope, self._clock = store, executor, place, scope, clock
        self._gateway_of = gateway_of
        self._generation = 0
        self._tasks: Sequence[CompiledTask] = ()
        self._demands: list[WarmDemand] | None = None
        self._wanted_at = 0.0
        self._reported: list[Pool] | None = None
        self._said_at = 0.0
        self._full_at = -_MAKES_WAY_S

    def look(self) -> None:
        """Synchronise once. Raises StoreUnavailable; the executor then keeps the last demand."""
        tasks = self._store.pooled_tasks(self._generation)
        if tasks is not None:
            self._generation = tasks.generation
            self._tasks = [task for task in tasks.tasks if self._scope.includes(task.namespace)]
        paused = self._store.pauses() if self._tasks else {}
        makes_way = bool(self._tasks) and self._is_short()
        demands = [
            WarmDemand(
                task_id=task.id,
                size=0 if makes_way else task.spec.warm_pool_size,
                environment=task.spec.environment,
                gateway=self._gateway_of(task),
            )
            for task in self._tasks
            if task.spec.enabled and task.id not in paused
        ]
        now = self._clock()
        if demands != self._demands or now - self._wanted_at >= _REPORT_AGAIN_S:
            self._executor.keep_warm(demands)
            self._demands, self._wanted_at = demands, now
        self._say()

    def _is_short(self) -> bool:
        """Return whether runs wait, or just waited, for room that idle places may hold."""
        short = (
            shortage
            for shortage in self._store.shortages()
            if shortage.place == self._place and shortage.ends_help and not shortage.begun
        )
        if any(shortage.starting or self._has_queued(shortage.task_id) for shortage in short):
            self._full_at = self._clock()
        return self._clock() - self._full_at < _MAKES_WAY_S

    def _has_queued(self, task_id: str) -> bool:
        return bool(self._store.runs(RunFilter(task_id=task_id, state=RunState.QUEUED), limit=1).items)

    def _say(self) -> None:
        pools = self._executor.pools()
        if pools is None:
            self._reported = None
            return
        pools = [pool if pool.size else replace(pool, problem=_MAKES_WAY) for pool in pools]
        if pools != self._reported or self._clock() - self._said_at >= _REPORT_AGAIN_S:
            self._store.keep_pools(self._place, pools)
            self._reported, self._said_at = pools, self._clock()
