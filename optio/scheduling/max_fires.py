"""The most fires of a schedule in any 24 hours, or in any multiple of 24 hours, on the clocks of its zone. Spending limits are
computed from it.

Clocks that go forward bring the fires of two dates nearer to each other, and clocks that go back may show a time twice; both
are counted.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate

from optio.scheduling import cron
from optio.scheduling.zone_transitions import ClockChange, clock_changes

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
# In 28 years every date falls on every weekday.
_CYCLE, _YEARS = datetime(2024, 1, 1, tzinfo=UTC), 28
# The zone data lists changes that follow the moon until 2087; all others have repeated by then.
_FIRST, _LAST = datetime(2026, 1, 1, tzinfo=UTC), datetime(2088, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)
def max_fires(expression: str, zone: str, days: int) -> int:
    """Return the most fires in `days` times 24 hours, wherever these begin."""
    fields = cron.expand(expression).split(" ", 2)[2]
    count = len(cron.minutes_of_day(expression)) * _max_dates(fields, days)
    span = _DAY * days
    for change in _distinct_changes(fields, zone, days):
        count = _max_within(cron.fires_between(expression, zone, change.at - span - _MINUTE, change.at + span), span, count)
    return count


def _max_within(times: Iterable[datetime], span: timedelta, highest: int) -> int:
    """Return the most of these times, which are in order, that lie in one span without its end, or `found` if that is more."""
    at = list(times)
    for first, begin in enumerate(at):
        while first + highest < len(at) and at[first + highest] - begin < span:
            highest += 1
    return highest


@lru_cache(maxsize=4096)
def _max_dates(fields: str, days: int) -> int:
    """Return the most dates, of `days` consecutive ones, that these three fields include."""
    day, month, weekday = fields.split()
    if (day, month, weekday) == ("*", "*", "*"):
        return days
    has_day = cron.day_test(f"0 0 {fields}")
    length = _YEARS * 366
    if weekday == "*":
        length = 4 * 366
    elif (day, month) == ("*", "*") and not set(weekday) & set("#Ll"):
        length = days + 7
    dates = (_CYCLE.date() + _DAY * place for place in range(length))
    counts = [0, *accumulate(map(has_day, dates))]
    return max(last - first for first, last in zip(counts, counts[days:], strict=False))


@lru_cache(maxsize=4096)
def _distinct_changes(fields: str, zone: str, days: int) -> tuple[ClockChange, ...]:
    """Return one clock change for each combination of included dates and neighbouring changes; the others would give the same
    counts."""
    day, month, weekday = fields.split()
    has_day = None if (day, month, weekday) == ("*", "*", "*") else lru_cache(None)(cron.day_test(f"0 0 {fields}"))
    span, clocks = _DAY * days, _changes(zone)
    moments = [clock.at for clock in clocks]
    distinct: dict[object, ClockChange] = {}
    for place, change in enumerate(clocks):
        # Days that hold an earlier change, too, are counted at that one.
        neighbours = clocks[place : bisect_right(moments, change.at + span)]
        near = tuple((clock.at - change.at, clock.after - clock.before) for clock in neighbours)
        dates = (change.old.date() + _DAY * by for by in range(-days - 1, days + 3))
        distinct.setdefault((change.old.time(), near, has_day and tuple(map(has_day, dates))), change)
    return tuple(distinct.values())


@lru_cache(maxsize=1024)
def _changes(zone: str) -> Sequence[ClockChange]:
    return tuple(clock_changes(zone, _FIRST, _LAST))
