"""The history of what was served: which tasks each generation added, changed and removed, and what that did.

Generations and definitions never change, so everything that is computed of them is kept. Used by the API and the pages.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from optio.errors import NotFound
from optio.model.registry import CompiledTask, Registry
from optio.model.run import Run
from optio.plan.compare import Plan, compare_sides
from optio.plan.effect import Forecast
from optio.plan.side import Side
from optio.store.base import Store
from optio.store.values import GenerationHead

# A generation that changes more tasks, as the first one does, is compared in part.
MAX_COMPARED = 200
# Runs of one generation are counted so far.
MAX_COUNTED = 1_000
_MAX_PLANS = 256
# Generations in which a page looks for the changes of one task.
_MAX_SCANNED = 100
_NO_LIMIT = 2**62
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


def commit_of_run(store: Store, run: Run) -> str | None:
    """Return the commit of the generation that was served when the run was accepted; None where none is known."""
    number = run.generation
    heads = [] if number is None else store.generation_heads(number + 1, 1)
    return next((head.commit for head in heads if head.id == number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChanges:
    """The sorted ids of the tasks that a generation added, changed and removed, and how many it has."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]
    tasks: int

    @property
    def all(self) -> list[str]:
        """Return the ids of all three, sorted."""
        return sorted([*self.added, *self.changed, *self.removed])


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedGeneration:
    """A generation with its changes: None where the one before it is no longer stored. `until` is when the next one was
    served, `runs` how many were accepted meanwhile, up to MAX_COUNTED."""

    head: GenerationHead
    changes: TaskChanges | None
    until: datetime | None
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDifference:
    """The effects of a generation, against the one `before` it. `left` tasks changed too, and were not compared; `lost` are
    those whose definitions can no longer be read."""

    before: GenerationHead | None
    plan: Plan
    left: int
    lost: Sequence[str]


class GenerationHistory:
    """Reads generations, newest first. Any thread may use it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes: dict[int, TaskChanges] = {}
        self._lock = threading.Lock()
        self._plan = lru_cache(_MAX_PLANS)(self._compare)

    def page(self, cursor: int | None, limit: int, task_id: str | None = None) -> tuple[list[ServedGeneration], int | None]:
        """Return generations older than the cursor, and the cursor of the next page. With a task, only those that added,
        changed or removed it: a page may then hold fewer than `limit`, as it looks at a bounded number of generations."""
        count = limit if task_id is None else _MAX_SCANNED
        heads = self._store.generation_heads(_NO_LIMIT if cursor is None else cursor, count + 1)
        newer = None if cursor is None else self._head_after(cursor - 1)
        generations: list[ServedGeneration] = []
        tasks: dict[int, Mapping[str, str]] = {}
        for place, head in enumerate(heads[:count]):
            older = heads[place + 1] if place + 1 < len(heads) else None
            changes = self._changes_of(head, older, tasks)
            if task_id is None or (changes is not None and task_id in changes.all):
                generations.append(self._generation_of(head, changes, newer))
            if len(generations) == limit and older is not None:
                return generations, head.id
            newer = head
        return generations, heads[count - 1].id if len(heads) > count else None

    def get(self, number: int) -> ServedGeneration:
        """Return one generation; raise NotFound."""
        head, older = self._pair(number)
        return self._generation_of(head, self._changes_of(head, older, {}), self._head_after(number))

    def difference(self, number: int, task_id: str | None = None) -> GenerationDifference:
        """Return what a generation did, or did to one task, as `optio plan` tells it; raise NotFound. Schedules are simulated
        from the time at which it was served."""
        self._pair(number)
        return self._plan(number, task_id)

    def _pair(self, number: int) -> tuple[GenerationHead, GenerationHead | None]:
        heads = self._store.generation_heads(number + 1, 2)
        if not heads or heads[0].id != number:
            raise NotFound("generation", str(number))
        return heads[0], heads[1] if len(heads) > 1 else None

    def _head_after(self, number: int) -> GenerationHead | None:
        """Return the generation that followed. Numbers have few gaps."""
        step = 1
        newest = self._store.newest_generation()
        while number < newest:
            heads = self._store.generation_heads(number + step + 1, step)
            later = [head for head in heads if head.id > number]
            if later:
                return later[-1]
            step *= 2
        return None

    def _generation_of(
        self, head: GenerationHead, changes: TaskChanges | None, newer: GenerationHead | None
    ) -> ServedGeneration:
        until = None if newer is None else newer.activated_at
        runs = self._store.count_accepted(head.activated_at, until or _FAR, MAX_COUNTED)
        return ServedGeneration(head=head, changes=changes, until=until, runs=runs)

    def _changes_of(
        self, head: GenerationHead, older: GenerationHead | None, tasks: dict[int, Mapping[str, str]]
    ) -> TaskChanges | None:
        with self._lock:
            changes = self._changes.get(head.id)
        if changes is None and (older is not None or head.id == 1):
            changes = _changes_between({} if older is None else self._tasks(older.id, tasks), self._tasks(head.id, tasks))
            with self._lock:
                self._changes[head.id] = changes
        return changes

    def _tasks(self, number: int, cache: dict[int, Mapping[str, str]]) -> Mapping[str, str]:
        if number not in cache:
            cache[number] = self._store.generation_tasks(number)
        return cache[number]

    def _compare(self, number: int, task_id: str | None) -> GenerationDifference:
        head, older = self._pair(number)
        new, old = self._store.generation_tasks(number), {} if older is None else self._store.generation_tasks(older.id)
        task_ids = [changed_id for changed_id in _changes_between(old, new).all if task_id in (None, changed_id)]
        lost_ids: list[str] = []
        before, after = (self._side(digests, task_ids[:MAX_COMPARED], lost_ids) for digests in (old, new))
        outlook = Forecast(now=head.activated_at.replace(second=0, microsecond=0))
        omitted = max(0, len(task_ids) - MAX_COMPARED)
        return GenerationDifference(before=older, plan=compare_sides(before, after, outlook), left=omitted, lost=lost_ids)

    def _side(self, tasks: Mapping[str, str], task_ids: Sequence[str], lost_ids: list[str]) -> Side:
        tasks_by_id: dict[str, CompiledTask] = {}
        for task_id in task_ids:
            if task_id in tasks:
                try:
                    tasks_by_id[task_id] = self._store.definition(tasks[task_id])
                except (NotFound, ValueError, LookupError):
                    # Retention deletes old ones, and a newer version may have written one that this one cannot read.
                    lost_ids.append(task_id)
        return Side(registry=Registry.of(tasks_by_id))


def _changes_between(before: Mapping[str, str], after: Mapping[str, str]) -> TaskChanges:
    """Return the changes from one set of tasks, by id and digest, to another."""
    return TaskChanges(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(task_id for task_id in after.keys() & before.keys() if after[task_id] != before[task_id])),
        removed=tuple(sorted(before.keys() - after.keys())),
        tasks=len(after),
    )
