"""Answers about the calendar of what is served, for its route and its page."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from optio.errors import Invalid, Problem
from optio.scheduling.calendar import ClockChangeNight
from optio.server.bodies.calendar import CalendarBody, CalendarDayBody, ClockChangeBody
from optio.server.dependencies import Hub
from optio.server.read_models.calendar import CalendarDay
from optio.server.serializers import at, to_body

YEARS = range(1970, 3000)
_MAX_NAMED = 5


def read_calendar(hub: Hub, zone: str, first: date, count: int) -> CalendarBody:
    """Return days of the calendar. Raises Invalid for an unknown zone."""
    check_zone(zone)
    snapshot = hub.snapshot
    days = [first + timedelta(days=number) for number in range(count)]
    outcomes = hub.past_slots.outcomes(zone, days, hub.services.store.now())
    return CalendarBody(
        timezone=zone,
        generation=snapshot.number,
        limit=hub.services.settings.max_workflow_concurrent,
        days=[_day(hub.calendar.day(snapshot.registry, zone, day), outcomes.get(day, {})) for day in days],
    )


def today(zone: str) -> date:
    """Return the day that it is on the clocks of a zone. Raises Invalid for an unknown zone."""
    check_zone(zone)
    return datetime.now(ZoneInfo(zone)).date()


def parse_day(name: str, text: str) -> date:
    """Return the date that stands in an address. Raises Invalid."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if day.year not in YEARS:
        raise Invalid("invalid request parameters", [Problem(f"/{name}", "must be a date, such as `2026-01-31`")])
    return day


def check_zone(zone: str) -> None:
    """Raise Invalid for a zone that is not known."""
    if zone not in _zones():
        problem = Problem("/zone", "must be a time zone", hint="write `Europe/Berlin`, or `UTC`")
        raise Invalid("invalid request parameters", [problem])


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _day(value: CalendarDay, outcomes: Mapping[str, int]) -> CalendarDayBody:
    return to_body(CalendarDayBody, value, clock_changes=_clock_changes(value.nights), outcomes=dict(outcomes))


def _clock_changes(nights: Sequence[ClockChangeNight]) -> list[ClockChangeBody]:
    return [
        ClockChangeBody(
            at=at(night.change.at),
            timezone=night.zone,
            before=f"{night.change.old:%H:%M}",
            after=f"{night.change.new:%H:%M}",
            tasks=[task_id for task_id, _ in night.felt[:_MAX_NAMED]],
        )
        for night in nights
    ]
