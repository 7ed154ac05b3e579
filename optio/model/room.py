"""Room: where agents run there may be none for another one, and then runs wait in the queue. Pure.

A task whose run found no room is *short of room*: one run at a time tries whether there is room again, the others wait. Tries
come less and less often, and sooner when a run has ended, for that may have made room. After the first that succeeds, runs
start one, one, two, eight at a time: what is full again is found out by few.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_PAUSE = timedelta(seconds=5)
MAX_PAUSE = timedelta(seconds=60)
# The pod of a run that has ended is taken away, and its share of the quota is free, a moment later.
DELAY_AFTER_RUN_END = timedelta(seconds=2)
# Two tries of different tasks are at least so far apart, however many tasks are short of room.
MIN_TRY_INTERVAL = timedelta(seconds=2)
# A task that began so many runs since it was short of room is so no more.
STARTS_TO_END_SHORTAGE = 6
# A try that has not ended after this time has its room, and waits for something else, such as its image.
MAX_TRY_DURATION = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Why an agent has not begun, though nothing may be wrong with its run. `reason` is a machine word; `message` is for
    people, with the cure. With `patience` time is no cure, as far as can be seen: who has waited for so long gives up."""

    reason: str
    message: str
    patience: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """That a task is short of room in a place since `since`: why, and when that was found last (`at`). The next try is due at
    `due`. `begun` counts the runs that began since then, `starting` those that are about to. `ends_help`: room may come by
    the end of a run."""

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
        """Whether a run may try; what was found in the future was found before the clock was set back."""
        return self.due <= now or self.at > now

    @property
    def at_once(self) -> int:
        """How many runs may be starting at the same time, now that some have begun."""
        return 1 << max(0, self.begun - 1)


def pause_before_try(tries: int) -> timedelta:
    """How long to wait after so many tries in a row that found no room: 5 s, doubled each time, at most a minute."""
    doubled: timedelta = FIRST_PAUSE * 2 ** min(max(0, tries - 1), 10)
    return min(doubled, MAX_PAUSE)
