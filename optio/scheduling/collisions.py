"""Herds: more starts in one minute than can begin at once, and for some of the tasks another minute of the same hour.

A task's minute depends on its id: everybody is proposed the same, and one more task changes little. Only who states the
herd's own minute, and no list or step of minutes, is asked to move.
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
# A step with one of these meets every minute of the hour.
_STEPS = tuple(step for step in range(1, _MINUTES) if gcd(step, _MINUTES) == 1)


class MinuteMove(NamedTuple):
    """A task, and the expression to write instead of the one it has."""

    task_id: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Collisions:
    """The `crowded` moments, each with its starts, are those with more than `limit`. `most` start in one minute; with the moves
    made it would be `then`."""

    limit: int
    most: int
    crowded: tuple[tuple[datetime, int], ...]
    moves: tuple[MinuteMove, ...]
    then: int


def find_collisions(
    schedules: Sequence[TimedTask], found: FiresBySchedule, after: datetime, until: datetime, limit: int
) -> Collisions:
    """What starts together in (after, until], which is what was `found`."""
    load = count_starts(schedules, found)
    crowded = tuple(sorted((at, number) for at, number in load.items() if number > limit))
    moves = tuple(sorted(spread_minutes(schedules, found, limit))) if crowded else ()
    most = then = max(load.values(), default=0)
    if moves:
        written = {move.task_id: move.new for move in moves}
        moved = [each._replace(expression=written.get(each.task_id, each.expression)) for each in schedules]
        fresh = fires_by_schedule((each for each in moved if each.key not in found), after, until)
        then = max(count_starts(moved, {**found, **fresh}).values())
    return Collisions(limit, most, crowded, moves, then)


def spread_minutes(schedules: Sequence[TimedTask], found: FiresBySchedule, limit: int) -> Iterator[MinuteMove]:
    """Moves by which fewer start in the fullest minutes: no more than `limit` where there is room for them in their hours."""
    load = Counter({round(at.timestamp()): number for at, number in count_starts(schedules, found).items()})
    at: dict[int, list[_TaskGroup]] = {}
    for flock in _task_groups(schedules, found):
        for moment in flock.moments:
            if load[moment] > limit:
                at.setdefault(moment, []).append(flock)
    stuck: set[tuple[str, str]] = set()
    for moment in sorted(at, key=lambda each: (-load[each], each)):
        # Who fires seldom goes first: that changes least.
        for flock in sorted(at[moment], key=lambda each: (len(each.moments), each.key)):
            # Whom no other minute would help here, it would not where fewer start.
            if load[moment] > limit and flock.timed and flock.key not in stuck:
                yield from _moves(flock, moment, load, limit)
                if load[moment] > limit:
                    stuck.add(flock.key)


@dataclass(frozen=True, slots=True)
class _TaskGroup:
    """Tasks of one schedule that states one minute, and the moments at which they fire, in seconds of the epoch. The last of
    `timed` is the first to go, and then is no longer among them."""

    key: tuple[str, str]
    minute: int
    moments: Sequence[int]
    timed: list[TimedTask]


def _task_groups(schedules: Sequence[TimedTask], found: FiresBySchedule) -> Iterator[_TaskGroup]:
    by_key: dict[tuple[str, str], list[TimedTask]] = {}
    for timed in schedules:
        by_key.setdefault(timed.key, []).append(timed)
    for key, mine in by_key.items():
        minute = cron.expand(key[0]).split()[0]
        if minute.isdigit():
            # What the clocks have moved, another minute would not move elsewhere.
            own = [round(fire.at.timestamp()) for fire in found[key] if fire.at.minute == int(minute)]
            yield _TaskGroup(key, int(minute), own, sorted(mine, key=lambda each: _rank(each.task_id)))


def _moves(flock: _TaskGroup, moment: int, load: Counter[int], limit: int) -> Iterator[MinuteMove]:
    """Moves until the moment has no more than `limit`, or nobody is left who would be better off."""
    moved = {minute: (minute - flock.minute) * _SECONDS for minute in range(_MINUTES) if minute != flock.minute}
    worst = {minute: max(load[each + by] for each in flock.moments) for minute, by in moved.items()}
    while flock.timed and load[moment] > limit:
        timed = flock.timed[-1]
        order = [minute for minute in _preferred_minutes(timed.task_id) if minute != flock.minute]
        free = next((minute for minute in order if worst[minute] < limit), None)
        minute = min(order, key=lambda each: worst[each]) if free is None else free
        if worst[minute] + 1 >= load[moment]:
            return
        flock.timed.pop()
        for each in flock.moments:
            load[each] -= 1
            load[each + moved[minute]] += 1
        worst[minute] += 1
        fields = cron.expand(timed.expression).split()
        yield MinuteMove(timed.task_id, timed.expression, " ".join([str(minute), *fields[1:]]))


def count_starts(schedules: Iterable[TimedTask], found: FiresBySchedule) -> Counter[datetime]:
    """How many start at each moment."""
    load: Counter[datetime] = Counter()
    for key, number in Counter(timed.key for timed in schedules).items():
        for fire in found[key]:
            load[fire.at.astimezone(UTC)] += number
    return load


def _rank(task_id: str) -> bytes:
    return sha256(task_id.encode()).digest()


def _preferred_minutes(task_id: str) -> Iterator[int]:
    """Every minute, in an order of the task's own."""
    rank = _rank(task_id)
    start, step = rank[0] * 256 + rank[1], _STEPS[rank[2] % len(_STEPS)]
    return ((start + step * place) % _MINUTES for place in range(_MINUTES))
