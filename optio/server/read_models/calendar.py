"""The calendar of what is served: fires, crowded minutes and the worst cost of each day, and the coming fires one by one.

A generation never changes, so a day is computed once for each generation and zone, and kept. Used by the API and the pages.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, groupby, islice
from zoneinfo import ZoneInfo

from msgspec import structs

from optio.model.money import DAY, ZERO_USD, max_run_usd
from optio.model.registry import CompiledTask, Registry
from optio.scheduling.calendar import ClockChangeNight, TimedTask, clock_change_nights, dst_note
from optio.scheduling.day_fires import ScheduleShape, by_zone, day_pattern, minutes_between, shape_of
from optio.scheduling.zone_transitions import clock_changes
from optio.server.bodies.calendar import CalendarDayBody, ClockChangeBody, FireBody
from optio.server.serializers import at
from optio.store.base import ScheduleStore
from optio.store.values import SkippedSlots

_MINUTE, _SECOND = timedelta(minutes=1), timedelta(seconds=1)
_HOURS = 24
# Days that are kept: a year, in a few zones.
_MAX_DAYS = 2_000
# Tasks that a clock change names.
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFires:
    """The fires of one task on a day: their number, and the first times."""

    task: CompiledTask
    count: int
    first: Sequence[datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Schedules:
    """The enabled schedules of a registry, those with the same expression and zone together.

    `usd` is the most that their tasks may spend at a fire, without those that are `limited` by a budget and a start limit;
    `unbounded` counts agents without a budget.
    """

    registry: Registry
    shapes: dict[str, list[ScheduleShape]]
    tasks: dict[tuple[str, str], list[CompiledTask]]
    usd: dict[tuple[str, str], Decimal]
    limited: dict[tuple[str, str], list[CompiledTask]]
    unbounded: dict[tuple[str, str], int]

    @property
    def zones(self) -> list[str]:
        return sorted(self.shapes)


class FireCalendar:
    """Computes days of what is served, and keeps them. Any thread may use it; `limit` is the number of runs that may start at
    once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._schedules = _take_apart(Registry())
        self._days: OrderedDict[tuple[str, date], CalendarDayBody] = OrderedDict()
        # Most days of a month are alike.
        self._like: dict[Hashable, CalendarDayBody] = {}

    def zones(self, registry: Registry) -> list[str]:
        """Return the zones of enabled schedules, sorted."""
        return self._current(registry).zones

    def day(self, registry: Registry, zone: str, on: date) -> CalendarDayBody:
        """Return a day on the clocks of a zone, without the outcomes of its slots."""
        schedules = self._current(registry)
        with self._lock:
            stored = self._days.get((zone, on)) if schedules is self._schedules else None
            if stored is not None:
                self._days.move_to_end((zone, on))
                return stored
        begin, end = day_bounds(zone, on)
        pattern = None if end - begin != DAY else day_pattern(schedules.shapes, begin, end)
        like = None if pattern is None else self._like.get((schedules.registry.digest, pattern))
        if like is not None:
            calendar_day = structs.replace(like, date=on.isoformat())
        else:
            calendar_day = _compute_day(schedules, zone, on, self._limit)
        with self._lock:
            if pattern is not None and like is None:
                self._like[schedules.registry.digest, pattern] = calendar_day
            if schedules is self._schedules:
                self._days[zone, on] = calendar_day
                if len(self._days) > _MAX_DAYS:
                    self._days.popitem(last=False)
        return calendar_day

    def tasks_of_day(
        self, registry: Registry, zone: str, on: date, *, most: int, most_times: int
    ) -> tuple[list[TaskFires], int]:
        """Return the tasks that fire on a day, in the order of their first fires, at most `most` of them, and the number of
        all."""
        schedules, (begin, end) = self._current(registry), day_bounds(zone, on)
        fires: dict[tuple[str, str], list[Sequence[int]]] = {}
        for shape, minutes in minutes_between(schedules.shapes, begin, end):
            fires.setdefault((shape.expression, shape.zone), []).append(minutes)
        keys = sorted(fires, key=lambda key: fires[key][0][0])
        tasks = ((key, task) for key in keys for task in schedules.tasks[key])
        tasks_shown = []
        for key, task in islice(tasks, most):
            first_minutes = islice(chain(*fires[key]), most_times)
            count = sum(map(len, fires[key]))
            first = [begin + _MINUTE * minute for minute in first_minutes]
            tasks_shown.append(TaskFires(task=task, count=count, first=first))
        return tasks_shown, sum(len(schedules.tasks[key]) for key in fires)

    def coming(self, registry: Registry, since: datetime, until: datetime, limit: int) -> tuple[list[FireBody], bool]:
        """Return the fires in (since, until], in order, at most `limit` of them, and whether there are more."""
        schedules = self._current(registry)
        fires: list[FireBody] = []
        for fire in _fires(schedules, since, until):
            if len(fires) == limit:
                return fires, True
            fires.append(fire)
        return fires, False

    def _current(self, registry: Registry) -> _Schedules:
        schedules = self._schedules
        if schedules.registry is registry:
            return schedules
        fresh = _take_apart(registry)
        with self._lock:
            self._schedules = fresh
            self._days.clear()
            self._like.clear()
        return fresh


class PastSlots:
    """Counts what became of past slots, by day. Days that are over, and whose slots all have an outcome, are kept. Any thread
    may use it."""

    def __init__(self, store: ScheduleStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._days: OrderedDict[tuple[str, date], Mapping[str, int]] = OrderedDict()

    def outcomes(self, zone: str, days: Sequence[date], now: datetime) -> dict[date, Mapping[str, int]]:
        """Return the number of slots by outcome of the days that have begun; ranges of skipped slots that were not counted add
        one each. `days` follow each other."""
        with self._lock:
            counts_by_day = {day: self._days[zone, day] for day in days if (zone, day) in self._days}
        missing = [day for day in days if day not in counts_by_day and day_bounds(zone, day)[0] < now]
        if not missing:
            return counts_by_day
        begin, until = day_bounds(zone, missing[0])[0], min(day_bounds(zone, missing[-1])[1], now + _MINUTE)
        stored = self._store.slot_counts(begin, until)
        for day in missing:
            first, last = day_bounds(zone, day)
            counts: Counter[str] = Counter()
            for hour, outcome, number in stored.hours:
                if first <= begin + timedelta(hours=hour) < last:
                    counts[outcome] += number
            for skipped in stored.skipped:
                if skipped.first < last and skipped.last >= first:
                    counts[skipped.verdict] += _part(skipped, first, last)
            counts_by_day[day] = counts
            if stored.settled is not None and last <= min(stored.settled, now):
                self._keep(zone, day, counts)
        return counts_by_day

    def _keep(self, zone: str, day: date, counts: Mapping[str, int]) -> None:
        with self._lock:
            self._days[zone, day] = counts
            if len(self._days) > _MAX_DAYS:
                self._days.popitem(last=False)


def _part(skipped: SkippedSlots, first: datetime, last: datetime) -> int:
    """Return about how many slots of a range lie in a day: ranges hold their number only."""
    if skipped.count is None or skipped.first == skipped.last:
        return skipped.count or 1
    share = (min(skipped.last, last) - max(skipped.first, first)) / (skipped.last - skipped.first)
    return max(1, round(skipped.count * share))


def day_bounds(zone: str, on: date) -> tuple[datetime, datetime]:
    """Return the first moment of a day, and of the next one, in UTC; later than midnight where the clocks skip that."""
    place = ZoneInfo(zone)
    first, last = (datetime.combine(midnight, time(), place).astimezone(UTC) for midnight in (on, on + timedelta(days=1)))
    return first, last


def _take_apart(registry: Registry) -> _Schedules:
    tasks: dict[tuple[str, str], list[CompiledTask]] = {}
    for task in registry.tasks.values():
        trigger = task.spec.schedule
        if trigger is not None and trigger.enabled and task.spec.enabled:
            tasks.setdefault((trigger.config.cron_expression, trigger.config.timezone), []).append(task)
    usd, limited, unbounded = {}, {}, {}
    for key, members in tasks.items():
        free = [task for task in members if task.spec.start_limit is None]
        usd[key] = sum((max_run_usd(task.spec) or ZERO_USD for task in free), ZERO_USD)
        limited[key] = [task for task in members if task.spec.start_limit is not None and task.spec.budget_limit is not None]
        unbounded[key] = sum(task.spec.budget_limit is None and task.spec.agent_runtime != "command" for task in members)
    return _Schedules(
        registry=registry,
        shapes=by_zone(shape_of(*key) for key in tasks),
        tasks=tasks,
        usd=usd,
        limited=limited,
        unbounded=unbounded,
    )


def _compute_day(schedules: _Schedules, zone: str, on: date, limit: int) -> CalendarDayBody:
    begin, end = day_bounds(zone, on)
    load = [0] * ((end - begin) // _MINUTE)
    counts: Counter[tuple[str, str]] = Counter()
    for shape, minutes in minutes_between(schedules.shapes, begin, end):
        key = (shape.expression, shape.zone)
        number = len(schedules.tasks[key])
        counts[key] += len(minutes)
        for minute in minutes:
            load[minute] += number
    worst, unbounded = ZERO_USD, 0
    for key, count in counts.items():
        worst += schedules.usd[key] * count + sum(_limited_usd(task, count) for task in schedules.limited[key])
        unbounded += schedules.unbounded[key] * count
    hours = [0] * _HOURS
    for hour, number in zip(_clock_hours(zone, begin, len(load)), load, strict=True):
        hours[hour] += number
    nights: list[ClockChangeNight] = []
    if any(True for zone_name in {zone, *schedules.zones} for _ in clock_changes(zone_name, begin - _SECOND, end - _SECOND)):
        timed_tasks = [TimedTask(task.id, *key) for key, members in schedules.tasks.items() for task in members[:_MAX_NAMED]]
        nights = clock_change_nights(timed_tasks, begin - _SECOND, end - _SECOND)
        if zone not in schedules.shapes:
            nights += [ClockChangeNight(zone, change, ()) for change in clock_changes(zone, begin - _SECOND, end - _SECOND)]
    return CalendarDayBody(
        date=on.isoformat(),
        fires=sum(hours),
        hours=hours,
        tasks=sum(len(schedules.tasks[key]) for key in counts),
        crowded=sum(number > limit for number in load),
        most=max(load, default=0),
        worst_usd=f"{worst:f}",
        unbounded=unbounded,
        clock_changes=[_clock_change(night) for night in nights],
        outcomes={},
    )


def _clock_change(night: ClockChangeNight) -> ClockChangeBody:
    return ClockChangeBody(
        at=at(night.change.at),
        timezone=night.zone,
        before=f"{night.change.old:%H:%M}",
        after=f"{night.change.new:%H:%M}",
        tasks=[task_id for task_id, _ in night.felt[:_MAX_NAMED]],
    )


def _limited_usd(task: CompiledTask, count: int) -> Decimal:
    """Return the most that so many fires of a task may spend in a day, with its start limit."""
    limit = task.spec.start_limit
    starts = count if limit is None else min(count, limit.count * -(-DAY // limit.window))
    return (max_run_usd(task.spec) or ZERO_USD) * starts


def _clock_hours(zone: str, begin: datetime, minutes: int) -> Iterator[int]:
    """Yield the hour that the clocks of a zone show in each minute of a day."""
    if minutes == 60 * _HOURS:
        yield from (hour for hour in range(_HOURS) for _ in range(60))
        return
    place = ZoneInfo(zone)
    yield from ((begin + _MINUTE * minute).astimezone(place).hour for minute in range(minutes))


def _fires(schedules: _Schedules, since: datetime, until: datetime) -> Iterator[FireBody]:
    """Yield the fires in (since, until], in order, computed a day at a time."""
    begin, last = since.replace(second=0, microsecond=0) + _MINUTE, until.replace(second=0, microsecond=0) + _MINUTE
    while begin < last:
        end = min(begin + DAY, last)
        entries: list[tuple[int, str, str]] = []
        for shape, minutes in minutes_between(schedules.shapes, begin, end):
            entries += [(minute, shape.expression, shape.zone) for minute in minutes]
        entries.sort()
        for minute, group in groupby(entries, key=lambda entry: entry[0]):
            moment = begin + _MINUTE * minute
            keys = [(expression, zone) for _, expression, zone in group]
            fires = sorted((task.id, *key) for key in keys for task in schedules.tasks[key])
            for task_id, expression, zone in fires:
                local = moment.astimezone(ZoneInfo(zone))
                yield FireBody(
                    at=at(moment),
                    local=local.isoformat(timespec="minutes"),
                    task_id=task_id,
                    timezone=zone,
                    note=_note(expression, zone, local, begin, end),
                )
        begin = end


def _note(expression: str, zone: str, local: datetime, begin: datetime, end: datetime) -> str:
    near = any(True for _ in clock_changes(zone, begin - DAY, end + DAY))
    return dst_note(expression, local) if near else ""
