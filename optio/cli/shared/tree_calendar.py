"""`optio schedule --calendar`: the fires of a whole tree in a range of days, with what a reader should look at."""

import argparse
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from optio.cli.shared.parser import whole_number
from optio.compiler.diagnostics import Diagnostic
from optio.errors import SettingsError
from optio.model.registry import CompiledTask
from optio.plan.words import utc_time
from optio.scheduling import cron
from optio.scheduling.calendar import (
    CalendarRow,
    ClockChangeNight,
    Day,
    Fire,
    FiresBySchedule,
    TimedTask,
    calendar_days,
    clock_change_nights,
    fires_by_schedule,
)
from optio.scheduling.collisions import Collisions, find_collisions

_DEFAULT_DAYS, _MAX_DAYS = 14, 366
# Above what one schedule can reach with a fire every minute of the longest calendar.
_MAX_FIRES = 600_000
# Years that `--from` and `--to` accept.
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
# JSON lists up to this many fires of a task and day: one per hour of the longest day.
_MAX_LISTED = 25
# Diagnostics about schedules that fire differently from what they seem to say.
_SURPRISES = ("OPT304", "OPT305", "OPT317")


@dataclass(frozen=True, slots=True)
class CalendarRange:
    """The range from `after` (exclusive) to `until` (inclusive), shown on the clocks of a zone."""

    after: datetime
    until: datetime
    zone: str


@dataclass(frozen=True, slots=True)
class TreeCalendar:
    """All fires in a range, with clock changes, collisions, tasks that do not fire, and diagnostics about their schedules."""

    range: CalendarRange
    timed: Sequence[TimedTask]
    found: FiresBySchedule
    days: Sequence[Day]
    nights: Sequence[ClockChangeNight]
    herd: Collisions
    absent: Sequence[tuple[TimedTask, datetime | None]]
    surprises: Sequence[tuple[str, Diagnostic]]
    off: Sequence[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a calendar."""
    parser.add_argument("--calendar", action="store_true", help="all fires in a range, day by day, and what to review")
    parser.add_argument("--from", dest="first", metavar="DATE", help="with --calendar: its first day (default: from now on)")
    parser.add_argument("--to", dest="last", metavar="DATE", help="with --calendar: its last day")
    parser.add_argument(
        "--days", type=whole_number(_MAX_DAYS), metavar="N", help=f"with --calendar: how many days (default: {_DEFAULT_DAYS})"
    )
    parser.add_argument(
        "--zone",
        metavar="ZONE",
        help="with --calendar: the time zone of the days (default: the tasks' zone if they share one, else UTC)",
    )


def check_flags(args: argparse.Namespace) -> None:
    """Raise SettingsError for flags that have no effect together."""
    if args.calendar:
        for name, is_given in (("--past", args.past), ("-n", args.count is not None)):
            if is_given:
                raise SettingsError(f"{name} has no effect with --calendar: give --from, --to or --days")
        return
    flags = (("from", args.first), ("to", args.last), ("days", args.days), ("zone", args.zone))
    for name, is_given in flags:
        if is_given is not None:
            raise SettingsError(f"--{name} is for --calendar: add it")


def parse_range(args: argparse.Namespace, zones: set[str], now: datetime) -> CalendarRange:
    """Return the range that the flags ask for; raises SettingsError."""
    name = args.zone if args.zone is not None else next(iter(zones)) if len(zones) == 1 else "UTC"
    try:
        place = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise SettingsError(f"--zone: unknown time zone `{name}`: write `Europe/Berlin`, or `UTC`") from err
    if args.last is not None and args.days is not None:
        raise SettingsError("give --to or --days, not both")
    first = now.astimezone(place).date() if args.first is None else _date("--from", args.first)
    if args.last is not None:
        end = _date("--to", args.last) + timedelta(days=1)
    else:
        end = first + timedelta(days=_DEFAULT_DAYS if args.days is None else args.days)
    if end <= first:
        raise SettingsError(f"--to: {args.last} is before {first}, where the calendar begins")
    if end - first > timedelta(days=_MAX_DAYS):
        raise SettingsError(f"a calendar has at most {_MAX_DAYS} days: from {first} that is to {first + timedelta(days=365)}")
    # Fires are whole minutes: one at midnight belongs to the day that begins.
    after = now if args.first is None else _midnight(first, place) - timedelta(seconds=1)
    return CalendarRange(after, _midnight(end, place) - timedelta(seconds=1), name)


def build_calendar(
    tasks: Sequence[CompiledTask], span: CalendarRange, limit: int, diagnostics: Sequence[Diagnostic] = ()
) -> TreeCalendar:
    """Return the calendar of these tasks; `limit` is the number of runs that may start at once. Raises SettingsError if it is
    too large to read."""
    timed_tasks = sorted(timed for task in tasks if (timed := _timed_task(task)) is not None)
    _check_size({timed.key for timed in timed_tasks}, span)
    fires = fires_by_schedule(timed_tasks, span.after, span.until)
    absent = [
        (timed, cron.next_fire(timed.expression, timed.zone, span.until)) for timed in timed_tasks if not fires[timed.key]
    ]
    by_path = {task.origin.path: task.id for task in tasks}
    on = {timed.task_id for timed in timed_tasks}
    return TreeCalendar(
        range=span,
        timed=timed_tasks,
        found=fires,
        days=calendar_days(timed_tasks, fires, span.zone),
        nights=clock_change_nights(timed_tasks, span.after, span.until),
        herd=find_collisions(timed_tasks, fires, span.after, span.until, limit),
        absent=absent,
        surprises=[(by_path[d.path], d) for d in diagnostics if d.code in _SURPRISES and by_path.get(d.path) in on],
        off=sorted(task.id for task in tasks if task.spec.schedule is not None and task.id not in on),
    )


def _check_size(schedules: AbstractSet[tuple[str, str]], span: CalendarRange) -> None:
    count = sum(cron.count_fires(*key, span.after, span.until) or 0 for key in schedules)
    if count > _MAX_FIRES:
        days = max(1, (span.until - span.after).days * _MAX_FIRES // count)
        raise SettingsError(
            f"{len(schedules):,} different schedules have {count:,} fires in these days, and a calendar has at most "
            f"{_MAX_FIRES:,}: write `--days {days}`, or name a task"
        )


def _timed_task(task: CompiledTask) -> TimedTask | None:
    """Return when its schedule may start it; None if it has none or it is disabled."""
    trigger = task.spec.schedule
    if trigger is None or not trigger.enabled or not task.spec.enabled:
        return None
    return TimedTask(task.id, trigger.config.cron_expression, trigger.config.timezone)


def _date(option: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as err:
        raise SettingsError(f"{option}: invalid date `{text}`: write 2026-01-31") from err
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise SettingsError(f"{option}: `{text}` is not in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return day


def _midnight(day: date, place: ZoneInfo) -> datetime:
    """Return the first moment of a day, which is later than midnight if the clocks skip that."""
    return datetime.combine(day, time(), place).astimezone(UTC)


def document(calendar: TreeCalendar) -> dict[str, Any]:
    """Return the calendar as a JSON object. A task with more than 25 fires on a day has their number without the list."""
    return {
        "from": utc_time(calendar.range.after),
        "to": utc_time(calendar.range.until),
        "timezone": calendar.range.zone,
        "days": [{"date": day.date.isoformat(), "tasks": [_row(row) for row in day.rows]} for day in calendar.days],
        "clockChanges": [
            {
                "at": utc_time(night.change.at),
                "timezone": night.zone,
                "from": night.change.old.isoformat(),
                "to": night.change.new.isoformat(),
                "tasks": [
                    {"taskId": task_id, "effect": odd.what, "times": [f"{at:%H:%M}" for at in odd.times]}
                    for task_id, odd in night.felt
                ],
            }
            for night in calendar.nights
        ],
        "absent": [
            {"taskId": timed.task_id, "next": following and utc_time(following)} for timed, following in calendar.absent
        ],
        "surprises": [{"taskId": task_id, **surprise.to_json()} for task_id, surprise in calendar.surprises],
        "off": list(calendar.off),
        "herd": {
            "limit": calendar.herd.limit,
            "most": calendar.herd.most,
            "crowded": [{"at": utc_time(at), "starts": number} for at, number in calendar.herd.crowded],
            "moves": [{"taskId": move.task_id, "from": move.old, "to": move.new} for move in calendar.herd.moves],
            "mostThen": calendar.herd.then,
        },
    }


def _row(row: CalendarRow) -> dict[str, Any]:
    fires = row.fires if len(row.fires) <= _MAX_LISTED else ()
    return {
        "taskId": row.timed.task_id,
        "timezone": row.timed.zone,
        "count": len(row.fires),
        "first": utc_time(row.fires[0].at),
        "last": utc_time(row.fires[-1].at),
        **({"fires": [_fire(fire) for fire in fires]} if fires else {}),
    }


def _fire(fire: Fire) -> dict[str, str]:
    return {"at": utc_time(fire.at), "local": fire.at.isoformat(), **({"note": fire.note} if fire.note else {})}
