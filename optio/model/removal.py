"""The teardown guard: decide whether the tasks that a change of the tree would remove may go, or are held.

A tree that loses most of its tasks at once is more often a wrong mount, a failed checkout or a mistyped path than a wish.
Such a removal is held: the tasks stay as they were until their files are back or a person releases them. The guard judges what
went within the last minute together, because a deletion of many files may be seen in parts. It is pure: values in, a verdict
out. `optio.tree.served` keeps the state between two compilations and stores holds and releases.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from optio.model.registry import CompiledTask, digest_of
from optio.model.removal_limit import RemovalLimit

# Tasks that went within this time are judged together.
REMOVAL_WINDOW_S = 60.0
_SHORT_DIGEST = 12


@dataclass(frozen=True, slots=True)
class RemovedTask:
    """A task that went, and when: seconds of a monotonic clock."""

    task: CompiledTask
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalDecision:
    """The tasks to hold (none when the change may be served), how many tasks they are judged against, and what went lately."""

    held: Mapping[str, CompiledTask] = field(default_factory=dict)
    total: int = 0
    recent: Mapping[str, RemovedTask] = field(default_factory=dict)


def decide_removals(
    served: Mapping[str, CompiledTask],
    compiled: Mapping[str, CompiledTask],
    *,
    limit: RemovalLimit,
    now: float,
    recent: Mapping[str, RemovedTask],
    held: Collection[str] = (),
    released: Collection[str] = (),
) -> RemovalDecision:
    """Judge a compilation against what is served now and what went within the window.

    `held` are the tasks that are held already: they stay held until they are compiled again or released, whatever the limit,
    so that files that come back one by one do not end the hold half-way. `released` may go and count as if they never were.
    A held removal holds all that went within the window: those that had gone before are served again.
    """
    if not recent and served.keys() <= compiled.keys():
        return RemovalDecision(total=len(served))
    lately = {task_id: gone for task_id, gone in recent.items() if now - gone.at < REMOVAL_WINDOW_S}
    before = {task_id: gone.task for task_id, gone in lately.items()} | dict(served)
    before = {task_id: task for task_id, task in before.items() if task_id not in released}
    removed = find_removed(before, compiled)
    if not removed.keys().isdisjoint(held) or not limit.allows(len(removed), len(before)):
        return RemovalDecision(held=removed, total=len(before))
    return RemovalDecision(
        total=len(before), recent={task_id: lately.get(task_id, RemovedTask(task, now)) for task_id, task in removed.items()}
    )


def find_removed(before: Mapping[str, CompiledTask], after: Mapping[str, CompiledTask]) -> dict[str, CompiledTask]:
    """The tasks that are gone. A task whose file gives a new task instead was renamed in place, and is not one of them."""
    renamed = {task.origin.path for task_id, task in after.items() if task_id not in before}
    return {task_id: task for task_id, task in before.items() if task_id not in after and task.origin.path not in renamed}


def removal_digest(task_ids: Iterable[str]) -> str:
    """Return the short digest that names exactly these tasks."""
    return digest_of(sorted(task_ids)).removeprefix("sha256:")[:_SHORT_DIGEST]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRemoval:
    """A removal that is held: the ids of its tasks in order, of how many tasks, and since when."""

    tasks: tuple[str, ...]
    total: int
    since: datetime

    @property
    def digest(self) -> str:
        """Name exactly these tasks, so that a person releases what he saw."""
        return removal_digest(self.tasks)

    @property
    def command(self) -> str:
        """The command that lets the tasks go."""
        return f"optio tasks release {self.digest}"

    @property
    def summary(self) -> str:
        """One sentence for logs and health checks; it names no task."""
        return (
            f"the files of {len(self.tasks)} of {self.total} tasks are gone: the tasks are held and served as before; "
            f"put the files back, or run `{self.command}` to remove the tasks"
        )
