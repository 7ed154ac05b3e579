"""Routes of schedules as a whole: the calendar of what is served, and its coming fires."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from optio.errors import Invalid, Problem
from optio.scheduling.calendar import ClockChangeNight
from optio.server import serializers
from optio.server.auth import role
from optio.server.bodies.calendar import CalendarBody, CalendarDayBody, ClockChangeBody, FireBody, FireListBody
from optio.server.dependencies import Hub
from optio.server.read_models.calendar import CalendarDay
from optio.server.routes.runs import Since, Until, require_zone

_YEARS = range(1970, 3000)
_MAX_SPAN = timedelta(days=31)
_MAX_NAMED = 5
From = Annotated[str | None, QueryParameter(name="from", max_length=10, description="the first day; today by default")]
Days = Annotated[int, QueryParameter(ge=1, le=62, description="so many days")]
Zone = Annotated[str, QueryParameter(max_length=60, description="the time zone of the days")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="most fires in the answer")]


class CalendarController(Controller):
    """Routes of `/api/calendar` and `/api/fires`."""

    tags = ("tasks",)

    @get("/api/calendar", opt=role("viewer"))
    async def get_calendar(
        self, hub: NamedDependency[Hub], first: From = None, days: Days = 7, zone: Zone = "UTC"
    ) -> CalendarBody:
        """Show the days of the calendar: fires by hour, minutes in which more runs start than may run at once, the worst cost,
        clock changes, and which past slots started no run. Fires are those of the schedules that are served now, also for days
        that are over."""
        day = today(zone) if first is None else parse_day("from", first)
        return await asyncio.to_thread(read_calendar, hub, zone, day, days)

    @get("/api/fires", opt=role("viewer"))
    async def list_fires(
        self, hub: NamedDependency[Hub], since: Since = None, until: Until = None, limit: Limit = 200
    ) -> FireListBody:
        """List the coming fires of all tasks, in order, after `since` (now by default) and up to `until` (a day later by
        default, at most 31 days)."""
        begin = require_zone("since", since) or datetime.now(UTC)
        if begin.year not in _YEARS:
            raise Invalid("invalid request parameters", [Problem("/since", "must be in the years 1970 to 2999")])
        end = require_zone("until", until) or begin + timedelta(days=1)
        if not begin <= end <= begin + _MAX_SPAN:
            raise Invalid("invalid request parameters", [Problem("/until", "must be at most 31 days after `since`")])
        registry = hub.snapshot.registry
        found, more = await asyncio.to_thread(hub.calendar.coming, registry, begin.astimezone(UTC), end.astimezone(UTC), limit)
        items = [
            FireBody(
                at=serializers.at(each.at),
                local=each.local.isoformat(timespec="minutes"),
                task_id=each.task_id,
                timezone=each.zone,
                note=each.note,
            )
            for each in found
        ]
        return FireListBody(
            since=serializers.at(begin.astimezone(UTC)), until=serializers.at(end.astimezone(UTC)), items=items, more=more
        )


def read_calendar(hub: Hub, zone: str, first: date, count: int) -> CalendarBody:
    """Return days of the calendar. Raises Invalid for an unknown zone."""
    check_zone(zone)
    snapshot = hub.snapshot
    days = [first + timedelta(days=place) for place in range(count)]
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
    if day.year not in _YEARS:
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
    return CalendarDayBody(
        date=value.date.isoformat(),
        fires=value.fires,
        hours=list(value.hours),
        tasks=value.tasks,
        crowded=value.crowded,
        most=value.most,
        worst_usd=f"{value.worst_usd:f}",
        unbounded=value.unbounded,
        clock_changes=_clock_changes(value.nights),
        outcomes=dict(outcomes),
    )


def _clock_changes(nights: Sequence[ClockChangeNight]) -> list[ClockChangeBody]:
    return [
        ClockChangeBody(
            at=serializers.at(night.change.at),
            timezone=night.zone,
            before=f"{night.change.old:%H:%M}",
            after=f"{night.change.new:%H:%M}",
            tasks=[task_id for task_id, _ in night.felt[:_MAX_NAMED]],
        )
        for night in nights
    ]
