"""The calendar as text: a list of days, and notices about days with clock changes or crowded minutes."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

from optio.cli.shared.output import table
from optio.cli.shared.tree_calendar import CalendarRange, TreeCalendar
from optio.plan.words import pluralize
from optio.scheduling.calendar import CalendarRow, ClockChangeNight, Day, Fire, TimedTask
from optio.scheduling.dst import DstEffect

# A task with more fires on one day gets one line for all of them.
_MAX_LINES = 4
_MAX_NAMES = 4
_MAX_CROWDED = 5
_RARE_INTERVAL = timedelta(days=400)
# Fewer whole days are listed one by one.
_MIN_ALIKE_DAYS = 3
# (time, time in the task's own zone, tasks, note)
_Cells = tuple[str, str, str, str]


def text(calendar: TreeCalendar) -> str:
    """Return the calendar as text for a terminal."""
    number = sum(len(row.fires) for day in calendar.days for row in day.rows)
    first, last = _range_ends(calendar.range)
    counts = f"{pluralize(number, 'fire')} of {pluralize(len(calendar.timed), 'task')}"
    head = f"{first:%a %Y-%m-%d} to {last:%a %Y-%m-%d} on the clocks of {calendar.range.zone}: {counts}"
    parts = [head, *_list(calendar)]
    look = list(_notices(calendar))
    parts.append("\n".join(["To review", *look]) if look else "Nothing to review.")
    return "\n\n".join(part for part in parts if part)


def _list(calendar: TreeCalendar) -> Iterator[str]:
    """Yield blocks of days. Equal days in a row share a block, and fires common to all days come first."""
    dates, cells = list(_dates(calendar)), {day.date: _cells(day, calendar) for day in calendar.days}
    whole_dates = dates[0 if _is_whole(calendar) else 1 :]
    each_day = (
        set.intersection(*(set(cells.get(day, ())) for day in whole_dates)) if len(whole_dates) >= _MIN_ALIKE_DAYS else set()
    )
    widths = [max((len(row[column]) for rows in cells.values() for row in rows), default=0) for column in range(3)]
    if each_day:
        rows = [row for row in cells[whole_dates[0]] if row in each_day]
        yield "\n".join([f"Each day from {whole_dates[0]:%a %Y-%m-%d} on", *_lines(rows, widths)])
    rows_by_day = [(day, [row for row in cells.get(day, ()) if row not in each_day or day not in whole_dates]) for day in dates]
    for rows, alike in groupby(rows_by_day, key=lambda day: day[1]):
        days = [day for day, _ in alike]
        if rows:
            head = f"{days[0]:%a %Y-%m-%d}" + (f" and each day to {days[-1]:%a %Y-%m-%d}" if len(days) > 1 else "")
            yield "\n".join([head, *_lines(rows, widths)])


def _dates(calendar: TreeCalendar) -> Iterator[date]:
    """Yield every day of the range."""
    first, last = _range_ends(calendar.range)
    return (first.date() + timedelta(days=place) for place in range((last.date() - first.date()).days + 1))


def _range_ends(span: CalendarRange) -> tuple[datetime, datetime]:
    """Return the first and last moment on the clocks of the range."""
    place = ZoneInfo(span.zone)
    return (span.after + timedelta(seconds=1)).astimezone(place), span.until.astimezone(place)


def _is_whole(calendar: TreeCalendar) -> bool:
    """Return whether the range includes the first day from midnight."""
    first, _ = _range_ends(calendar.range)
    return (first - timedelta(seconds=1)).date() != first.date()


def _cells(day: Day, calendar: TreeCalendar) -> list[_Cells]:
    place = ZoneInfo(calendar.range.zone)
    odd = {task_id for night in calendar.nights for task_id, _ in night.felt}
    rows: dict[tuple[str, str, str], list[str]] = {}
    whens: dict[tuple[str, str], tuple[tuple[str, str, str], ...]] = {}
    for row in day.rows:
        if row.timed.key not in whens:
            whens[row.timed.key] = tuple(_fire_times(row, place, told_below=row.timed.task_id in odd))
        for fire_time in whens[row.timed.key]:
            rows.setdefault(fire_time, []).append(row.timed.task_id)
    ordered = sorted(rows.items(), key=lambda row: row[0][0])
    return [(time_text, zone_text, _names(ids), note) for (time_text, zone_text, note), ids in ordered]


def _lines(rows: Sequence[_Cells], widths: Sequence[int]) -> list[str]:
    """Return table rows: time, the time in the task's own zone if that differs, tasks, note."""
    gaps = [2 if width else 0 for width in widths]
    return [
        ("  " + "".join(cell.ljust(width + gap) for cell, width, gap in zip(row, widths, gaps, strict=False)) + row[3]).rstrip()
        for row in rows
    ]


def _fire_times(row: CalendarRow, place: ZoneInfo, *, told_below: bool) -> Iterator[tuple[str, str, str]]:
    """Yield time, own time and note for each fire, or for all of them if they are many."""
    own_zone = row.timed.zone
    is_own_zone = own_zone != place.key

    def times(fires: Sequence[Fire], zone: ZoneInfo) -> str:
        first, last = (fire.at.astimezone(zone) for fire in (fires[0], fires[-1]))
        return f"{first:%H:%M}" if len(fires) == 1 else f"{first:%H:%M} to {last:%H:%M}"

    parts = [[fire] for fire in row.fires] if len(row.fires) <= _MAX_LINES else [list(row.fires)]
    for fires in parts:
        note = fires[0].note
        if len(fires) > 1:
            note = f"{_rhythm(fires)}, {len(fires)} times"
            odd = sum(1 for fire in fires if fire.note)
            note += f", {odd} of them odd: see below" if odd and told_below else ""
        yield times(fires, place), f"{times(fires, ZoneInfo(own_zone))} {own_zone}" if is_own_zone else "", note


def _rhythm(fires: Sequence[Fire]) -> str:
    at = [fire.at.astimezone(UTC) for fire in fires]
    gaps = {b - a for a, b in pairwise(at)}
    return f"every {_length(min(gaps))}" if len(gaps) == 1 else f"every {_length(min(gaps))} to {_length(max(gaps))}"


def _length(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    if minutes % 60 == 0:
        return "hour" if minutes == 60 else f"{minutes // 60} hours"
    return "minute" if minutes == 1 else f"{minutes} minutes"


def _names(ids: Sequence[str]) -> str:
    if len(ids) <= _MAX_NAMES:
        return ", ".join(ids)
    return f"{', '.join(ids[: _MAX_NAMES - 1])} and {len(ids) - _MAX_NAMES + 1} more"


def _notices(calendar: TreeCalendar) -> Iterator[str]:
    """Yield what a reader should know, a line each: clock changes, tasks that do not fire, surprises, crowded minutes."""
    for night in calendar.nights:
        if night.felt:
            yield f"- {_night_text(night)}"
            yield from (f"    {task_id}: {_odd_text(odd, night)}" for task_id, odd in night.felt)
    for timed_task, following in calendar.absent:
        yield f"- {timed_task.task_id}: {_absence_text(timed_task, following, calendar.range)}"
    for task_id, surprise in calendar.surprises:
        yield f"- {task_id}: {surprise.message}" + (f"; {surprise.hint}" if surprise.hint else "")
    if calendar.off:
        yield f"- off, with `enabled: false`: {_names(calendar.off)}"
    yield from _crowd_lines(calendar)


def _night_text(night: ClockChangeNight) -> str:
    old, new = night.change.old, night.change.new
    way = "forward" if night.change.skips else "back"
    return f"{old:%a %Y-%m-%d}: the clocks of {night.zone} go {way}, from {old:%H:%M} to {new:%H:%M}"


def _odd_text(odd: DstEffect, night: ClockChangeNight) -> str:
    """Describe the effect of a clock change in local time and in UTC."""
    times = _times(odd.times) + (" is" if len(odd.times) == 1 else " are")
    change = night.change
    if odd.what == "moved":
        return f"{times} skipped that night: it fires at {change.new:%H:%M} instead ({change.at:%H:%M} UTC)"
    if odd.what == "skipped":
        return f"{times} skipped that night: {pluralize(len(odd.times), 'fire')} fewer"
    first, second = (f"{odd.times[0] - offset:%H:%M} UTC" for offset in (change.before, change.after))
    if odd.what == "once":
        return f"{times} there twice that night: it fires at the first ({first}), and not again"
    return f"{times} there twice that night, and it fires both times (from {first} and from {second})"


def _times(times: Sequence[datetime]) -> str:
    if len(times) > _MAX_LINES:
        return f"{times[0]:%H:%M} to {times[-1]:%H:%M}"
    *first_times, last = (f"{at:%H:%M}" for at in times)
    return f"{', '.join(first_times)} and {last}" if first_times else last


def _absence_text(timed_task: TimedTask, following: datetime | None, span: CalendarRange) -> str:
    if following is None:
        return f"`{timed_task.expression}` never fires again"
    local = following.astimezone(ZoneInfo(timed_task.zone))
    seldom = " (more than 400 days away)" if following - span.after > _RARE_INTERVAL else ""
    return f"does not fire in these days; the next time is {local:%a %Y-%m-%d %H:%M %Z}{seldom}"


def _crowd_lines(calendar: TreeCalendar) -> Iterator[str]:
    herd, place = calendar.herd, ZoneInfo(calendar.range.zone)
    if not herd.crowded:
        return
    yield (
        f"- in {pluralize(len(herd.crowded), 'minute')} more than {herd.limit} runs start, which is what may run at once "
        "(OPTIO_MAX_WORKFLOW_CONCURRENT):"
    )
    by_time: dict[str, list[tuple[datetime, int]]] = {}
    for at, number in herd.crowded:
        local = at.astimezone(place)
        by_time.setdefault(f"{local:%H:%M}", []).append((local, number))
    fullest = sorted(by_time.items(), key=lambda minute_entry: (-max(number for _, number in minute_entry[1]), minute_entry[0]))
    for time_text, those in fullest[:_MAX_CROWDED]:
        peak = max(number for _, number in those)
        days = f"{those[0][0]:%a %Y-%m-%d}" + (f" and {pluralize(len(those) - 1, 'other day')}" if len(those) > 1 else "")
        yield f"    {time_text} on {days}: {peak} start" + ("" if len({number for _, number in those}) == 1 else " at most")
    if len(fullest) > _MAX_CROWDED:
        yield f"    and {pluralize(len(fullest) - _MAX_CROWDED, 'other time')} of day"
    if not herd.moves or herd.then >= herd.most:
        yield "  no other minutes of the same hours would make it less"
        return
    yield f"  with these minutes it would be {herd.then} at most, not {herd.most}:"
    yield from (
        "    " + line
        for line in table(
            ("task", "cronExpression", "instead of"), [(m.task_id, f'"{m.new}"', f'"{m.old}"') for m in herd.moves]
        ).splitlines()
    )
