"""Room: the capacity where agents run may be used up, and then runs wait in the queue. Pure.

A task whose run found no room is *short of room*: one run at a time tries whether there is room again, the others wait. The
pauses between tries grow, and end early when a run ends, which may have made room. After the first success, runs start one,
one, two, four, eight at a time, so that few runs find out that the place is full again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_PAUSE = timedelta(seconds=5)
MAX_PAUSE = timedelta(seconds=60)
# A run's pod is deleted, and its share of the quota becomes free, a moment after the run's end.
DELAY_AFTER_RUN_END = timedelta(seconds=2)
# The least time between tries of different tasks, however many tasks are short of room.
MIN_TRY_INTERVAL = timedelta(seconds=2)
# A shortage is over when this many runs of the task have begun since.
STARTS_TO_END_SHORTAGE = 6
# The reason of a run whose secrets cannot be read now. It waits as if there were no room for it.
SECRET_SOURCE = "secret_source"  # noqa: S105 - a word
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
        """Return whether the end of another run may end this delay: not where waiting helps little, or where no room lacks."""
        return self.patience is None and self.reason != SECRET_SOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A task that has been short of room in a place since `since`, with the last reason and when it was found (`at`). The next
    try is due at `due`. `begun` counts the runs that began since, `starting` those about to. `ends_help` says that the end of
    another run may make room."""

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
    def at_once(self) -> int:
        """Return how many runs may be starting at the same time: it doubles with each run that has begun since the shortage."""
        return 1 << max(0, self.begun - 1)


def pause_before_try(tries: int) -> timedelta:
    """Return the pause after `tries` tries in a row without room: 5 s, doubled each time, at most a minute."""
    doubled: timedelta = FIRST_PAUSE * 2 ** min(max(0, tries - 1), 10)
    return min(doubled, MAX_PAUSE)
