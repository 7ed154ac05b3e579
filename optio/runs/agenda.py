"""The scheduler's agenda: which tasks are due next, and when. Kept in memory by `processes.scheduler`; it knows nothing of
policies or stores."""

import heapq
from collections.abc import Iterable, Set
from datetime import datetime


class Agenda:
    """A priority queue of moments, each with the tasks due then. It is ordered by moment, not by task, because schedules fall
    on whole minutes and thousands are due at once."""

    def __init__(self, due: Iterable[tuple[str, datetime]] = ()) -> None:
        self._tasks: dict[datetime, set[str]] = {}
        self._moments: list[datetime] = []
        for task_id, moment in due:
            self.add(task_id, moment)

    @property
    def first(self) -> datetime | None:
        """Return the next moment at which a task is due, or None for an empty agenda."""
        return self._moments[0] if self._moments else None

    def add(self, task_id: str, moment: datetime) -> None:
        """Add a task to a moment, beside the moments it already has."""
        if moment not in self._tasks:
            self._tasks[moment] = set()
            heapq.heappush(self._moments, moment)
        self._tasks[moment].add(task_id)

    def tasks(self, moment: datetime) -> Set[str]:
        """Return the ids of the tasks that are due at a moment, without removing them."""
        return self._tasks.get(moment, set())

    def pop(self) -> Set[str]:
        """Remove the first moment and return the ids of its tasks. Raises IndexError for an empty agenda."""
        return self._tasks.pop(heapq.heappop(self._moments))
