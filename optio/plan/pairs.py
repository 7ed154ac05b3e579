"""Pair the tasks of two trees: by id, and renamed tasks by content."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optio.model.registry import CompiledTask, canonical
from optio.model.route import pointer
from optio.model.spec import to_json

# Two tasks are one renamed task if they share this much of their prompts' words and of their other values.
MIN_LIKENESS = 0.6
# Comparing each with each; beyond this only equal definitions and equal paths are matched.
_MAX_COMPARISONS = 10_000
_MAX_WORDS = 2_000
_NAME_KEYS = ("id", "name")


@dataclass(frozen=True, slots=True)
class TaskPair:
    """A task before and after the change; one of them may be None."""

    before: CompiledTask | None
    after: CompiledTask | None

    @property
    def id(self) -> str:
        """The id of the newer task, or of the older one if the task is gone."""
        return _some_task(self).id

    @property
    def renamed(self) -> bool:
        """Return whether both sides exist under different ids."""
        return self.before is not None and self.after is not None and self.before.id != self.after.id


def _some_task(pair: TaskPair) -> CompiledTask:
    task = pair.after or pair.before
    if task is None:
        raise ValueError("a pair of nothing")
    return task


def pair_tasks(before: Mapping[str, CompiledTask], after: Mapping[str, CompiledTask]) -> list[TaskPair]:
    """Return every task of both trees exactly once, sorted by id."""
    removed_tasks = {task_id: task for task_id, task in before.items() if task_id not in after}
    new = {task_id: task for task_id, task in after.items() if task_id not in before}
    pairs = [TaskPair(before[task_id], task) for task_id, task in after.items() if task_id in before]
    pairs += [TaskPair(removed_tasks.pop(old), new.pop(now)) for old, now in list(_find_renames(removed_tasks, new))]
    pairs += [TaskPair(task, None) for task in removed_tasks.values()]
    pairs += [TaskPair(None, task) for task in new.values()]
    return sorted(pairs, key=lambda pair: pair.id)


def _find_renames(removed_tasks: Mapping[str, CompiledTask], new: Mapping[str, CompiledTask]) -> Iterator[tuple[str, str]]:
    """Yield (old id, new id), the surest matches first: equal but for the names, then in the same file, then similar."""
    old_tasks, new_tasks = dict(sorted(removed_tasks.items())), dict(sorted(new.items()))
    for mark in (_definition, _file):
        for old, now in _match_by(old_tasks, new_tasks, mark):
            del old_tasks[old], new_tasks[now]
            yield old, now
    if len(old_tasks) * len(new_tasks) > _MAX_COMPARISONS:
        return
    facts = {id(task): (_words(task), _values(task)) for task in (*old_tasks.values(), *new_tasks.values())}
    alike = sorted((-_likeness(facts[id(a)], facts[id(b)]), a.id, b.id) for a in old_tasks.values() for b in new_tasks.values())
    for score, old, now in alike:
        if -score >= MIN_LIKENESS and old in old_tasks and now in new_tasks:
            del old_tasks[old], new_tasks[now]
            yield old, now


def _match_by(
    old_tasks: Mapping[str, CompiledTask], new_tasks: Mapping[str, CompiledTask], mark: Callable[[CompiledTask], str]
) -> list[tuple[str, str]]:
    ids: dict[str, list[str]] = {}
    for task in old_tasks.values():
        ids.setdefault(mark(task), []).append(task.id)
    return [(old_ids.pop(0), task.id) for task in new_tasks.values() if (old_ids := ids.get(mark(task)))]


def _file(task: CompiledTask) -> str:
    return task.origin.path


def _definition(task: CompiledTask) -> str:
    spec = {key: value for key, value in task.document["spec"].items() if key not in _NAME_KEYS}
    return canonical([spec, task.prompt])


def _likeness(old: tuple[Counter[str], Counter[str]], new: tuple[Counter[str], Counter[str]]) -> float:
    return min(_overlap(a, b) for a, b in zip(old, new, strict=True))


def _overlap(one: Counter[str], other: Counter[str]) -> float:
    both = one.total() + other.total()
    return 2 * (one & other).total() / both if both else 1.0


def _words(task: CompiledTask) -> Counter[str]:
    return Counter(task.prompt.split(maxsplit=_MAX_WORDS)[:_MAX_WORDS])


def _values(task: CompiledTask) -> Counter[str]:
    spec = to_json(task.spec, defaults=False)
    return Counter(_leaves({key: value for key, value in spec.items() if key not in (*_NAME_KEYS, "promptTemplate")}))


def _leaves(value: Any, route: tuple[int | str, ...] = ()) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _leaves(each, (*route, key))
    elif isinstance(value, list) and value:
        for each in value:
            yield from _leaves(each, (*route, "-"))
    else:
        yield f"{pointer(route)}={canonical(value)}"
