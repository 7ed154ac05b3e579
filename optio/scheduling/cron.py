"""Cron schedules: five fields in an IANA zone, with one stated policy for the two nights a year on which clocks are set.

Daylight saving: a fixed time that the spring change skips fires once, at the first instant after the gap; a fixed time that the
autumn change repeats fires once, at its first occurrence. An hour or minute with a wildcard follows elapsed time: it fires in
both repeated hours and not in the skipped one.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from optio.scheduling.zone_transitions import offset_spans

WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
# The presets that the dashboard offers by name.
PRESETS = {
    "every hour": "0 * * * *",
    "daily at midnight": "0 0 * * *",
    "weekdays at 9 AM": "0 9 * * 1-5",
    "weekly on Monday": "0 9 * * 1",
}
FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_CYCLE = datetime(2024, 1, 1, tzinfo=UTC)
# `count_fires` counts no longer spans.
_MAX_COUNTED_SPAN = timedelta(days=3653)


class _Simulator(CronSim):
    """CronSim, which tries each minute and hour on its way to the next fire, with a jump in their place. Its clock here has no
    zone or is UTC, so that each hour has 60 minutes."""

    def advance_minute(self) -> bool:
        minute = self.dt.minute
        if minute in self.minutes:
            return False
        later = min((candidate for candidate in self.minutes if candidate > minute), default=60)
        self.dt = self.dt.replace(second=0) + timedelta(minutes=later - minute)
        return True

    def advance_hour(self) -> bool:
        hour = self.dt.hour
        if hour in self.hours:
            return False
        later = min((candidate for candidate in self.hours if candidate > hour), default=24)
        self.dt = self.dt.replace(minute=0, second=0) + timedelta(hours=later - hour)
        return True


class CronError(ValueError):
    """A text that is not a schedule, or never fires; `field` is the index of the bad field, or None when the number of fields
    is wrong."""

    def __init__(self, message: str, field: int | None = None, *, never: bool = False) -> None:
        self.field, self.never = field, never
        super().__init__(message)


def expand(expression: str) -> str:
    """Return the expression in its five-field form, with single blanks; `@daily` and the other presets are replaced."""
    words = expression.split()
    return WORDS.get(" ".join(words), " ".join(words))


@lru_cache(maxsize=4096)
def check_expression(expression: str) -> None:
    """Raise CronError for a text that is not a schedule, or that never fires, such as 30 February."""
    if next(_simulator(expression, _CYCLE), None) is None:
        raise CronError("never fires: no month has such a day", 2, never=True)


def is_sound(expression: str) -> bool:
    """Return whether a text is a schedule that fires."""
    try:
        check_expression(expression)
    except CronError:
        return False
    return True


def fires(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
    """Yield the fire times after `after`, in UTC, in order and without end; raise CronError before the first one."""
    if follows_elapsed_time(expression):
        _simulator(expression, after)
        return _fires_by_offset(expression, zone, after)
    simulator = _simulator(expression, after.astimezone(ZoneInfo(zone)))
    # Started inside the repeated hour, CronSim first gives a time of the hour's first pass, which is over.
    return (utc for fire in simulator if (utc := fire.astimezone(UTC)) > after)


def next_fire(expression: str, zone: str, after: datetime) -> datetime | None:
    """Return the first fire time after `after`, in UTC; None for a schedule that has no further one."""
    return next(fires(expression, zone, after), None)


def last_fires(expression: str, zone: str, before: datetime, since: datetime, limit: int) -> list[datetime]:
    """Return at most `most` fire times in (since, before], oldest first, in UTC. The search goes backwards from `before`, so a
    long gap costs nothing."""
    # CronSim's reverse walk is exclusive of its start; a second later makes `before` itself count.
    start = datetime.fromtimestamp(int(before.timestamp()) + 1, UTC)
    if follows_elapsed_time(expression):
        walk = _fires_by_offset_backwards(expression, zone, start)
    else:
        walk = (fire.astimezone(UTC) for fire in _simulator(expression, start.astimezone(ZoneInfo(zone)), reverse=True))
    fires: list[datetime] = []
    for fire in walk:
        if fire <= since or len(fires) == limit:
            break
        if fire <= before:
            fires.append(fire)
    return fires[::-1]


def count_fires(expression: str, zone: str, after: datetime, until: datetime) -> int | None:
    """Return the number of fire times in (after, until]; None for spans over ten years, which take too long to count."""
    if until - after > _MAX_COUNTED_SPAN:
        return None
    has_day, each_day = day_test(expression), len(minutes_of_day(expression))
    total = 0
    for begin, end, dates in _parts(zone, after, until):
        total += each_day * sum(map(has_day, dates)) if dates else sum(1 for _ in _walk(expression, zone, begin, end))
    return total


def fires_between(expression: str, zone: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the fire times in (after, until], in UTC, in order; for many of them faster than `fires`."""
    has_day, minutes = day_test(expression), [timedelta(minutes=minute) for minute in minutes_of_day(expression)]
    for begin, end, dates in _parts(zone, after, until):
        if not dates:
            yield from _walk(expression, zone, begin, end)
        for place, day in enumerate(dates):
            if has_day(day):
                midnight = begin + _SECOND + _DAY * place
                yield from [midnight + minute for minute in minutes]


def _parts(zone: str, after: datetime, until: datetime) -> Iterator[tuple[datetime, datetime, Sequence[date]]]:
    """Yield (after, until] in parts: runs of whole dates without a clock change, all of which have the same times, and the
    remaining stretches, without dates."""
    position = after
    for begin, end, offset in offset_spans(zone, after):
        first = _midnight(max(begin, position) + offset) + _DAY
        last = _midnight(min(end, until) + offset)
        if first < last:
            yield position, first - offset - _SECOND, ()
            position = last - offset - _SECOND
            yield first - offset - _SECOND, position, [first.date() + _DAY * place for place in range((last - first).days)]
        if end > until:
            break
    yield position, until, ()


def wall_times(expression: str, begin: datetime, end: datetime) -> list[datetime]:
    """Return the clock times in [begin, end) that the expression has, whether or not a zone's clocks show them on that day."""
    return list(takewhile(lambda at: at < end, _simulator(expression, begin - _SECOND)))


def follows_elapsed_time(expression: str) -> bool:
    """Return whether the schedule follows elapsed time: its minute or hour field begins with a wildcard."""
    minute, _, rest = expand(expression).partition(" ")
    return minute.startswith("*") or rest.startswith("*")


def minutes_of_day(expression: str) -> tuple[int, ...]:
    """Return the clock times of the expression, on a day that it includes, as minutes since midnight."""
    minute, hour, _ = expand(expression).split(" ", 2)
    return _minutes_of_day(minute, hour)


@lru_cache(maxsize=4096)
def _minutes_of_day(minute: str, hour: str) -> tuple[int, ...]:
    simulator = _simulator(f"{minute} {hour} * * *", _CYCLE)
    return tuple(60 * hour + minute for hour in sorted(simulator.hours) for minute in sorted(simulator.minutes))


def day_test(expression: str) -> Callable[[date], bool]:
    """Return a function that tells of a date whether the expression includes it."""
    simulator = _simulator(expression, _CYCLE)
    return lambda day: day.month in simulator.months and simulator.match_day(day)


def explain(expression: str) -> str:
    """Return the schedule in English words, for people."""
    return _simulator(expression, _CYCLE).explain()


def _fires_by_offset(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
    """Yield fires of schedules that follow elapsed time, one stretch of constant UTC offset at a time: CronSim errs where
    clocks change by less than an hour."""
    for begin, end, offset in offset_spans(zone, after):
        for wall in _simulator(expression, _wall(max(after, begin - _SECOND), offset)):
            fire = _utc(wall, offset)
            if fire >= end:
                break
            yield fire
        else:
            return


def _fires_by_offset_backwards(expression: str, zone: str, before: datetime) -> Iterator[datetime]:
    """Yield the same fires backwards: those earlier than `before`, the latest first."""
    for begin, end, offset in offset_spans(zone, before, backwards=True):
        for wall in _simulator(expression, _wall(min(before, end), offset), reverse=True):
            fire = _utc(wall, offset)
            if fire < begin:
                break
            yield fire
        else:
            return


def _walk(expression: str, zone: str, after: datetime, until: datetime) -> Iterator[datetime]:
    return takewhile(lambda at: at <= until, fires(expression, zone, after))


def _wall(at: datetime, offset: timedelta) -> datetime:
    return (at.astimezone(UTC) + offset).replace(tzinfo=None)


def _utc(wall: datetime, offset: timedelta) -> datetime:
    return wall.replace(tzinfo=UTC) - offset


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _simulator(expression: str, start: datetime, *, reverse: bool = False) -> _Simulator:
    fields = expand(expression)
    count = len(fields.split())
    if count != 5:
        raise CronError(f"has {count} fields, a schedule has 5: minute hour day-of-month month day-of-week")
    try:
        simulator = _Simulator(fields, start, reverse=reverse)
    except CronSimError as err:
        raise _explain_error(fields, str(err)) from err
    return simulator


def _explain_error(fields: str, message: str) -> CronError:
    name = message.removeprefix("Bad ")
    index = FIELDS.index(name) if name in FIELDS else None
    if index == 2 and not _is_bad_alone(fields, 2):
        return CronError("never fires: no month has such a day", index, never=True)
    return CronError(f"bad {name} field", index)


def _is_bad_alone(fields: str, index: int) -> bool:
    """Return whether the field is wrong by itself, and not only together with the month."""
    single = ["*"] * 5
    single[index] = fields.split()[index]
    try:
        CronSim(" ".join(single), datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError:
        return True
    return False
