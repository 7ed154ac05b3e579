"""The fires of many schedules on one day, as minutes: fast enough for a calendar of ten thousand tasks.

On a day without a clock change, the fires of a schedule are the times of its expression, if the expression includes the date.
So they are read from a table, and only days with a clock change in the schedule's zone are computed fire by fire.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from optio.scheduling import cron
from optio.scheduling.zone_transitions import offset_spans

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_DAY_MINUTES = 24 * 60
# Fires moved by a clock change come at most this long after it.
_DST_MARGIN = timedelta(hours=3)


class ScheduleShape(NamedTuple):
    """A schedule, taken apart: its times as minutes since midnight, and its last three fields, which choose the dates."""

    expression: str
    zone: str
    minutes: tuple[int, ...]
    dates: str


def shape_of(expression: str, zone: str) -> ScheduleShape:
    """Return the shape of a schedule; raise CronError."""
    return ScheduleShape(expression, zone, cron.minutes_of_day(expression), cron.expand(expression).split(" ", 2)[2])


def by_zone(shapes: Iterable[ScheduleShape]) -> dict[str, list[ScheduleShape]]:
    """Return the shapes by zone, as `minutes_between` takes them."""
    shapes_by_zone: dict[str, list[ScheduleShape]] = {}
    for shape in shapes:
        shapes_by_zone.setdefault(shape.zone, []).append(shape)
    return shapes_by_zone


def minutes_between(
    shapes: Mapping[str, Sequence[ScheduleShape]], begin: datetime, end: datetime
) -> Iterator[tuple[ScheduleShape, Sequence[int]]]:
    """Yield each schedule that fires in [begin, end), with its fires as minutes since `begin`. A schedule may come in parts,
    one for each date of its own zone. Both times are whole minutes in UTC."""
    length = (end - begin) // _MINUTE
    for zone, zone_shapes in shapes.items():
        offset = _constant_offset(zone, begin, end)
        if offset is None:
            yield from _exact(zone_shapes, begin, end)
            continue
        local = begin + offset
        place, base = 0, -(60 * local.hour + local.minute)
        while base < length:
            day = local.date() + _DAY * place
            is_whole_day = base == 0 and length == _DAY_MINUTES
            for shape in zone_shapes:
                if _includes(shape.dates, day):
                    at = (
                        shape.minutes
                        if is_whole_day
                        else [base + minute for minute in shape.minutes if 0 <= base + minute < length]
                    )
                    if at:
                        yield shape, at
            place, base = place + 1, base + _DAY_MINUTES


def day_pattern(shapes: Mapping[str, Sequence[ScheduleShape]], begin: datetime, end: datetime) -> Hashable | None:
    """Return what decides the fires in [begin, end): equal patterns mean equal minutes. None near a clock change, where every
    day is a pattern of its own."""
    pattern: list[Hashable] = [end - begin]
    for zone, zone_shapes in shapes.items():
        offset = _constant_offset(zone, begin, end)
        if offset is None:
            return None
        kinds = dict.fromkeys(shape.dates for shape in zone_shapes)
        first, last = (begin + offset).date(), (end + offset - _MINUTE).date()
        days = (first + _DAY * place for place in range((last - first).days + 1))
        pattern.append((offset, tuple(tuple(_includes(dates, day) for dates in kinds) for day in days)))
    return tuple(pattern)


def _exact(shapes: Sequence[ScheduleShape], begin: datetime, end: datetime) -> Iterator[tuple[ScheduleShape, Sequence[int]]]:
    for shape in shapes:
        fires = cron.fires_between(shape.expression, shape.zone, begin - _MINUTE, end - _MINUTE)
        if at := [(fire - begin) // _MINUTE for fire in fires]:
            yield shape, at


def _constant_offset(zone: str, begin: datetime, end: datetime) -> timedelta | None:
    """Return the zone's UTC offset in this time, if no clock change is near; else None."""
    first: timedelta | None = None
    for _, until, offset in offset_spans(zone, begin - _DST_MARGIN):
        if first is not None and offset != first:
            return None
        first = offset
        if until >= end:
            break
    return first if first is not None and not first % _MINUTE else None


@lru_cache(maxsize=1 << 16)
def _includes(dates: str, day: date) -> bool:
    return _day_test(dates)(day)


_day_test = lru_cache(maxsize=4096)(lambda dates: cron.day_test(f"0 0 {dates}"))
