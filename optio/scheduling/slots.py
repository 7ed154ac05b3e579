"""Find the slot of a schedule at a written time, for a task's own tests. `optio check` and `optio test` use it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from optio.scheduling import cron

_SECOND = timedelta(seconds=1)


class NoSlot(ValueError):
    """A time at which a schedule does not fire; `coming` is the next slot, in the schedule's zone."""

    def __init__(self, message: str, coming: datetime | None) -> None:
        super().__init__(message)
        self.coming = coming


def find_slot(expression: str, zone_name: str, at: datetime) -> datetime:
    """Return the slot in UTC at a time, which is in the schedule's zone where it names none; raise NoSlot for other times."""
    zone = ZoneInfo(zone_name)
    # When the clocks go back, a local time occurs twice.
    times = [at.replace(tzinfo=zone, fold=fold) for fold in (0, 1)] if at.tzinfo is None else [at]
    for time in times:
        slot = time.astimezone(UTC)
        if cron.next_fire(expression, zone_name, slot - _SECOND) == slot:
            return slot
    # For a local time that the clocks skip, the two readings differ; the earlier moment finds the next fire.
    first = min(time.astimezone(UTC) for time in times)
    following = cron.next_fire(expression, zone_name, first)
    coming = None if following is None else following.astimezone(zone)
    next_text = "there is none later" if coming is None else f"the next is {coming:%Y-%m-%dT%H:%M, a %A}"
    if at.tzinfo is None and first.astimezone(zone).replace(tzinfo=None) != at:
        next_text = f"the clocks skip {at:%H:%M} then, and {next_text}"
    raise NoSlot(next_text, coming)
