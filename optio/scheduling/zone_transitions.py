"""Clocks of a zone: when they are set, and how far they stand from UTC in between."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
# Nobody waits for what is further away.
_LAST_YEAR = 9000


class ClockChange(NamedTuple):
    """The moment at which a zone's clocks are set, in UTC, and how far they stand from UTC before and after it."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def old(self) -> datetime:
        """What the clocks show when they are set; of no zone."""
        return (self.at + self.before).replace(tzinfo=None)

    @property
    def skips(self) -> bool:
        """Whether they go forward."""
        return self.after > self.before

    @property
    def new(self) -> datetime:
        """What they are set to; of no zone."""
        return (self.at + self.after).replace(tzinfo=None)


def clock_changes(zone: str, after: datetime, until: datetime) -> Iterator[ClockChange]:
    """Every change in (after, until], in order."""
    for (_, end, before), (_, _, then) in pairwise(offset_spans(zone, after)):
        if end > until:
            return
        if before != then:
            yield ClockChange(end, before, then)


def offset_spans(zone: str, at: datetime, *, backwards: bool = False) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Stretches [begin, end) in which the zone's clocks go evenly, each with its offset; from the one at `at` on."""
    years = range(at.year, 1, -1) if backwards else range(at.year, _LAST_YEAR)
    for year in years:
        found = pairwise(_offset_bounds(zone, year))
        for begin, end in reversed(list(found)) if backwards else found:
            if begin < at if backwards else end > at:
                yield begin, end, _offset(zone, begin)


@lru_cache(maxsize=8192)
def _offset_bounds(zone: str, year: int) -> tuple[datetime, ...]:
    """The beginning of the year, the moments at which the zone's offset changes, and the end of the year."""
    days, place = _midnights(year), ZoneInfo(zone)
    offsets = [day.astimezone(place).utcoffset() for day in days]
    found = {days[0], days[-1]}
    for (before, after), (old, new) in zip(pairwise(days), pairwise(offsets), strict=True):
        if old != new:
            found.add(_find_change(zone, before, after))
    return tuple(sorted(found))


@lru_cache(maxsize=64)
def _midnights(year: int) -> tuple[datetime, ...]:
    """Every midnight of a year, with that of its end."""
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    return tuple(begin + _DAY * place for place in range((end - begin).days + 1))


def _find_change(zone: str, before: datetime, after: datetime) -> datetime:
    """The second at which the offset has changed."""
    old = _offset(zone, before)
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        before, after = (middle, after) if _offset(zone, middle) == old else (before, middle)
    return after


def _offset(zone: str, at: datetime) -> timedelta:
    return at.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()
