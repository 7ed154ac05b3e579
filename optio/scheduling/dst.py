"""Clock changes and schedules: which times of a schedule a change moves, skips or repeats. `optio check` warns of them, without
a clock of its own: it reads the zone's rules, far in the future."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

from optio.scheduling import cron
from optio.scheduling.zone_transitions import ClockChange, clock_changes

_EVERY_HOUR = "*"
# By then exceptions for single years are past and the zones' rules repeat; in 28 years every date meets every weekday.
_RULES_YEAR, _CYCLE_YEARS = 2040, 28
_MINUTES_OF_DAY = 24 * 60

DstOutcome = Literal["moved", "skipped", "once", "twice"]


class DstEffect(NamedTuple):
    """The effect of one clock change on a schedule: the times that the clocks skip (`moved` or `skipped`) or show twice (fired
    `once` or `twice`)."""

    what: DstOutcome
    times: tuple[datetime, ...]


def dst_effect(expression: str, change: ClockChange) -> DstEffect | None:
    """Return the effect of a clock change on a schedule; None when no fire is affected, or the schedule fires at every hour,
    where nobody would notice."""
    times = cron.wall_times(expression, min(change.old, change.new), max(change.old, change.new))
    if not times or cron.expand(expression).split()[1] == _EVERY_HOUR:
        return None
    if cron.follows_elapsed_time(expression):
        return DstEffect("skipped" if change.skips else "twice", tuple(times))
    return DstEffect("moved" if change.skips else "once", tuple(times))


def dst_effects(expression: str, zone: str) -> tuple[tuple[ClockChange, DstEffect], ...]:
    """Return the effects of a zone's present rules on a schedule: of the first change that skips some of its times, and of the
    first that shows some twice."""
    windows = _windows(zone)
    if not windows or not any(begin <= at < end for at in cron.minutes_of_day(expression) for begin, end in windows):
        return ()
    return _find_effects(expression, zone)


@lru_cache(maxsize=4096)
def _find_effects(expression: str, zone: str) -> tuple[tuple[ClockChange, DstEffect], ...]:
    has_day = cron.day_test(expression)
    effects: dict[bool, tuple[ClockChange, DstEffect]] = {}
    for change in _changes_by_rule(zone):
        # A cheap test that skips most changes.
        if change.skips in effects or not (has_day(change.old.date()) or has_day(change.new.date())):
            continue
        if (effect := dst_effect(expression, change)) is not None:
            effects[change.skips] = change, effect
    return tuple(effects[skips] for skips in (True, False) if skips in effects)


@lru_cache(maxsize=1024)
def _windows(zone: str) -> tuple[tuple[int, int], ...]:
    """Return the spans of a day, in minutes since midnight, that the clocks skip or show twice."""
    windows = set()
    for change in clock_changes(zone, datetime(_RULES_YEAR, 1, 1, tzinfo=UTC), datetime(_RULES_YEAR + 1, 1, 1, tzinfo=UTC)):
        first = min(change.old, change.new)
        begin = 60 * first.hour + first.minute
        end = begin + abs(change.old - change.new) // timedelta(minutes=1)
        # A span over midnight continues on the next day.
        windows |= {(begin, end), (begin - _MINUTES_OF_DAY, end - _MINUTES_OF_DAY)}
    return tuple(windows)


@lru_cache(maxsize=1024)
def _changes_by_rule(zone: str) -> tuple[ClockChange, ...]:
    return tuple(
        clock_changes(zone, datetime(_RULES_YEAR, 1, 1, tzinfo=UTC), datetime(_RULES_YEAR + _CYCLE_YEARS, 1, 1, tzinfo=UTC))
    )
