"""Answers about the calendar of what is served, for its route and its page."""

from datetime import date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from msgspec import structs

from optio.errors import Invalid, Problem
from optio.server.bodies.calendar import CalendarBody
from optio.server.dependencies import Hub

YEARS = range(1970, 3000)


def read_calendar(hub: Hub, zone: str, first: date, count: int) -> CalendarBody:
    """Return days of the calendar. Raises Invalid for an unknown zone."""
    check_zone(zone)
    snapshot = hub.snapshot
    dates = [first + timedelta(days=number) for number in range(count)]
    outcomes = hub.past_slots.outcomes(zone, dates, hub.services.store.now())
    days = [hub.calendar.day(snapshot.registry, zone, day) for day in dates]
    return CalendarBody(
        timezone=zone,
        generation=snapshot.number,
        limit=hub.services.settings.max_workflow_concurrent,
        days=[structs.replace(body, outcomes=dict(outcomes.get(day, {}))) for day, body in zip(dates, days, strict=True)],
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
