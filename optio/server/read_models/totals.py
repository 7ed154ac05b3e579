"""The totals of all tasks over some days, kept for a minute: they are read from a row for each task and day, which takes too
long for every page. While they are read again, the earlier ones are answered. Used by the overview and the costs."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property

from optio.errors import OptioError
from optio.model.run_totals import RunTotals
from optio.store.base import Store

log = logging.getLogger(__name__)
_FRESH_S = 60.0


@dataclass(frozen=True, kw_only=True)
class AllTotals:
    """The totals from `since` to the time of reading, by task and by day, without durations. What is computed from all tasks is
    computed once."""

    since: date
    at: datetime
    by_task: Mapping[str, RunTotals]
    by_day: Mapping[date, RunTotals]

    @cached_property
    def costs(self) -> Mapping[str, Decimal]:
        """The cost of each task, the highest first."""
        costs = {task_id: totals.cost for task_id, totals in self.by_task.items()}
        return {task_id: costs[task_id] for task_id in sorted(costs, key=lambda task_id: (-costs[task_id], task_id))}

    @cached_property
    def cost(self) -> Decimal:
        """The cost of all tasks."""
        return sum(self.costs.values(), Decimal(0))

    @cached_property
    def ended(self) -> int:
        """The number of runs that ended."""
        return sum(totals.ended for totals in self.by_task.values())


class RecentTotals:
    """The cache. Threads call it, not the loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._totals_by_days: dict[int, AllTotals] = {}
        self._reading: set[int] = set()

    def of_days(self, days: int) -> AllTotals:
        """Return the totals of the last days, today included, as they were a minute ago at most, or when they were last asked
        for. Raises StoreUnavailable if there are none yet."""
        now = self._store.now()
        with self._lock:
            totals = self._totals_by_days.get(days)
            if totals is None:
                return self._read(days, now)
            is_old = not timedelta(0) <= now - totals.at < timedelta(seconds=_FRESH_S)
            if is_old and days not in self._reading:
                self._reading.add(days)
                threading.Thread(target=self._read_again, args=(days, now), name="totals", daemon=True).start()
        return totals

    def _read(self, days: int, now: datetime) -> AllTotals:
        since = first_day(now, days)
        by_day = self._store.totals_by_day(since, None)
        totals = AllTotals(
            since=since,
            at=now,
            by_task=self._store.totals_by_task(since),
            by_day={day: totals_of_day[""] for day, totals_of_day in by_day.items()},
        )
        self._totals_by_days[days] = totals
        return totals

    def _read_again(self, days: int, now: datetime) -> None:
        try:
            self._read(days, now)
        except OptioError as err:
            log.warning("the totals of tasks could not be read: %s", err)
        finally:
            self._reading.discard(days)


def first_day(now: datetime, days: int) -> date:
    """Return the first of so many days, of which today is the last."""
    return now.date() - timedelta(days=days - 1)
