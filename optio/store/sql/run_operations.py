"""Reading runs, their logs and totals.

In the body of the class `removals` is the module until the method of that name is defined, so such a method stands last.
"""

from optio.model.run import LogLine, Page
from optio.store import values
from optio.store.sql import (
    daily_totals,
    last_runs,
    queue_depth,
    runs,
)
from optio.store.sql.operations import Operations, peek, read


class RunOperations(Operations):
    """Reading runs, their logs and totals. The methods are documented in `optio.store.base`."""

    run = peek(runs.get)
    prompt = peek(runs.prompt)
    last_line = peek(runs.last_line)

    attempts = peek(runs.attempts)
    events = peek(runs.history)

    def runs(self, where: values.RunFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
        see = self._engine.peek if where.min_cost is None else self._engine.read
        return see(lambda tx: runs.page(tx, where, cursor, limit))

    def log(
        self, run_id: str, *, after: int = 0, before: int | None = None, limit: int = 1000, attempt: int | None = None
    ) -> list[LogLine]:
        return self._engine.peek(lambda tx: runs.log(tx, run_id, after, before, limit, attempt))

    def search_log(
        self, run_id: str, *, after: int = 0, until: int, text: str = "", errors: bool = False, limit: int = 1000
    ) -> tuple[list[int], int]:
        return self._engine.read(lambda tx: runs.search_log(tx, run_id, after, until, text, errors, limit))

    depths = peek(queue_depth.every)
    last_ends = read(queue_depth.last_ends)
    queued_runs = peek(last_runs.queued_runs)
    last_runs = peek(last_runs.last_runs)
    totals = read(daily_totals.of_tasks)
    totals_by_task = peek(daily_totals.by_task)
    totals_by_day = peek(daily_totals.by_day)
