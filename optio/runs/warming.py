"""Warming: which places the served tasks want kept ready, for the executor; what it makes of that, for the store."""

import time
from collections.abc import Callable, Sequence

from optio.executors.base import Executor, Warm
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import Pool
from optio.model.registry import CompiledTask
from optio.store.base import Store

# What has not changed is said again after so many seconds: who listens may not have been able to do it, and who reads wants to
# know that somebody still says it.
_SAID_AGAIN = 30.0


class Warming:
    """One worker's part in it. When a worker stops, the places stay for the next one: nothing is said then."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        place: str,
        scope: WorkerScope = ALL_TASKS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._executor, self._place, self._scope, self._clock = store, executor, place, scope, clock
        self._generation = 0
        self._tasks: Sequence[CompiledTask] = ()
        self._wanted: list[Warm] | None = None
        self._wanted_at = 0.0
        self._said: list[Pool] | None = None
        self._said_at = 0.0

    def look(self) -> None:
        """Once; raises StoreUnavailable, and then all that was wanted is still wanted."""
        found = self._store.pooled(self._generation)
        if found is not None:
            self._generation = found.generation
            self._tasks = [task for task in found.tasks if self._scope.includes(task.namespace)]
        paused = self._store.pauses() if self._tasks else {}
        wanted = [
            Warm(task_id=task.id, size=task.spec.warm_pool_size, environment=task.spec.environment)
            for task in self._tasks
            if task.spec.enabled and task.id not in paused
        ]
        now = self._clock()
        if wanted != self._wanted or now - self._wanted_at >= _SAID_AGAIN:
            self._executor.keep_warm(wanted)
            self._wanted, self._wanted_at = wanted, now
        self._say()

    def _say(self) -> None:
        pools = self._executor.pools()
        if pools is None:
            self._said = None
        elif pools != self._said or self._clock() - self._said_at >= _SAID_AGAIN:
            self._store.keep_pools(self._place, pools)
            self._said, self._said_at = pools, self._clock()
