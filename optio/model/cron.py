"""Cron schedules: five fields, in an IANA zone, with one stated policy for the two odd nights of the year.

Daylight saving: a fixed time that the spring change skips fires once, at the first instant after the gap; a fixed time
that the autumn change repeats fires once, at its first occurrence. An hour or minute with a wildcard follows elapsed time:
it fires in both repeated hours and not in the skipped one.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
# What the seed's dashboard offers by name.
PRESETS = {
    "every hour": "0 * * * *",
    "daily at midnight": "0 0 * * *",
    "weekdays at 9 AM": "0 9 * * 1-5",
    "weekly on Monday": "0 9 * * 1",
}
FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")


class CronError(ValueError):
    """Not a schedule; `field` is the index of the bad field, or None when their number is wrong."""

    def __init__(self, message: str, field: int | None = None, *, never: bool = False) -> None:
        self.field, self.never = field, never
        super().__init__(message)


def expand(expression: str) -> str:
    """`@daily` and its like as five fields; everything else with single blanks."""
    words = expression.split()
    return WORDS.get(" ".join(words), " ".join(words))


@lru_cache(maxsize=4096)
def check_expression(expression: str) -> None:
    """Raises CronError for what is no schedule, or for one that never fires."""
    next(_simulator(expression, datetime(2024, 1, 1, tzinfo=UTC)))


def fires(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
    """Fire times later than `after`, in UTC, in order; raises CronError before the first one."""
    simulator = _simulator(expression, after.astimezone(ZoneInfo(zone)))
    # Begun inside the repeated hour, CronSim gives a time of the first one again, which has passed.
    return (utc for fire in simulator if (utc := fire.astimezone(UTC)) > after)


def next_fire(expression: str, zone: str, after: datetime) -> datetime | None:
    """The first fire time later than `after`, in UTC."""
    return next(fires(expression, zone, after), None)


def last_fires(expression: str, zone: str, before: datetime, since: datetime, most: int) -> list[datetime]:
    """At most `most` fire times in (since, before], oldest first, in UTC; walks backwards, so a long gap costs nothing."""
    # CronSim's reverse walk is exclusive of its start; a second later makes `before` itself count.
    start = datetime.fromtimestamp(int(before.timestamp()) + 1, UTC).astimezone(ZoneInfo(zone))
    found: list[datetime] = []
    for fire in _simulator(expression, start, reverse=True):
        if fire <= since or len(found) == most:
            break
        if fire <= before:
            found.append(fire.astimezone(UTC))
    return found[::-1]


def explain(expression: str) -> str:
    """The schedule in words."""
    return _simulator(expression, datetime(2024, 1, 1, tzinfo=UTC)).explain()


def _simulator(expression: str, start: datetime, *, reverse: bool = False) -> CronSim:
    fields = expand(expression)
    count = len(fields.split())
    if count != 5:
        raise CronError(f"has {count} fields, a schedule has 5: minute hour day-of-month month day-of-week")
    try:
        simulator = CronSim(fields, start, reverse=reverse)
    except CronSimError as err:
        raise _explain_error(fields, str(err)) from err
    return simulator


def _explain_error(fields: str, message: str) -> CronError:
    name = message.removeprefix("Bad ")
    index = FIELDS.index(name) if name in FIELDS else None
    if index == 2 and not _bad_alone(fields, 2):
        return CronError("never fires: no month has such a day", index, never=True)
    return CronError(f"bad {name} field", index)


def _bad_alone(fields: str, index: int) -> bool:
    """Whether the field is wrong by itself, and not only together with the month."""
    alone = ["*"] * 5
    alone[index] = fields.split()[index]
    try:
        CronSim(" ".join(alone), datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError:
        return True
    return False
