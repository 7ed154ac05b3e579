"""Schedules, slots and warm pools.

In the body of the class `removals` is the module until the method of that name is defined, so such a method stands last.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime

from optio.model.pool import Pool
from optio.model.run import Page
from optio.store import values
from optio.store.sql import pools as places
from optio.store.sql import (
    registry,
    schedules,
)
from optio.store.sql.group_commit import DiskLimited, DiskUse
from optio.store.sql.operations import Operations, peek


class ScheduleOperations(Operations):
    """Schedules, slots and warm pools. The methods are documented in `optio.store.base`."""

    slot_counts = peek(schedules.count_slots)
    schedules = peek(schedules.every)
    unscheduled_generation = peek(registry.unscheduled_generation)

    def schedule_generation(
        self,
        generation: int,
        put: Sequence[values.ScheduleRow],
        drop: Sequence[str],
        closings: Sequence[values.ClosedSchedule] = (),
    ) -> bool:
        return self._engine.change(lambda tx: schedules.schedule_generation(tx, generation, put, drop, closings))

    def change_schedules(
        self, put: Sequence[values.ScheduleRow], drop: Sequence[str], *, seen: Mapping[str, values.ScheduleRow] | None = None
    ) -> None:
        self._engine.change(lambda tx: schedules.change(tx, put, drop, seen))

    def pooled_tasks(self, seen: int = 0) -> values.PooledTasks | None:
        if seen and self._engine.peek(places.newest) == seen:
            return None
        return self._engine.read(places.pooled_tasks)

    def keep_pools(self, place: str, pools: Sequence[Pool]) -> None:
        self._engine.change(DiskLimited(DiskUse.HALF, lambda tx: places.keep(tx, place, pools)))

    pool_reports = peek(places.reports)

    def placed_starts(self, since: datetime, most: int = 100_000) -> list[values.PlacedStart]:
        return self._engine.peek(lambda tx: places.starts(tx, since, most))

    def arrivals(self, since: datetime, *, task_id: str | None = None, most: int = 100_000) -> list[values.ClaimedAttempt]:
        return self._engine.peek(lambda tx: places.arrivals(tx, since, task_id, most))

    def slots(
        self, task_id: str, where: values.SlotFilter = values.EVERY_SLOT, *, cursor: str | None = None, limit: int = 50
    ) -> Page:
        return self._engine.read(lambda tx: schedules.slots(tx, task_id, where, cursor, limit))

    def ready(self, firings: Sequence[values.Firing]) -> Callable[[], Future[list[list[str] | Exception]]]:
        operation = schedules.FireSchedules([schedules.FireSchedule(firing) for firing in firings])
        return lambda: self._engine.write(operation)

    def fire(self, firing: values.Firing) -> Future[list[str]]:
        return self._engine.write(schedules.FireSchedule(firing))
