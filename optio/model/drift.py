"""Drift: how the directory of a server differs from the generation that is served.

All servers of a database serve one generation, the newest. A server whose directory holds the same is in sync; what it changes
there becomes the next generation. One whose directory differs serves what all serve, and says so: `optio.tree.served` decides
which.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from optio.model.registry import CompiledTask

# A change comes to the directories of several servers one after the other: for so long that is no news.
DRIFT_GRACE_S = 5.0
# Tasks, and servers, that a message names.
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The ids of the tasks that the directory alone has, those it has in another version, and those it lacks; in order.

    `generation` is what is served, `in_sync` names the servers whose directories hold it. `since` is when the directory began
    to differ: seconds of a monotonic clock.
    """

    generation: int
    added: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    in_sync: tuple[str, ...]
    since: float

    @property
    def count(self) -> int:
        """How many tasks differ."""
        return len(self.added) + len(self.changed) + len(self.missing)

    @property
    def summary(self) -> str:
        """Say it in one sentence that anyone may read: it names no task and no machine."""
        tasks = "1 task" if self.count == 1 else f"{self.count} tasks"
        return (
            f"the task directory of this server differs in {tasks} from generation {self.generation}, which all servers serve"
        )

    @property
    def details(self) -> str:
        """Name the first tasks that differ."""
        kinds = (("only there", self.added), ("different there", self.changed), ("missing there", self.missing))
        return "; ".join(_named(how, task_ids) for how, task_ids in kinds if task_ids)

    @property
    def cure(self) -> str:
        """Say how it ends."""
        where = f" of {', '.join(self.in_sync[:_MAX_NAMED])}" if self.in_sync else ""
        return f"put the files{where} there; when the last server that holds them is gone, this directory is served"


def _named(how: str, task_ids: tuple[str, ...]) -> str:
    more = f" and {len(task_ids) - _MAX_NAMED} more" if len(task_ids) > _MAX_NAMED else ""
    return f"{how}: {', '.join(task_ids[:_MAX_NAMED])}{more}"


def compare(
    served: Mapping[str, CompiledTask], own: Mapping[str, CompiledTask]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the ids of the tasks that `own` adds, has in another version, and lacks."""
    return (
        tuple(sorted(own.keys() - served.keys())),
        tuple(task_id for task_id in sorted(own.keys() & served.keys()) if own[task_id].digest != served[task_id].digest),
        tuple(sorted(served.keys() - own.keys())),
    )
