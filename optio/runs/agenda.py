"""The agenda of a scheduler: which tasks are due next, and when."""

import heapq
from collections.abc import Iterable, Set
from datetime import datetime


class Agenda:
    """By moment, not by task: schedules fall on whole minutes, so thousands are due at the same one."""

    def __init__(self, due: Iterable[tuple[str, datetime]] = ()) -> None:
        self._tasks: dict[datetime, set[str]] = {}
        self._moments: list[datetime] = []
        for task_id, moment in due:
            self.add(task_id, moment)

    @property
    def first(self) -> datetime | None:
        """The next moment at which a task is due."""
        return self._moments[0] if self._moments else None

    def add(self, task_id: str, moment: datetime) -> None:
        """The task is due then, too."""
        if moment not in self._tasks:
            self._tasks[moment] = set()
            heapq.heappush(self._moments, moment)
        self._tasks[moment].add(task_id)

    def tasks(self, moment: datetime) -> Set[str]:
        """Who is due then."""
        return self._tasks.get(moment, set())

    def pop(self) -> Set[str]:
        """Who is due at the first moment; it is over then."""
        return self._tasks.pop(heapq.heappop(self._moments))
