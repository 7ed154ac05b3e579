"""Fires as a person sees them: on the clock of the schedule's own zone, with what an odd night did to them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from optio.model import cron

_MOMENT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire, in the zone's time; `note` says what an odd night did to it."""

    at: datetime
    note: str = ""


def fires(expression: str, zone: str, after: datetime, until: datetime | None = None) -> Iterator[Fire]:
    """What comes later than `after`, and not later than `until`, in order; raises CronError before the first one."""
    coming = cron.fires(expression, zone, after)
    if until is not None:
        coming = takewhile(lambda at: at <= until, coming)
    local = (at.astimezone(ZoneInfo(zone)) for at in coming)
    return (Fire(at, note(expression, at)) for at in local)


def note(expression: str, local: datetime) -> str:
    """What the change of the clocks has to do with a fire at this time. Read as if there were no summer time, the expression
    either has this time of the clock or it does not."""
    first, second = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    if first is not None and second is not None and first > second:
        which = "second" if local.fold else "first"
        return f"the {which} {local:%H:%M} of that night: the clocks go back"
    before = (local.astimezone(UTC) - timedelta(hours=3)).astimezone(local.tzinfo)
    if before.utcoffset() == first:
        return ""
    wall = local.replace(tzinfo=UTC, fold=0)
    if cron.next_fire(expression, "UTC", wall - _MOMENT) != wall:
        meant = cron.last_fires(expression, "UTC", wall, wall - timedelta(days=1), 1)
        return f"moved from {meant[0]:%H:%M}, which the clocks skip that night" if meant else "moved by the clocks"
    return ""
