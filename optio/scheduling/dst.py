"""Odd nights: what becomes of a schedule when the clocks of its zone are set."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

from optio.scheduling import cron
from optio.scheduling.zone_transitions import ClockChange, clock_changes

_EVERY_HOUR = "*"
# What was decided of single years is over by then, and the zones' rules repeat; in so many years all dates and weekdays meet.
_RULES_YEAR, _CYCLE_YEARS = 2040, 28
_MINUTES_OF_DAY = 24 * 60

DstOutcome = Literal["moved", "skipped", "once", "twice"]


class DstEffect(NamedTuple):
    """What becomes of the times that the clocks skip (`moved`, `skipped`) or show twice (`once`, `twice`)."""

    what: DstOutcome
    times: tuple[datetime, ...]


def dst_effect(expression: str, change: ClockChange) -> DstEffect | None:
    """What a change of the clocks does to a schedule; None when nobody would notice. What goes by elapsed time goes on."""
    times = cron.wall_times(expression, min(change.old, change.new), max(change.old, change.new))
    if not times or cron.expand(expression).split()[1] == _EVERY_HOUR:
        return None
    if cron.follows_elapsed_time(expression):
        return DstEffect("skipped" if change.skips else "twice", tuple(times))
    return DstEffect("moved" if change.skips else "once", tuple(times))


def dst_effects(expression: str, zone: str) -> tuple[tuple[ClockChange, DstEffect], ...]:
    """What the clocks of a zone do to a schedule by the rules that hold from now on: the first night that skips some of its
    times, and the first that shows some twice."""
    windows = _windows(zone)
    if not windows or not any(begin <= at < end for at in cron.minutes_of_day(expression) for begin, end in windows):
        return ()
    return _find_effects(expression, zone)


@lru_cache(maxsize=4096)
def _find_effects(expression: str, zone: str) -> tuple[tuple[ClockChange, DstEffect], ...]:
    has_day = cron.day_test(expression)
    found: dict[bool, tuple[ClockChange, DstEffect]] = {}
    for change in _changes_by_rule(zone):
        # Cheap to ask, and mostly enough.
        if change.skips in found or not (has_day(change.old.date()) or has_day(change.new.date())):
            continue
        if (it := dst_effect(expression, change)) is not None:
            found[change.skips] = change, it
    return tuple(found[skips] for skips in (True, False) if skips in found)


@lru_cache(maxsize=1024)
def _windows(zone: str) -> tuple[tuple[int, int], ...]:
    """The minutes of a day that the clocks skip or show twice."""
    found = set()
    for change in clock_changes(zone, datetime(_RULES_YEAR, 1, 1, tzinfo=UTC), datetime(_RULES_YEAR + 1, 1, 1, tzinfo=UTC)):
        first = min(change.old, change.new)
        begin = 60 * first.hour + first.minute
        end = begin + abs(change.old - change.new) // timedelta(minutes=1)
        # What reaches over midnight begins the next day.
        found |= {(begin, end), (begin - _MINUTES_OF_DAY, end - _MINUTES_OF_DAY)}
    return tuple(found)


@lru_cache(maxsize=1024)
def _changes_by_rule(zone: str) -> tuple[ClockChange, ...]:
    return tuple(
        clock_changes(zone, datetime(_RULES_YEAR, 1, 1, tzinfo=UTC), datetime(_RULES_YEAR + _CYCLE_YEARS, 1, 1, tzinfo=UTC))
    )
