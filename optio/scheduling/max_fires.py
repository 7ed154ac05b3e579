"""How often a schedule fires at most in any 24 hours, and in so many times 24 hours, on the clocks of its zone.

Clocks that go forward bring the fires of two dates nearer to each other, and clocks that go back may show a time twice.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate

from optio.scheduling import cron
from optio.scheduling.zone_transitions import ClockChange, clock_changes

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
# In so many years every date has fallen on every weekday.
_CYCLE, _YEARS = datetime(2024, 1, 1, tzinfo=UTC), 28
# Changes that follow the moon are laid down to 2087; all others have come round by then.
_FIRST, _LAST = datetime(2026, 1, 1, tzinfo=UTC), datetime(2088, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)
def max_fires(expression: str, zone: str, days: int) -> int:
    """The most fires in `days` times 24 hours, wherever they begin."""
    fields = cron.expand(expression).split(" ", 2)[2]
    found = len(cron.minutes_of_day(expression)) * _max_dates(fields, days)
    span = _DAY * days
    for change in _distinct_changes(fields, zone, days):
        found = _max_within(cron.fires_between(expression, zone, change.at - span - _MINUTE, change.at + span), span, found)
    return found


def _max_within(times: Iterable[datetime], span: timedelta, found: int) -> int:
    """The most of these, in order, that lie in one span, its end left out; `found` if that is more."""
    at = list(times)
    for first, begin in enumerate(at):
        while first + found < len(at) and at[first + found] - begin < span:
            found += 1
    return found


@lru_cache(maxsize=4096)
def _max_dates(fields: str, days: int) -> int:
    """The most dates on end, of so many, that these three fields have."""
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
    """Changes of the clocks, one of all that have the same dates of these fields and the same other changes near them."""
    day, month, weekday = fields.split()
    has_day = None if (day, month, weekday) == ("*", "*", "*") else lru_cache(None)(cron.day_test(f"0 0 {fields}"))
    span, clocks = _DAY * days, _changes(zone)
    found: dict[object, ClockChange] = {}
    for change in clocks:
        near = tuple((each.at - change.at, each.after - each.before) for each in clocks if abs(each.at - change.at) <= span)
        dates = (change.old.date() + _DAY * place for place in range(-days - 1, days + 3))
        found.setdefault((change.old.time(), near, has_day and tuple(map(has_day, dates))), change)
    return tuple(found.values())


@lru_cache(maxsize=1024)
def _changes(zone: str) -> Sequence[ClockChange]:
    return tuple(clock_changes(zone, _FIRST, _LAST))
