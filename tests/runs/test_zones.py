"""The calendar and the scheduler start the same: around each change of the clocks, in every zone, for ten years.

The test takes one change of each kind: by how far, at what time of the day, and with which others about it. All of them, and
every minute looked at by itself besides: `python -m tests.runs.test_zones`.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple
from zoneinfo import available_timezones

import pytest

from optio.model.registry import CompiledTask, Registry
from optio.processes.scheduler import Scheduler
from optio.runs.schedule import plan_step, reconcile
from optio.scheduling import calendar
from optio.scheduling.zone_transitions import ClockChange, clock_changes
from optio.settings import Settings
from optio.store.values import ScheduleRow
from optio.wiring import build
from tests.runs.test_schedule import changed, timed
from tests.scheduling.test_cron import by_the_minute

FROM, TO = datetime(2024, 1, 1, tzinfo=UTC), datetime(2034, 1, 1, tzinfo=UTC)
AROUND = timedelta(hours=15)
EXPRESSIONS = ("30 2 * * *", "0 * * * *", "*/15 * * * *", "0 0 * * *", "15 1-3 * * *")
# A scheduler looks when something is due; one that is late, or never sleeps longer than this, sees the same.
TICKS = (timedelta(0), timedelta(seconds=59))


class Case(NamedTuple):
    """A change of the clocks of a zone."""

    zone: str
    change: ClockChange

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The time about it that is looked at."""
        return self.change.at - AROUND, self.change.at + AROUND


def every_change() -> Iterator[Case]:
    return (Case(zone, change) for zone in sorted(available_timezones()) for change in clock_changes(zone, FROM, TO))


def one_of_each_kind() -> list[Case]:
    kinds: dict[tuple[object, ...], Case] = {}
    for case in every_change():
        about = sum(1 for _ in clock_changes(case.zone, *case.span))
        kinds.setdefault((case.change.before, case.change.after, case.change.old.time(), about), case)
    return list(kinds.values())


@cache
def task(expression: str, zone: str) -> CompiledTask:
    # The compiler refuses some zones by their names; a task that an older version let through has them all the same.
    return changed(anywhere(expression), '"timezone": "UTC"', f'"timezone": "{zone}"')


@cache
def anywhere(expression: str) -> CompiledTask:
    return timed(expression)


def listed(expression: str, case: Case) -> list[datetime]:
    """What the calendar shows."""
    return [fire.at.astimezone(UTC) for fire in calendar.fires(expression, case.zone, *case.span)]


def started(expression: str, case: Case, tick: timedelta) -> list[datetime | None]:
    """The slots of the runs that a scheduler starts whose clock is led through the same time, and that begins anew at noon of
    each day with what it has kept."""
    mine = task(expression, case.zone)
    now, until = case.span
    kept: dict[str, ScheduleRow] = {}
    found: list[datetime | None] = []
    ids = count(1)
    restart = now
    while True:
        if now >= restart:
            put = reconcile({mine.id: mine}, kept, now, clock_set_back=bool(kept)).put
            kept |= {row.task_id: row for row in put}
            restart = now + timedelta(hours=12)
        due = kept[mine.id].next_fire
        assert due is not None
        now = _look(now, due, tick)
        if due > until:
            return found
        firing = plan_step(mine, due, now, lambda: str(next(ids))).firing
        found += [run.slot for run in firing.runs]
        kept[mine.id] = replace(kept[mine.id], next_fire=firing.next_fire)


def _look(now: datetime, due: datetime, tick: timedelta) -> datetime:
    """When it looks: at the moment itself, or at the first tick that is not before it."""
    return max(now, due) if not tick else now + tick * max(0, -((now - due) // tick))


def parted(cases: Iterable[Case]) -> Iterator[tuple[str, Case, timedelta]]:
    """Where the two are not the same."""
    for case in cases:
        for expression in EXPRESSIONS:
            wanted = listed(expression, case)
            for tick in TICKS:
                if started(expression, case, tick) != wanted:
                    yield expression, case, tick


def test_the_calendar_shows_what_the_scheduler_starts_at_every_kind_of_change_of_the_clocks() -> None:
    kinds = one_of_each_kind()

    assert len(kinds) > 40
    assert list(parted(kinds)) == []


def test_a_slot_that_the_calendar_does_not_show_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("Europe/Berlin", next(clock_changes("Europe/Berlin", FROM, TO)))
    shown = listed("0 * * * *", case)
    monkeypatch.setattr(calendar, "fires", lambda *_: (calendar.Fire(at) for at in shown[1:]))

    assert {expression for expression, _, _ in parted([case])} == set(EXPRESSIONS)


WHOLE = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC)),
]


@pytest.mark.parametrize(("zone", "at"), WHOLE)
def test_a_whole_scheduler_over_a_store_starts_what_the_calendar_shows(zone: str, at: datetime, tmp_path: Path) -> None:
    (change,) = clock_changes(zone, at - timedelta(seconds=1), at)
    case = Case(zone, change)
    tasks = {f"t{place}": replace(task(each, zone), id=f"t{place}") for place, each in enumerate(EXPRESSIONS)}
    now, until = case.span
    made = build(Settings.load({"OPTIO_DATA_DIR": str(tmp_path), "OPTIO_TASKS": str(tmp_path / "tasks.d")}))
    try:
        made.store.activate(Registry.of(tasks), None)
        scheduler = Scheduler(made, clock=lambda: now, longest=AROUND.total_seconds())
        while now <= until:
            now += timedelta(seconds=scheduler.step())
        found = {task_id: [row.last for row in made.store.slots(task_id, limit=1000).items][::-1] for task_id in tasks}
    finally:
        made.close()

    assert found == {f"t{place}": listed(each, case) for place, each in enumerate(EXPRESSIONS)}


def main() -> int:
    """Every change of every zone, with the policy by the minute as a third opinion."""
    cases = list(every_change())
    wrong = list(parted(cases))
    wrong += [
        (expression, case, timedelta(-1))
        for case in cases
        for expression in EXPRESSIONS
        if listed(expression, case) != by_the_minute(expression, case.zone, case.span[0] + timedelta(minutes=1), case.span[1])
    ]
    slots = sum(len(listed(expression, case)) for case in cases for expression in EXPRESSIONS)
    zones = len({case.zone for case in cases})
    print(f"{zones} zones, {len(cases)} changes, {slots} slots, {len(TICKS)} ways to look: {len(wrong)} wrong")
    for each in wrong[:20]:
        print(*each)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
