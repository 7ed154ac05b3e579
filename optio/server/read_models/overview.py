"""The overview of tasks: what each is doing, how its last runs ended, and what it cost in 30 days. Used by `GET /api/overview`
and the page `/tasks`.

A page costs what it shows: figures are read for the tasks on it, and everything that depends on the served definitions alone
(orders, texts to search, next times, worst cases) is computed once for each generation.
"""

import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import accumulate

from optio.errors import Invalid, Problem
from optio.model.registry import CompiledTask, Registry
from optio.model.run_totals import RunTotals
from optio.plan import money
from optio.scheduling import cron
from optio.server.bodies.overview import LastRunBody, OverviewBody, TaskOrder, TaskOverviewBody, TaskState
from optio.server.read_models.policy import ServedPolicy
from optio.server.read_models.totals import AllTotals, RecentTotals, first_day
from optio.server.serializers import milliseconds, to_body
from optio.store.base import Store
from optio.store.values import Pause
from optio.tree.served import Snapshot

DAYS = 30
LAST_RUNS = 20
_NO_TOTALS = RunTotals()
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """A filter for the overview; all given conditions must hold. `words` are searched in id, name, owner and description."""

    words: str = ""
    state: TaskState | None = None
    owner: str | None = None
    runtime: str | None = None


class _TaskIndex:
    """What depends on the tasks of one generation alone."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.ids = sorted(registry.tasks)
        self._fires: dict[tuple[str, str], datetime | None] = {}
        # The orders that change with time, and what each is computed from: the first fire, and the totals.
        self._by_next: tuple[datetime | None, list[str]] = (None, [])
        self._by_cost: tuple[AllTotals | None, list[str]] = (None, [])

    @cached_property
    def names(self) -> list[str]:
        """The ids in the order of names."""
        tasks = self.registry.tasks
        return sorted(self.ids, key=lambda task_id: (tasks[task_id].spec.name.casefold(), task_id))

    @cached_property
    def _texts(self) -> tuple[str, list[int]]:
        """What is searched, in lower case: the text of all tasks in the order of ids, and where each begins."""
        tasks = self.registry.tasks
        specs = [tasks[task_id].spec for task_id in self.ids]
        texts = [
            f"{task_id}\n{spec.name}\n{spec.owner or ''}\n{spec.description or ''}\n".lower()
            for task_id, spec in zip(self.ids, specs, strict=True)
        ]
        return "".join(texts), list(accumulate(map(len, texts), initial=0))

    def with_words(self, words: Sequence[str]) -> Sequence[str]:
        """Return the ids of the tasks that have all words, in lower case and without white space; with no word, all of them."""
        if not words:
            return self.ids
        ids = self._with_word(words[0])
        for word in words[1:]:
            having = frozenset(self._with_word(word))
            ids = [task_id for task_id in ids if task_id in having]
        return ids

    def _with_word(self, word: str) -> list[str]:
        # One search through one text takes a tenth of the time of ten thousand.
        text, starts = self._texts
        ids_found = []
        at = text.find(word)
        while at >= 0:
            place = bisect_right(starts, at)
            ids_found.append(self.ids[place - 1])
            at = text.find(word, starts[place])
        return ids_found

    @cached_property
    def owners(self) -> list[str]:
        return sorted({task.spec.owner for task in self.registry.tasks.values() if task.spec.owner})

    @cached_property
    def runtimes(self) -> list[str]:
        return sorted({task.spec.agent_runtime for task in self.registry.tasks.values()})

    @cached_property
    def worst_case(self) -> money.TotalSpend:
        return money.total_spend(self.registry.tasks.values())

    def next_fire(self, task: CompiledTask, now: datetime) -> datetime | None:
        """Return the next time of a task's schedule. Tasks with one schedule share it, until it is over."""
        trigger = task.spec.schedule
        if trigger is None or not trigger.enabled or not task.spec.enabled:
            return None
        key = trigger.config.cron_expression, trigger.config.timezone
        fire = self._fires.get(key, _NEVER)
        if fire is not None and (fire is _NEVER or fire <= now):
            fire = self._fires[key] = cron.next_fire(*key, now)
        return fire

    def by_next(self, now: datetime) -> list[str]:
        """Return all ids in the order of next fires. The order stands until the first of them is over."""
        until, ids_in_order = self._by_next
        if until is None or until <= now:
            tasks = self.registry.tasks
            fires = {task_id: self.next_fire(tasks[task_id], now) or _NEVER for task_id in self.ids}
            ids_in_order = sorted(self.ids, key=fires.__getitem__)
            self._by_next = (min(fires.values(), default=_NEVER), ids_in_order)
        return ids_in_order

    def by_cost(self, totals: AllTotals) -> list[str]:
        """Return all ids in the order of costs, the highest first."""
        totals_read, ids_in_order = self._by_cost
        if totals_read is not totals:
            costs = totals.costs
            ids_in_order = sorted(self.ids, key=lambda task_id: -costs.get(task_id, 0))
            self._by_cost = (totals, ids_in_order)
        return ids_in_order


class Overview:
    """The overview of the tasks that a server serves. Threads call it, not the loop."""

    def __init__(self, store: Store, totals: RecentTotals, policy: ServedPolicy) -> None:
        self._store, self._totals, self._policy = store, totals, policy
        self._lock = threading.Lock()
        self._index = _TaskIndex(Registry())

    def choices(self, snapshot: Snapshot) -> tuple[list[str], list[str]]:
        """Return the owners and the runtimes of all tasks, for filters."""
        index = self._index_of(snapshot)
        return index.owners, index.runtimes

    def ids_with_words(self, snapshot: Snapshot, words: Sequence[str]) -> Sequence[str]:
        """Return the ids of the tasks that have all words, in lower case, in their id, name, owner or description."""
        return self._index_of(snapshot).with_words(words)

    def worst_case(self, snapshot: Snapshot) -> money.TotalSpend:
        """Return the most that all triggers together may spend in 30 days, computed once for a generation."""
        return self._index_of(snapshot).worst_case

    def read(
        self, snapshot: Snapshot, filters: TaskFilter, *, order: TaskOrder = "id", cursor: str | None = None, limit: int = 50
    ) -> OverviewBody:
        """Return a page of tasks. Raises Invalid for a cursor of a task that is not there any more, but in the order of ids."""
        index, pauses, now = self._index_of(snapshot), self._store.pauses(), self._store.now()
        ids = self._matching(index, snapshot, pauses, filters)
        ids = self._ordered(index, ids, order, now)
        first = 0 if cursor is None else _after(ids, cursor, order)
        page_ids = ids[first : first + limit]
        has_more = len(ids) > first + limit
        return OverviewBody(
            items=self._bodies([snapshot.registry.tasks[task_id] for task_id in page_ids], index, snapshot, pauses, now),
            next=page_ids[-1] if has_more else None,
            matching=len(ids),
            generation=snapshot.number,
        )

    def _index_of(self, snapshot: Snapshot) -> _TaskIndex:
        with self._lock:
            if self._index.registry is not snapshot.registry:
                self._index = _TaskIndex(snapshot.registry)
            return self._index

    def _matching(
        self, index: _TaskIndex, snapshot: Snapshot, pauses: Mapping[str, Pause], filters: TaskFilter
    ) -> Sequence[str]:
        tasks, ids = snapshot.registry.tasks, index.with_words(filters.words.lower().split())
        if filters.owner is not None:
            ids = [task_id for task_id in ids if tasks[task_id].spec.owner == filters.owner]
        if filters.runtime is not None:
            ids = [task_id for task_id in ids if tasks[task_id].spec.agent_runtime == filters.runtime]
        if filters.state is not None:
            ids = [task_id for task_id in ids if state_of(tasks[task_id], snapshot, pauses) == filters.state]
        return ids

    def _ordered(self, index: _TaskIndex, ids: Sequence[str], order: TaskOrder, now: datetime) -> Sequence[str]:
        if order == "id":
            return ids
        if order == "name":
            ids_in_order = index.names
        elif order == "next":
            ids_in_order = index.by_next(now)
        else:
            ids_in_order = index.by_cost(self._totals.of_days(DAYS))
        if len(ids) == len(ids_in_order):
            return ids_in_order
        id_set = frozenset(ids)
        return [task_id for task_id in ids_in_order if task_id in id_set]

    def _bodies(
        self,
        tasks: Sequence[CompiledTask],
        index: _TaskIndex,
        snapshot: Snapshot,
        pauses: Mapping[str, Pause],
        now: datetime,
    ) -> list[TaskOverviewBody]:
        ids = [task.id for task in tasks]
        if not ids:
            return []
        all_totals = self._store.totals(ids, first_day(now, DAYS))
        runs, queued = self._store.last_runs(ids, LAST_RUNS), self._store.queued_runs(ids)
        ceiling, bodies = self._policy.task_month_usd, []
        for task in tasks:
            spec, pause, totals = task.spec, pauses.get(task.id), all_totals.get(task.id, _NO_TOTALS)
            body = to_body(
                TaskOverviewBody,
                totals,
                id=task.id,
                name=spec.name,
                owner=spec.owner,
                runtime=spec.agent_runtime,
                state=state_of(task, snapshot, pauses),
                pause_reason=None if pause is None else pause.reason,
                triggers=[kind for kind in ("schedule", "webhook") if getattr(spec, kind) is not None],
                next_fire=index.next_fire(task, now),
                queued=queued.get(task.id, 0),
                last_runs=[
                    to_body(LastRunBody, run, duration_ms=milliseconds(run.duration_s)) for run in runs.get(task.id, ())
                ],
                median_duration_ms=milliseconds(totals.duration_s()),
                worst_case_usd=money.task_spend(task).bound,
                ceiling_usd=ceiling,
            )
            bodies.append(body)
        return bodies


def state_of(task: CompiledTask, snapshot: Snapshot, pauses: Mapping[str, Pause]) -> TaskState:
    """Return the state of a task: of several that hold, the one that a person set first."""
    if task.id in pauses:
        return "paused"
    if not task.spec.enabled:
        return "disabled"
    if task.id in snapshot.kept:
        return "stale"
    return "held" if task.id in snapshot.held else "served"


def _after(ids: Sequence[str], cursor: str, order: TaskOrder) -> int:
    if order == "id":
        return bisect_right(ids, cursor)
    try:
        return ids.index(cursor) + 1
    except ValueError:
        raise Invalid("the cursor is invalid", [Problem("/cursor", "its task is not listed any more: begin again")]) from None
