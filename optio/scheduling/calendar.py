"""Fires for people: on the clock of the schedule's own zone, with notes on nights when the clocks are set, grouped into days.
`optio schedule`, the calendar of `optio plan` and editor hovers use it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

from optio.scheduling import cron
from optio.scheduling.dst import DstEffect, dst_effect
from optio.scheduling.zone_transitions import ClockChange, clock_changes

_SECOND = timedelta(seconds=1)
# Fires moved by a clock change come at most this long after it.
_DST_MARGIN = timedelta(hours=3)


class TimedTask(NamedTuple):
    """A task with its cron expression and zone."""

    task_id: str
    expression: str
    zone: str

    @property
    def key(self) -> tuple[str, str]:
        """Return expression and zone: tasks with the same key fire together, so their fires are computed once."""
        return self.expression, self.zone


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire, in the zone's time; `note` says what a clock change did to it, and is empty on all other days."""

    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class CalendarRow:
    """The fires of one task on one day, of which there is at least one."""

    timed: TimedTask
    fires: tuple[Fire, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """A day on which something fires, by the clock of the calendar's own zone; rows are in the order of their first fires."""

    date: date
    rows: tuple[CalendarRow, ...]


@dataclass(frozen=True, slots=True)
class ClockChangeNight:
    """A night on which the clocks of a zone are set, with the tasks whose fires it changes."""

    zone: str
    change: ClockChange
    felt: tuple[tuple[str, DstEffect], ...]


FiresBySchedule = Mapping[tuple[str, str], Sequence[Fire]]


def fires(expression: str, zone: str, after: datetime, until: datetime | None = None) -> Iterator[Fire]:
    """Yield the fires after `after`, up to and including `until` where it is given, in order; raise CronError before the first
    one."""
    coming = cron.fires(expression, zone, after) if until is None else cron.fires_between(expression, zone, after, until)
    place = ZoneInfo(zone)
    return (
        Fire(at.astimezone(place), dst_note(expression, at.astimezone(place)) if _is_near_dst(zone, at) else "")
        for at in coming
    )


def dst_note(expression: str, local: datetime) -> str:
    """Return what a clock change has to do with a fire at this local time, or an empty text.

    A time that the clocks show twice is told by its `fold`. A time shortly after the clocks went forward was moved if the
    expression, read in UTC, does not have that time of the clock.
    """
    first, second = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    if first is not None and second is not None and first > second:
        ordinal = "second" if local.fold else "first"
        return f"the {ordinal} {local:%H:%M} of that night: the clocks go back"
    before = (local.astimezone(UTC) - _DST_MARGIN).astimezone(local.tzinfo)
    if before.utcoffset() == first:
        return ""
    wall = local.replace(tzinfo=UTC, fold=0)
    if cron.next_fire(expression, "UTC", wall - _SECOND) != wall:
        skipped_fires = cron.last_fires(expression, "UTC", wall, wall - timedelta(days=1), 1)
        return (
            f"moved from {skipped_fires[0]:%H:%M}, which the clocks skip that night" if skipped_fires else "moved by the clocks"
        )
    return ""


def _is_near_dst(zone: str, at: datetime) -> bool:
    return any(begin <= at <= end for begin, end in _dst_spans(zone, at.year))


@lru_cache(maxsize=1024)
def _dst_spans(zone: str, year: int) -> tuple[tuple[datetime, datetime], ...]:
    """Return the hours around each clock change that may affect fires of this year."""
    first, last = datetime(year, 1, 1, tzinfo=UTC) - _DST_MARGIN, datetime(year + 1, 1, 1, tzinfo=UTC) + _DST_MARGIN
    spans = [(change.at, abs(change.after - change.before)) for change in clock_changes(zone, first, last)]
    return tuple((at - span, at + max(_DST_MARGIN, span)) for at, span in spans)


def fires_by_schedule(schedules: Iterable[TimedTask], after: datetime, until: datetime) -> FiresBySchedule:
    """Return all fires in (after, until] by expression and zone, so that tasks with equal schedules share them."""
    return {key: tuple(fires(*key, after, until)) for key in dict.fromkeys(timed_task.key for timed_task in schedules)}


def calendar_days(schedules: Iterable[TimedTask], fires: FiresBySchedule, zone: str) -> list[Day]:
    """Return the given fires by days of this zone, in order; `found` comes from `fires_by_schedule` for the same tasks."""
    place = ZoneInfo(zone)
    fires_by_day = {
        key: [(day, tuple(its)) for day, its in groupby(schedule_fires, lambda fire: fire.at.astimezone(place).date())]
        for key, schedule_fires in fires.items()
    }
    by_day: dict[date, list[CalendarRow]] = {}
    for timed_task in schedules:
        for day, its in fires_by_day[timed_task.key]:
            by_day.setdefault(day, []).append(CalendarRow(timed_task, its))
    return [
        Day(day, tuple(sorted(rows, key=lambda row: (row.fires[0].at.astimezone(UTC), row.timed.task_id))))
        for day, rows in sorted(by_day.items())
    ]


def clock_change_nights(schedules: Iterable[TimedTask], after: datetime, until: datetime) -> list[ClockChangeNight]:
    """Return every clock change in (after, until] of the zones in which something is scheduled, in order, also those that
    change no fire."""
    by_zone: dict[str, list[TimedTask]] = {}
    for timed_task in schedules:
        by_zone.setdefault(timed_task.zone, []).append(timed_task)
    nights = [
        ClockChangeNight(
            zone,
            change,
            tuple(
                (timed_task.task_id, effect)
                for timed_task in zone_tasks
                if (effect := dst_effect(timed_task.expression, change)) is not None
            ),
        )
        for zone, zone_tasks in by_zone.items()
        for change in clock_changes(zone, after, until)
    ]
    return sorted(nights, key=lambda night: (night.change.at, night.zone))
