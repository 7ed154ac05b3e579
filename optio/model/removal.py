"""The teardown guard: decide whether the tasks that a change of the tree would remove may go, or are held.

A tree that loses most of its tasks at once is more often a wrong mount, a failed checkout or a mistyped path than intended.
Such a removal is held: the tasks stay as they were until their files are back or a person releases them. The guard judges
everything that went within the last minute together, because a deletion of many files may be seen in parts. It is pure: values
in, a decision out. `optio.tree.served` keeps the state between two compilations and stores holds and releases.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from optio.model.registry import CompiledTask, digest_of
from optio.model.removal_limit import RemovalLimit

# Removals within this time are judged together.
REMOVAL_WINDOW_S = 60.0
_SHORT_DIGEST = 12


@dataclass(frozen=True, slots=True)
class RemovedTask:
    """A task whose file is gone, and when that was seen, in seconds of a monotonic clock."""

    task: CompiledTask
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalDecision:
    """The tasks to hold (none when the change may be served), the number of tasks that they were judged against, and all that
    went within the window, for the next call."""

    held: Mapping[str, CompiledTask] = field(default_factory=dict)
    total: int = 0
    recent: Mapping[str, RemovedTask] = field(default_factory=dict)


def decide_removals(
    served_tasks: Mapping[str, CompiledTask],
    compiled: Mapping[str, CompiledTask],
    *,
    limit: RemovalLimit,
    now: float,
    recent: Mapping[str, RemovedTask],
    held_ids: Collection[str] = (),
    released: Collection[str] = (),
) -> RemovalDecision:
    """Judge a compilation against what is served now and what went within the window.

    `held` are the tasks that are held already: they stay held until they are compiled again or released, whatever the limit,
    so that files that come back one by one do not end the hold half-way. `released` may go and count as if they never were.
    A held removal holds all that went within the window: those that had gone before are served again.
    """
    if not recent and served_tasks.keys() <= compiled.keys():
        return RemovalDecision(total=len(served_tasks))
    lately = {task_id: removal for task_id, removal in recent.items() if now - removal.at < REMOVAL_WINDOW_S}
    before = {task_id: removal.task for task_id, removal in lately.items()} | dict(served_tasks)
    before = {task_id: task for task_id, task in before.items() if task_id not in released}
    removed_tasks = find_removed(before, compiled)
    if not removed_tasks.keys().isdisjoint(held_ids) or not limit.allows(len(removed_tasks), len(before)):
        return RemovalDecision(held=removed_tasks, total=len(before))
    return RemovalDecision(
        total=len(before),
        recent={task_id: lately.get(task_id, RemovedTask(task, now)) for task_id, task in removed_tasks.items()},
    )


def find_removed(before: Mapping[str, CompiledTask], after: Mapping[str, CompiledTask]) -> dict[str, CompiledTask]:
    """Return the tasks that are gone. A task whose file now gives a new task was renamed in place, and is not among them."""
    renamed = {task.origin.path for task_id, task in after.items() if task_id not in before}
    return {task_id: task for task_id, task in before.items() if task_id not in after and task.origin.path not in renamed}


def removal_digest(task_ids: Iterable[str]) -> str:
    """Return the short digest that names exactly these tasks; `optio tasks release` takes it."""
    return digest_of(sorted(task_ids)).removeprefix("sha256:")[:_SHORT_DIGEST]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRemoval:
    """A removal that is held: the sorted ids of its tasks, the total that they were judged against, and since when."""

    tasks: tuple[str, ...]
    total: int
    since: datetime

    @property
    def digest(self) -> str:
        """Return the digest of exactly these tasks, so that a person releases what he saw and nothing else."""
        return removal_digest(self.tasks)

    @property
    def command(self) -> str:
        """Return the command that lets the tasks go, for messages."""
        return f"optio tasks release {self.digest}"

    @property
    def summary(self) -> str:
        """Return one sentence for logs and health checks; it names no task."""
        return (
            f"the files of {len(self.tasks)} of {self.total} tasks are gone: the tasks are held and served as before; "
            f"put the files back, or run `{self.command}` to remove the tasks"
        )
