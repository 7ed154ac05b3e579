"""Drift: the difference between the task directory of one server and the generation that all servers serve.

All servers of a database serve one generation, the newest. A server whose directory equals it is in sync, and an edit there
becomes the next generation. A server whose directory differs still serves that generation, and reports the drift to logs and
health checks. This module compares and words it; `optio.tree.served` decides which directory counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from optio.model.registry import CompiledTask

# Deployments change the directories of several servers one after the other: for this long a difference is not reported.
DRIFT_GRACE_S = 5.0
# The most tasks, and servers, that a message names.
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The difference of one directory: the sorted ids of tasks that only the directory has, that it has in another version, and
    that it lacks.

    `generation` is the one served, and `in_sync` names the servers whose directories equal it. `since` is when the directory
    began to differ, in seconds of a monotonic clock.
    """

    generation: int
    added: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    in_sync: tuple[str, ...]
    since: float

    @property
    def count(self) -> int:
        """Return the number of tasks that differ: added, changed and missing ones together."""
        return len(self.added) + len(self.changed) + len(self.missing)

    @property
    def summary(self) -> str:
        """Return one sentence for logs and health checks that anyone may read: it names no task and no machine."""
        tasks = "1 task" if self.count == 1 else f"{self.count} tasks"
        return (
            f"the task directory of this server differs in {tasks} from generation {self.generation}, which all servers serve"
        )

    @property
    def details(self) -> str:
        """Return the first few differing task ids of each kind, for people who may read task names."""
        kinds = (("only there", self.added), ("different there", self.changed), ("missing there", self.missing))
        return "; ".join(_named(adjective, task_ids) for adjective, task_ids in kinds if task_ids)

    @property
    def cure(self) -> str:
        """Return what a person can do to end the drift, naming up to three servers that are in sync."""
        servers = f" of {', '.join(self.in_sync[:_MAX_NAMED])}" if self.in_sync else ""
        return f"put the files{servers} there; when the last server that holds them is gone, this directory is served"


def _named(adjective: str, task_ids: tuple[str, ...]) -> str:
    rest = f" and {len(task_ids) - _MAX_NAMED} more" if len(task_ids) > _MAX_NAMED else ""
    return f"{adjective}: {', '.join(task_ids[:_MAX_NAMED])}{rest}"


def compare(
    served_tasks: Mapping[str, CompiledTask], own_tasks: Mapping[str, CompiledTask]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the sorted ids of the tasks that `own` adds, has in another version (by digest), and lacks, compared with
    `served`."""
    return (
        tuple(sorted(own_tasks.keys() - served_tasks.keys())),
        tuple(
            task_id
            for task_id in sorted(own_tasks.keys() & served_tasks.keys())
            if own_tasks[task_id].digest != served_tasks[task_id].digest
        ),
        tuple(sorted(served_tasks.keys() - own_tasks.keys())),
    )
