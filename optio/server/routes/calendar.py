"""Routes of schedules as a whole: the calendar of what is served, and its coming fires."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import Controller, get
from litestar.params import QueryParameter

from optio.errors import Invalid, Problem
from optio.server import serializers
from optio.server.answers.calendar import YEARS, parse_day, read_calendar, today
from optio.server.auth import role
from optio.server.bodies.calendar import CalendarBody, FireListBody
from optio.server.dependencies import InjectedHub
from optio.server.routes.runs import Since, Until

_MAX_SPAN = timedelta(days=31)
From = Annotated[str | None, QueryParameter(name="from", max_length=10, description="the first day; today by default")]
Days = Annotated[int, QueryParameter(ge=1, le=62, description="so many days")]
Zone = Annotated[str, QueryParameter(max_length=60, description="the time zone of the days")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="most fires in the answer")]


class CalendarController(Controller):
    """Routes of `/api/calendar` and `/api/fires`."""

    tags = ("tasks",)

    @get("/api/calendar", opt=role("viewer"))
    async def get_calendar(self, hub: InjectedHub, first: From = None, days: Days = 7, zone: Zone = "UTC") -> CalendarBody:
        """Show the days of the calendar: fires by hour, minutes in which more runs start than may run at once, the worst cost,
        clock changes, and which past slots started no run. Fires are those of the schedules that are served now, also for days
        that are over."""
        day = today(zone) if first is None else parse_day("from", first)
        return await asyncio.to_thread(read_calendar, hub, zone, day, days)

    @get("/api/fires", opt=role("viewer"))
    async def list_fires(self, hub: InjectedHub, since: Since = None, until: Until = None, limit: Limit = 200) -> FireListBody:
        """List the coming fires of all tasks, in order, after `since` (now by default) and up to `until` (a day later by
        default, at most 31 days)."""
        begin = since or datetime.now(UTC)
        if begin.year not in YEARS:
            raise Invalid("invalid request parameters", [Problem("/since", "must be in the years 1970 to 2999")])
        end = until or begin + timedelta(days=1)
        if not begin <= end <= begin + _MAX_SPAN:
            raise Invalid("invalid request parameters", [Problem("/until", "must be at most 31 days after `since`")])
        registry = hub.snapshot.registry
        fires, has_more = await asyncio.to_thread(
            hub.calendar.coming, registry, begin.astimezone(UTC), end.astimezone(UTC), limit
        )
        return FireListBody(
            since=serializers.at(begin.astimezone(UTC)), until=serializers.at(end.astimezone(UTC)), items=fires, more=has_more
        )
