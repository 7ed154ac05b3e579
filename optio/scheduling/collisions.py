"""Schedule collisions: minutes in which more runs start than can begin at once, and a better minute of the same hour for some
of the tasks.

The proposed minute depends on the task's id, so everyone is proposed the same, and one more task changes little. Only tasks
that state the crowded minute itself are asked to move, not those with a list or step of minutes. `optio check` warns by it,
`optio schedule` prints it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from math import gcd
from typing import NamedTuple

from optio.scheduling import cron
from optio.scheduling.calendar import FiresBySchedule, TimedTask, fires_by_schedule

_MINUTES = 60
_SECONDS = 60
# Steps coprime to 60, with which every minute of the hour is met.
_STEPS = tuple(step for step in range(1, _MINUTES) if gcd(step, _MINUTES) == 1)


class MinuteMove(NamedTuple):
    """A proposal for one task: the expression it has, and the one to write instead."""

    task_id: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Collisions:
    """The minutes in which more than `limit` runs start (`crowded`, each with its number of starts), the most starts in any
    minute (`most`), and the moves that help. With all moves made the fullest minute would have `then` starts."""

    limit: int
    most: int
    crowded: tuple[tuple[datetime, int], ...]
    moves: tuple[MinuteMove, ...]
    then: int


def find_collisions(
    schedules: Sequence[TimedTask], fires: FiresBySchedule, after: datetime, until: datetime, limit: int
) -> Collisions:
    """Return the collisions of these schedules in (after, until]; `found` holds their fires in that span."""
    load = count_starts(schedules, fires)
    crowded = tuple(sorted((at, number) for at, number in load.items() if number > limit))
    moves = tuple(sorted(spread_minutes(schedules, fires, limit))) if crowded else ()
    peak = new_peak = max(load.values(), default=0)
    if moves:
        new_expressions = {move.task_id: move.new for move in moves}
        moved_schedules = [
            timed_task._replace(expression=new_expressions.get(timed_task.task_id, timed_task.expression))
            for timed_task in schedules
        ]
        fresh = fires_by_schedule((timed_task for timed_task in moved_schedules if timed_task.key not in fires), after, until)
        new_peak = max(count_starts(moved_schedules, {**fires, **fresh}).values())
    return Collisions(limit, peak, crowded, moves, new_peak)


def spread_minutes(schedules: Sequence[TimedTask], fires: FiresBySchedule, limit: int) -> Iterator[MinuteMove]:
    """Yield moves that empty the fullest minutes, down to `limit` starts where their hours have room for it."""
    load = Counter({round(at.timestamp()): number for at, number in count_starts(schedules, fires).items()})
    at: dict[int, list[_TaskGroup]] = {}
    for flock in _task_groups(schedules, fires):
        for moment in flock.moments:
            if load[moment] > limit:
                at.setdefault(moment, []).append(flock)
    stuck: set[tuple[str, str]] = set()
    for moment in sorted(at, key=lambda minute: (-load[minute], minute)):
        # Tasks that fire rarely move first: that changes the fewest starts.
        for flock in sorted(at[moment], key=lambda minute: (len(minute.moments), minute.key)):
            # A task that no other minute helps here is not helped at less crowded moments either.
            if load[moment] > limit and flock.timed and flock.key not in stuck:
                yield from _moves(flock, moment, load, limit)
                if load[moment] > limit:
                    stuck.add(flock.key)


@dataclass(frozen=True, slots=True)
class _TaskGroup:
    """The tasks of one schedule that states a single minute, and the moments at which they fire, in seconds since 1970. The
    last of `timed` moves first, and is then removed from it."""

    key: tuple[str, str]
    minute: int
    moments: Sequence[int]
    timed: list[TimedTask]


def _task_groups(schedules: Sequence[TimedTask], fires: FiresBySchedule) -> Iterator[_TaskGroup]:
    by_key: dict[tuple[str, str], list[TimedTask]] = {}
    for timed_task in schedules:
        by_key.setdefault(timed_task.key, []).append(timed_task)
    for key, tasks in by_key.items():
        minute = cron.expand(key[0]).split()[0]
        if minute.isdigit():
            # Without fires that a clock change has moved: another minute would not change those.
            moments = [round(fire.at.timestamp()) for fire in fires[key] if fire.at.minute == int(minute)]
            yield _TaskGroup(key, int(minute), moments, sorted(tasks, key=lambda timed_task: _rank(timed_task.task_id)))


def _moves(flock: _TaskGroup, moment: int, load: Counter[int], limit: int) -> Iterator[MinuteMove]:
    """Yield moves until the moment has no more than `limit` starts, or no other minute would be better for any task left."""
    shifts = {minute: (minute - flock.minute) * _SECONDS for minute in range(_MINUTES) if minute != flock.minute}
    worst = {minute: max(load[each + by] for each in flock.moments) for minute, by in shifts.items()}
    while flock.timed and load[moment] > limit:
        timed_task = flock.timed[-1]
        order = [minute for minute in _preferred_minutes(timed_task.task_id) if minute != flock.minute]
        free = next((minute for minute in order if worst[minute] < limit), None)
        minute = min(order, key=lambda each: worst[each]) if free is None else free
        if worst[minute] + 1 >= load[moment]:
            return
        flock.timed.pop()
        for each in flock.moments:
            load[each] -= 1
            load[each + shifts[minute]] += 1
        worst[minute] += 1
        fields = cron.expand(timed_task.expression).split()
        yield MinuteMove(timed_task.task_id, timed_task.expression, " ".join([str(minute), *fields[1:]]))


def count_starts(schedules: Iterable[TimedTask], fires: FiresBySchedule) -> Counter[datetime]:
    """Return the number of runs that start at each moment, in UTC."""
    load: Counter[datetime] = Counter()
    for key, number in Counter(timed_task.key for timed_task in schedules).items():
        for fire in fires[key]:
            load[fire.at.astimezone(UTC)] += number
    return load


def _rank(task_id: str) -> bytes:
    return sha256(task_id.encode()).digest()


def _preferred_minutes(task_id: str) -> Iterator[int]:
    """Yield every minute of an hour, in an order that depends on the task's id alone."""
    rank = _rank(task_id)
    start, step = rank[0] * 256 + rank[1], _STEPS[rank[2] % len(_STEPS)]
    return ((start + step * place) % _MINUTES for place in range(_MINUTES))
