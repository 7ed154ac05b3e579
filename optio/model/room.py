"""Shortages: a place may refuse to start agents for a while, and then runs wait in the queue. Pure.

A place is *short of room* for a task when a quota or its nodes are full: one run at a time tries whether there is room again,
the others wait. The pauses between tries grow, and end early when a run ends, which may have made room. After the first
success, runs start one, one, two, four, eight at a time, so that few runs find out that the place is full again.

Any other *refusal* ends with the first agent that begins, and all runs follow at once. Some refusals are about one task, such
as secrets that cannot be read; those in `PLACE_REFUSALS` hold the runs of all tasks, such as rights that were taken away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_PAUSE = timedelta(seconds=5)
FIRST_PAUSE_AFTER_REFUSAL = timedelta(seconds=1)
MAX_PAUSE = timedelta(seconds=30)
# A run's pod is deleted, and its share of the quota becomes free, a moment after the run's end.
DELAY_AFTER_RUN_END = timedelta(seconds=2)
# The least time between tries of different tasks, however many tasks are short of room.
MIN_TRY_INTERVAL = timedelta(seconds=2)
# A shortage is over when this many runs of the task have begun since.
STARTS_TO_END_SHORTAGE = 6
# The reason of a run whose secrets cannot be read now. It waits as if there were no room for it.
SECRET_SOURCE = "secret_source"  # noqa: S105 - a word
# The reasons for which the end of another run may help.
_ROOM = frozenset({"quota", "unschedulable"})
# The reasons for which a place starts no agent of any task, each with a sentence that anyone may read.
PLACE_REFUSALS: Mapping[str, str] = {
    "access": "the cluster refuses the worker's account: no pod can be made",
    "namespace": "the namespace of the pods is missing or about to be deleted: no pod can be made",
    "cluster": "the cluster's API does not answer, or answers with errors: no pod can be made",
    "disk": "no files can be written where agents run: no agent can start",
    "supervisor": "no supervisor can be started: no agent can start",
}
# Instead of a task's id, for a shortage of the whole place.
WHOLE_PLACE = ""
# A try that lasts longer has found room, and waits for something else, such as its image.
MAX_TRY_DURATION = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """The reason why an agent has not begun, though its run may be sound. `reason` is a machine word; `message` is for people,
    with the cure. `patience` is set where waiting will probably not help: a run that has waited for so long gives up."""

    reason: str
    message: str
    patience: timedelta | None = None

    @property
    def ends_help(self) -> bool:
        """Return whether the end of another run may end this delay: where room lacks, and waiting helps."""
        return self.patience is None and self.reason in _ROOM

    @property
    def until(self) -> str:
        """Return what a run waits for, to complete a sentence of its log."""
        if self.reason == SECRET_SOURCE:
            return "its secrets can be read"
        return "there is room" if self.reason in _ROOM else "agents can start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A task, or `WHOLE_PLACE`, that a place has refused since `since`, with the last reason and when it was found (`at`). The
    next try is due at `due`. `begun` counts the runs that began since, `starting` those about to. `ends_help` says that the end
    of another run may make room."""

    task_id: str
    place: str
    reason: str
    message: str
    since: datetime
    at: datetime
    due: datetime
    begun: int = 0
    starting: int = 0
    ends_help: bool = True

    def is_due(self, now: datetime) -> bool:
        """Return whether a run may try now. A shortage found in the future means that the clock was set back, and counts as
        due."""
        return self.due <= now or self.at > now

    @property
    def namespace(self) -> str:
        """Return the namespace of a team's place (see `Executor.place`); empty for every other place."""
        return self.place.partition("/")[0].partition(":")[2]

    @property
    def lacks_room(self) -> bool:
        """Return whether the place is full, rather than closed for another reason."""
        return self.reason in _ROOM

    @property
    def at_once(self) -> int:
        """Return how many runs may be starting at the same time: it doubles with each run that has begun since the shortage."""
        return 1 << max(0, self.begun - 1)


def pause_before_try(tries: int, *, for_room: bool = True) -> timedelta:
    """Return the pause after `tries` tries in vain in a row: 5 s for room, else 1 s, doubled each time, at most 30 s."""
    first = FIRST_PAUSE if for_room else FIRST_PAUSE_AFTER_REFUSAL
    doubled: timedelta = first * 2 ** min(max(0, tries - 1), 10)
    return min(doubled, MAX_PAUSE)
