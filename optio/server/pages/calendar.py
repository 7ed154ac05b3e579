"""The page of the calendar: a month, a week or a day of what is served."""

import asyncio
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.params import FromQuery, QueryParameter

from optio.model.money import dollars
from optio.server.answers.calendar import check_zone, parse_day, read_calendar, today
from optio.server.auth import role
from optio.server.bodies.calendar import CalendarDayBody
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.pages.rendering import Pages, page

View = Literal["month", "week", "day"]
Zone = Annotated[str, QueryParameter(max_length=60)]
On = Annotated[str, QueryParameter(max_length=10)]
_WEEK = 7
# Shades of a cell, by its share of the fullest one.
_SHADES = 4
_MAX_TASKS = 300
_MAX_TIMES = 6
_EDGES = (date(1970, 2, 1), date(2999, 11, 1))


class CalendarPages(Pages):
    """The route of `/calendar`."""

    @get("/calendar", opt=role("viewer"))
    async def calendar_page(
        self, request: Incoming, hub: InjectedHub, view: FromQuery[View] = "month", on: On = "", zone: Zone = ""
    ) -> Response[str]:
        """Show a month, a week or a day of the schedules that are served now."""
        zones = await asyncio.to_thread(hub.calendar.zones, hub.snapshot.registry)
        place = zone.strip() or (zones[0] if len(zones) == 1 else "UTC")
        check_zone(place)
        now = today(place)
        day = min(max(parse_day("on", on), _EDGES[0]), _EDGES[1]) if on else now
        first, count = _span(view, day)
        calendar = await asyncio.to_thread(read_calendar, hub, place, first, count)
        amounts = [Decimal(calendar_day.worst_usd) for calendar_day in calendar.days if _is_of(calendar_day, view, day)]
        return page(
            request,
            "calendar.html",
            found=calendar,
            weeks=_weeks(calendar.days, view, day, now),
            before=_step(view, day, -1),
            after=_step(view, day, 1),
            title=_title(view, day, first),
            hours=[f"{hour:02}" for hour in range(24)],
            total=dollars(sum(amounts, Decimal(0))),
            rows=await asyncio.to_thread(_rows, hub, place, day) if view == "day" else None,
            view=view,
            views=get_args(View),
            on=day,
            today=now,
            zone=place,
            zones=zones,
        )


def _span(view: View, day: date) -> tuple[date, int]:
    """Return the first day to show, and the number of days: whole weeks from Monday on, or the day."""
    if view == "day":
        return day, 1
    if view == "week":
        return day - timedelta(days=day.weekday()), _WEEK
    first = day.replace(day=1)
    monday = first - timedelta(days=first.weekday())
    last = _step("month", day, 1).replace(day=1) - timedelta(days=1)
    return monday, -(-((last - monday).days + 1) // _WEEK) * _WEEK


def _step(view: View, day: date, by: int) -> date:
    if view != "month":
        return day + timedelta(days=by * (_WEEK if view == "week" else 1))
    month = day.year * 12 + day.month - 1 + by
    return date(month // 12, month % 12 + 1, 1)


def _title(view: View, day: date, first: date) -> str:
    if view == "month":
        return f"{day:%B %Y}"
    return f"Week of {first:%d %B %Y}" if view == "week" else f"{day:%A, %d %B %Y}"


def _is_of(calendar_day: CalendarDayBody, view: View, day: date) -> bool:
    """Return whether a shown day belongs to the month; weeks and days are whole."""
    return view != "month" or date.fromisoformat(calendar_day.date).month == day.month


def _weeks(days: list[CalendarDayBody], view: View, day: date, now: date) -> list[list[dict[str, Any]]]:
    fullest = max((calendar_day.fires for calendar_day in days), default=0)
    busiest = max((hour for calendar_day in days for hour in calendar_day.hours), default=0)
    cells = [
        {
            "day": calendar_day,
            "number": date.fromisoformat(calendar_day.date).day,
            "name": f"{date.fromisoformat(calendar_day.date):%a %d}",
            "shade": _shade(calendar_day.fires, fullest),
            "hours": [(number, _shade(number, busiest)) for number in calendar_day.hours],
            "worst": dollars(Decimal(calendar_day.worst_usd)),
            "missed": calendar_day.outcomes.get("missed", 0),
            "is_now": calendar_day.date == now.isoformat(),
            "is_of": _is_of(calendar_day, view, day),
        }
        for calendar_day in days
    ]
    return [cells[place : place + _WEEK] for place in range(0, len(cells), _WEEK)]


def _shade(number: int, maximum: int) -> int:
    return 0 if not number else max(1, -(-number * _SHADES // maximum))


def _rows(hub: Hub, zone: str, day: date) -> dict[str, Any]:
    place = ZoneInfo(zone)
    registry = hub.snapshot.registry
    tasks, total = hub.calendar.tasks_of_day(registry, zone, day, most=_MAX_TASKS, most_times=_MAX_TIMES)
    rows = [
        {
            "task": task_fires.task,
            "count": task_fires.count,
            "times": [f"{at.astimezone(place):%H:%M}" for at in task_fires.first],
            "schedule": task_fires.task.spec.schedule,
        }
        for task_fires in tasks
    ]
    return {"items": rows, "left": total - len(rows)}
