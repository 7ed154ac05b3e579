"""Clock changes of a zone, and its UTC offsets between them, found by search because `zoneinfo` does not list them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
# Nothing later is of interest, and `datetime` ends at 9999.
_LAST_YEAR = 9000


class ClockChange(NamedTuple):
    """A clock change: its moment in UTC, and the zone's UTC offsets before and after it."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def old(self) -> datetime:
        """Return the time that the clocks show when they are set, without a zone."""
        return (self.at + self.before).replace(tzinfo=None)

    @property
    def skips(self) -> bool:
        """Return whether the clocks go forward, so that some times do not occur."""
        return self.after > self.before

    @property
    def new(self) -> datetime:
        """Return the time that the clocks are set to, without a zone."""
        return (self.at + self.after).replace(tzinfo=None)


def clock_changes(zone: str, after: datetime, until: datetime) -> Iterator[ClockChange]:
    """Yield every clock change of the zone in (after, until], in order."""
    for (_, end, before), (_, _, after_change) in pairwise(offset_spans(zone, after)):
        if end > until:
            return
        if before != after_change:
            yield ClockChange(end, before, after_change)


def offset_spans(zone: str, at: datetime, *, backwards: bool = False) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Yield the spans [begin, end) of constant UTC offset, each with its offset, from the one that holds `at` onwards, or
    backwards."""
    years = range(at.year, 1, -1) if backwards else range(at.year, _LAST_YEAR)
    for year in years:
        spans = pairwise(_offset_bounds(zone, year))
        for begin, end in reversed(list(spans)) if backwards else spans:
            if begin < at if backwards else end > at:
                yield begin, end, _offset(zone, begin)


@lru_cache(maxsize=8192)
def _offset_bounds(zone: str, year: int) -> tuple[datetime, ...]:
    """Return the beginning of the year, the moments at which the zone's offset changes, and the end of the year."""
    days, place = _midnights(year), ZoneInfo(zone)
    offsets = [day.astimezone(place).utcoffset() for day in days]
    bounds = {days[0], days[-1]}
    for (before, after), (old, new) in zip(pairwise(days), pairwise(offsets), strict=True):
        if old != new:
            bounds.add(_find_change(zone, before, after))
    return tuple(sorted(bounds))


@lru_cache(maxsize=64)
def _midnights(year: int) -> tuple[datetime, ...]:
    """Return every midnight (UTC) of a year, and that of its end."""
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    return tuple(begin + _DAY * place for place in range((end - begin).days + 1))


def _find_change(zone: str, before: datetime, after: datetime) -> datetime:
    """Return the second at which the offset changes between two moments, by bisection."""
    old = _offset(zone, before)
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        before, after = (middle, after) if _offset(zone, middle) == old else (before, middle)
    return after


def _offset(zone: str, at: datetime) -> timedelta:
    return at.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()
