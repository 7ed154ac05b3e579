"""Compare two sides of a change: pair their tasks, collect the effects of each pair, and add up what all tasks may spend."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from optio.model.effect import EffectKind, EffectWeight
from optio.model.registry import CompiledTask
from optio.plan import effects, hooks, money, policy
from optio.plan.effect import Effect, Forecast
from optio.plan.money import TotalSpend
from optio.plan.pairs import TaskPair, pair_tasks
from optio.plan.side import Side
from optio.plan.words import amount, brief, pluralize

_MAX_ERRORS, _MAX_ERROR_LENGTH = 3, 300
# Errors of tasks that may spend more than the policy allows.
_SPEND_CODES = frozenset({"OPT313", "OPT603"})


class DisplayPath(Protocol):
    """A function that turns a path of the newer tree, or with `gone` of the older one, into the path to show."""

    def __call__(self, path: str, *, gone: bool = False) -> str:
        """Return a path to show, such as `tasks.d/report.yaml`."""
        ...


class Status(StrEnum):
    """The kind of change to a task. `broken`: its file has errors now; `mended`: its file had errors before."""

    ADDED = "added"
    CHANGED = "changed"
    RENAMED = "renamed"
    REMOVED = "removed"
    BROKEN = "broken"
    MENDED = "mended"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange:
    """A task that behaves differently. `expected` is a sentence about its likely spend, where the run history is known;
    `broken_at` is the path of the file that has errors now."""

    status: Status
    before: CompiledTask | None
    after: CompiledTask | None
    effects: tuple[Effect, ...]
    expected: str | None = None
    broken_at: str | None = None

    @property
    def task(self) -> CompiledTask:
        """The newer version of the task, or the older one if it was removed or is broken."""
        task = self.after or self.before
        if task is None:
            raise ValueError("a change of nothing")
        return task

    def path(self, display_path: DisplayPath) -> str:
        """Return the path of its file to show: of the newer tree, or of the older one if the task is gone."""
        if self.broken_at is not None:
            return display_path(self.broken_at)
        return display_path(self.task.origin.path, gone=self.after is None)

    def heaviest(self, limit: int) -> tuple[Effect, ...]:
        """Return at most this many effects; if there are more, the heaviest come first."""
        if len(self.effects) <= limit:
            return self.effects
        return tuple(sorted(self.effects, key=lambda effect: -list(EffectWeight).index(effect.weight))[:limit])

    @property
    def weight(self) -> EffectWeight:
        """The weight of its heaviest effect."""
        return max((effect.weight for effect in self.effects), key=list(EffectWeight).index, default=EffectWeight.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All effects of a change. `policy` are effects of the tree's policy file; `cosmetic` are tasks whose files differ but
    which behave the same; `known` is the number of tasks before; `errors` counts errors in newer files, whose effects are
    unknown."""

    changes: tuple[TaskChange, ...]
    policy: tuple[Effect, ...]
    before: TotalSpend
    after: TotalSpend
    cosmetic: tuple[CompiledTask, ...]
    known: int
    outlook: Forecast
    errors: int = 0

    @property
    def effects(self) -> tuple[Effect, ...]:
        """All effects: first those of the policy, then those of each changed task."""
        return (*self.policy, *(effect for change in self.changes for effect in change.effects))

    def failing(self, fail_on: Sequence[str]) -> list[tuple[str, Effect]]:
        """Return (task id, effect) for every effect whose kind or weight is in `fail_on`; the id is empty for effects of the
        policy."""
        weights = set(fail_on)
        failures = [("", effect) for effect in self.policy]
        failures += [(change.task.id, effect) for change in self.changes for effect in change.effects]
        return [(task, effect) for task, effect in failures if {str(effect.kind), str(effect.weight)} & weights]

    @property
    def summary(self) -> str:
        """One line for the head of every output, such as `2 tasks changed; worst case $30.00 -> $60.00 (+$30.00)`."""
        errors = [pluralize(self.errors, "error")] if self.errors else []
        if not self.changes and not self.policy:
            return "; ".join(["no effect in the files without errors" if errors else "no effect", *errors])
        parts = [self._counted(status) for status in Status if any(change.status is status for change in self.changes)]
        if parts:
            first = next(status for status in Status if any(change.status is status for change in self.changes))
            many = sum(change.status is first for change in self.changes)
            parts[0] = f"{pluralize(many, 'task')} {_STATUS_WORDS[first]}"
        if any(change.kind is EffectKind.POLICY_CHANGED for change in self.policy):
            parts.append("another policy")
        return "; ".join([", ".join(parts) or "no task changed", *self._money(), *errors])

    def _counted(self, status: Status) -> str:
        return f"{sum(change.status is status for change in self.changes):,} {_STATUS_WORDS[status]}"

    def _money(self) -> Iterator[str]:
        """Yield the bounded sum first: tasks without a bound cannot be added to it."""
        before, after = self.before, self.after
        if before == after:
            if after != TotalSpend():
                yield f"worst case {after}, as before"
        else:
            was = str(before) if before.lacking or after.lacking else amount(before.month)
            yield f"worst case {was} -> {after}{self._difference()}"
        if after.lacking:
            yield f"write {after.cure}"

    def _difference(self) -> str:
        before, after = self.before, self.after
        # A task that gained or lost its bound is part of one sum only, so the difference would mislead.
        difference = after.month - before.month
        if before.lacking != after.lacking or not (difference and before.month and after.month):
            return ""
        return f" ({'+' if difference > 0 else '-'}{amount(abs(difference))})"


_STATUS_WORDS = {
    Status.ADDED: "added",
    Status.CHANGED: "changed",
    Status.RENAMED: "renamed",
    Status.REMOVED: "removed",
    Status.BROKEN: "with errors",
    Status.MENDED: "mended",
}


def compare_sides(before: Side, after: Side, outlook: Forecast) -> Plan:
    """Return the plan from one side to the other. `outlook` gives the time at which the simulation of schedules begins."""
    old, new = before.registry.tasks, after.registry.tasks
    broken_tasks = _broken_only_in(after, old, new)
    mended_tasks = _broken_only_in(before, new, old)
    pairs = pair_tasks(_without(old, broken_tasks), _without(new, mended_tasks))
    forecast = _forecast(outlook, before, after, pairs)
    changes = [
        *(change for pair in pairs if (change := _pair_change(pair, forecast)) is not None),
        *(_broken_change(task, after) for task in broken_tasks if not _waits_for_policy(task, after)),
        *(_mended_change(task, forecast) for task in mended_tasks),
    ]
    was = money.total_spend(old.values(), _ids_with_lost_budget((pair.after, pair.before) for pair in pairs))
    now = money.total_spend([*new.values(), *broken_tasks], _ids_with_lost_budget((pair.before, pair.after) for pair in pairs))
    refused_tasks = _refused_new_tasks(before, after, {change.broken_at for change in changes})
    return Plan(
        changes=tuple(sorted(changes, key=lambda change: change.task.id)),
        policy=(*_policy_effects(before, after, was, now), *refused_tasks),
        before=was,
        after=now,
        cosmetic=tuple(_cosmetic_tasks(pairs, {change.task.id for change in changes}, before, after)),
        known=len(old),
        outlook=outlook,
        errors=len(after.errors),
    )


def _broken_only_in(side: Side, tasks: Mapping[str, CompiledTask], others: Mapping[str, CompiledTask]) -> list[CompiledTask]:
    """Return the tasks of the other side that are not among those of this one because their files have errors here."""
    return [task for task_id, task in tasks.items() if task_id not in others and _is_broken(task, side)]


def _without(tasks: Mapping[str, CompiledTask], exceptions: Sequence[CompiledTask]) -> dict[str, CompiledTask]:
    ids = {task.id for task in exceptions}
    return {task_id: task for task_id, task in tasks.items() if task_id not in ids}


def _forecast(outlook: Forecast, before: Side, after: Side, pairs: Sequence[TaskPair]) -> Forecast:
    tasks = after.registry.tasks.values()
    return replace(
        outlook,
        hooks={config.path: task for task in tasks if (config := hooks.config_of(task)) is not None},
        moved={pair.id for pair in pairs if hooks.is_moved(pair.before, pair.after)},
        new_month_usd=min(policy.new_month_usd(side.policy) for side in (before, after)),
    )


def _ids_with_lost_budget(pairs: Iterable[tuple[CompiledTask | None, CompiledTask | None]]) -> set[str]:
    return {now.id for was, now in pairs if now is not None and money.lost_budget(was, now)}


def _cosmetic_tasks(
    pairs: Sequence[TaskPair], reported_ids: Collection[str], before: Side, after: Side
) -> Iterator[CompiledTask]:
    """Yield the tasks whose files differ and that do the same."""
    for pair in pairs:
        if pair.after is not None and pair.id not in reported_ids and _files_differ(pair, before, after):
            yield pair.after


def _policy_effects(before: Side, after: Side, was: TotalSpend, now: TotalSpend) -> Iterator[Effect]:
    """Yield changes of the policy, and totals beyond its fleet limits. An unreadable policy has no known demands."""
    yield from policy.readability_effects(before.policy_unreadable, after.policy_unreadable)
    if not after.policy_unreadable:
        yield from policy.effects(before.policy, after.policy)
    limits = [(side.policy or policy.EMPTY_POLICY).fleet for side in (before, after)]
    yield from money.fleet_effects((was, limits[0]), (now, limits[1]))


def _refused_new_tasks(before: Side, after: Side, broken_ids: Collection[str | None]) -> Iterator[Effect]:
    """Yield new tasks that exceed the policy's limits on spend. For tasks that existed, the error of their file says so
    already."""
    old_errors = {(error.code, error.path) for error in before.errors}
    for error in after.errors:
        if error.code in _SPEND_CODES and error.path not in broken_ids and (error.code, error.path) not in old_errors:
            text = f"{brief(error.path)}: {error.message}"
            yield Effect(kind=EffectKind.MONEY_UP, text=text, weight=EffectWeight.DANGER, route=error.route)


def _waits_for_policy(task: CompiledTask, side: Side) -> bool:
    """Return whether its only fault is the unreadable policy, which is reported once for all tasks."""
    return side.policy_unreadable and all(error.path != task.origin.path for error in side.errors)


def _is_broken(task: CompiledTask, side: Side) -> bool:
    return task.id in side.broken_ids or task.origin.path in side.broken


def _pair_change(pair: TaskPair, outlook: Forecast) -> TaskChange | None:
    before, after = pair.before, pair.after
    if before is not None and after is not None and (before is after or before.digest == after.digest):
        return None
    pair_effects = effects.between(before, after, outlook)
    if not pair_effects:
        return None
    status = Status.RENAMED if pair.renamed else Status.CHANGED
    if before is None or after is None:
        status = Status.ADDED if before is None else Status.REMOVED
    return TaskChange(status=status, before=before, after=after, effects=pair_effects)


def _broken_change(task: CompiledTask, side: Side) -> TaskChange:
    text = "its file has errors, so its effects are unknown; its spend counts as before"
    path = side.broken_ids.get(task.id, task.origin.path)
    lines = [brief(error.message, _MAX_ERROR_LENGTH) for error in side.errors if error.path == path]
    texts = (
        *lines[:_MAX_ERRORS],
        *([f"and {pluralize(len(lines) - _MAX_ERRORS, 'error')} more"] if lines[_MAX_ERRORS:] else []),
    )
    effect = Effect(kind=EffectKind.TASK_BROKEN, text=text, weight=EffectWeight.DANGER, lines=texts)
    return TaskChange(status=Status.BROKEN, before=task, after=None, effects=(effect,), broken_at=path)


def _mended_change(task: CompiledTask, outlook: Forecast) -> TaskChange:
    """Compare with nothing, for what the broken file did before is unknown."""
    first, *rest = effects.between(None, task, outlook)
    text = f"its file had errors before, so all its effects are listed: {first.text}"
    return TaskChange(
        status=Status.MENDED, before=None, after=task, effects=(replace(first, kind=EffectKind.TASK_BROKEN, text=text), *rest)
    )


def _files_differ(pair: TaskPair, before: Side, after: Side) -> bool:
    if pair.before is None or pair.after is None:
        return False
    old_path, new_path = pair.before.origin.path, pair.after.origin.path
    return old_path != new_path or before.texts.get(old_path) != after.texts.get(new_path)
