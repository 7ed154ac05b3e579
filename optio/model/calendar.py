"""Fires as a person sees them: on the clock of the schedule's own zone, with what an odd night did to them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import groupby, takewhile
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from optio.model import cron
from optio.model.clocks import Change, changes

_MOMENT = timedelta(seconds=1)
# How long after the clocks are set something may come that was meant for before.
_ODD_HOURS = timedelta(hours=3)
_EVERY_HOUR = "*"
# What was decided of single years is over by then, and the zones' rules repeat; in so many years all dates and weekdays meet.
_RULES, _CYCLE = 2040, 28
_MINUTES = 24 * 60

What = Literal["moved", "skipped", "once", "twice"]


class Timed(NamedTuple):
    """A task and when it fires."""

    task_id: str
    expression: str
    zone: str

    @property
    def key(self) -> tuple[str, str]:
        """Expression and zone: tasks with the same fire together."""
        return self.expression, self.zone


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire, in the zone's time; `note` says what an odd night did to it."""

    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What a task does on one day: it fires once at least."""

    timed: Timed
    fires: tuple[Fire, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """A day on which something fires, by the calendar's own clocks; rows in the order of their first fires."""

    date: date
    rows: tuple[Row, ...]


class Odd(NamedTuple):
    """What becomes of the times that the clocks skip (`moved`, `skipped`) or show twice (`once`, `twice`)."""

    what: What
    times: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class Night:
    """The clocks of a zone are set, and who feels it."""

    zone: str
    change: Change
    felt: tuple[tuple[str, Odd], ...]


Coming = Mapping[tuple[str, str], Sequence[Fire]]


def fires(expression: str, zone: str, after: datetime, until: datetime | None = None) -> Iterator[Fire]:
    """What comes later than `after`, and not later than `until`, in order; raises CronError before the first one."""
    coming = cron.fires(expression, zone, after)
    if until is not None:
        coming = takewhile(lambda at: at <= until, coming)
    place = ZoneInfo(zone)
    return (Fire(at.astimezone(place), note(expression, at.astimezone(place)) if _is_near(zone, at) else "") for at in coming)


def note(expression: str, local: datetime) -> str:
    """What the change of the clocks has to do with a fire at this time. Read as if there were no summer time, the expression
    either has this time of the clock or it does not."""
    first, second = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    if first is not None and second is not None and first > second:
        which = "second" if local.fold else "first"
        return f"the {which} {local:%H:%M} of that night: the clocks go back"
    before = (local.astimezone(UTC) - _ODD_HOURS).astimezone(local.tzinfo)
    if before.utcoffset() == first:
        return ""
    wall = local.replace(tzinfo=UTC, fold=0)
    if cron.next_fire(expression, "UTC", wall - _MOMENT) != wall:
        meant = cron.last_fires(expression, "UTC", wall, wall - timedelta(days=1), 1)
        return f"moved from {meant[0]:%H:%M}, which the clocks skip that night" if meant else "moved by the clocks"
    return ""


def _is_near(zone: str, at: datetime) -> bool:
    return any(begin <= at <= end for begin, end in _near(zone, at.year))


@lru_cache(maxsize=1024)
def _near(zone: str, year: int) -> tuple[tuple[datetime, datetime], ...]:
    """The hours about each change that may have to do with this year."""
    first, last = datetime(year, 1, 1, tzinfo=UTC) - _ODD_HOURS, datetime(year + 1, 1, 1, tzinfo=UTC) + _ODD_HOURS
    spans = [(each.at, abs(each.after - each.before)) for each in changes(zone, first, last)]
    return tuple((at - span, at + max(_ODD_HOURS, span)) for at, span in spans)


def coming(schedules: Iterable[Timed], after: datetime, until: datetime) -> Coming:
    """All that fires in (after, until]. Tasks with one schedule share what is found."""
    return {key: tuple(fires(*key, after, until)) for key in dict.fromkeys(timed.key for timed in schedules)}


def days(schedules: Iterable[Timed], found: Coming, zone: str) -> list[Day]:
    """What is found of these, by days of this zone."""
    place = ZoneInfo(zone)
    parted = {
        key: [(day, tuple(its)) for day, its in groupby(mine, lambda fire: fire.at.astimezone(place).date())]
        for key, mine in found.items()
    }
    by_day: dict[date, list[Row]] = {}
    for timed in schedules:
        for day, its in parted[timed.key]:
            by_day.setdefault(day, []).append(Row(timed, its))
    return [
        Day(day, tuple(sorted(rows, key=lambda row: (row.fires[0].at.astimezone(UTC), row.timed.task_id))))
        for day, rows in sorted(by_day.items())
    ]


def odd(expression: str, change: Change) -> Odd | None:
    """What a change of the clocks does to a schedule; None when nobody would notice. What goes by elapsed time goes on."""
    times = cron.on_clock(expression, min(change.old, change.new), max(change.old, change.new))
    if not times or cron.expand(expression).split()[1] == _EVERY_HOUR:
        return None
    if cron.elapses(expression):
        return Odd("skipped" if change.skips else "twice", tuple(times))
    return Odd("moved" if change.skips else "once", tuple(times))


def odd_nights(expression: str, zone: str) -> tuple[tuple[Change, Odd], ...]:
    """What the clocks of a zone do to a schedule by the rules that hold from now on: the first night that skips some of its
    times, and the first that shows some twice."""
    windows = _windows(zone)
    if not windows or not any(begin <= at < end for at in cron.minutes_of_day(expression) for begin, end in windows):
        return ()
    return _odd_nights(expression, zone)


@lru_cache(maxsize=4096)
def _odd_nights(expression: str, zone: str) -> tuple[tuple[Change, Odd], ...]:
    has_day = cron.day_test(expression)
    found: dict[bool, tuple[Change, Odd]] = {}
    for change in _changes_by_rule(zone):
        # Cheap to ask, and mostly enough.
        if change.skips in found or not (has_day(change.old.date()) or has_day(change.new.date())):
            continue
        if (it := odd(expression, change)) is not None:
            found[change.skips] = change, it
    return tuple(found[skips] for skips in (True, False) if skips in found)


@lru_cache(maxsize=1024)
def _windows(zone: str) -> tuple[tuple[int, int], ...]:
    """The minutes of a day that the clocks skip or show twice."""
    found = set()
    for change in changes(zone, datetime(_RULES, 1, 1, tzinfo=UTC), datetime(_RULES + 1, 1, 1, tzinfo=UTC)):
        first = min(change.old, change.new)
        begin = 60 * first.hour + first.minute
        end = begin + abs(change.old - change.new) // timedelta(minutes=1)
        # What reaches over midnight begins the next day.
        found |= {(begin, end), (begin - _MINUTES, end - _MINUTES)}
    return tuple(found)


@lru_cache(maxsize=1024)
def _changes_by_rule(zone: str) -> tuple[Change, ...]:
    return tuple(changes(zone, datetime(_RULES, 1, 1, tzinfo=UTC), datetime(_RULES + _CYCLE, 1, 1, tzinfo=UTC)))


def nights(schedules: Iterable[Timed], after: datetime, until: datetime) -> list[Night]:
    """Every change of the clocks of a zone in which something is scheduled, in order."""
    by_zone: dict[str, list[Timed]] = {}
    for timed in schedules:
        by_zone.setdefault(timed.zone, []).append(timed)
    found = [
        Night(zone, change, tuple((timed.task_id, it) for timed in mine if (it := odd(timed.expression, change)) is not None))
        for zone, mine in by_zone.items()
        for change in changes(zone, after, until)
    ]
    return sorted(found, key=lambda night: (night.change.at, night.zone))
