"""What every store promises about schedules: each slot has one verdict and starts at most one run, for ever."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from optio.errors import Conflict
from optio.model.registry import CompiledTask
from optio.model.run import RunState
from optio.store.base import Firing, RunFilter, ScheduleRow, SlotVerdict, Store
from tests.store.build import LEASE, START, end, everything, new_run, queued, serve, task

MINUTE = timedelta(minutes=1)


def firing(*slots: datetime, of: CompiledTask | None = None, following: datetime | None = None, **more: bool) -> Firing:
    """All of these slots start a run."""
    of = of or task()
    return Firing(
        task_id=of.id,
        digest=of.digest,
        verdicts=[SlotVerdict(slot=slot, verdict="fired") for slot in slots],
        runs=[new_run(of, trigger="schedule", slot=slot) for slot in slots],
        next_fire=following or max(slots) + MINUTE,
        **more,
    )


@pytest.fixture
def scheduled(store: Store) -> Store:
    """A store that serves the task `job` and keeps a schedule of it."""
    serve(store, task())
    store.change_schedules([ScheduleRow(task_id="job", fingerprint="* * * * * UTC", next_fire=START)], [])
    return store


def test_schedules_are_kept_changed_and_forgotten(store: Store) -> None:
    first = ScheduleRow(task_id="a", fingerprint="@daily UTC", next_fire=START)
    never = ScheduleRow(task_id="b", fingerprint="x", next_fire=None)
    changed = replace(first, fingerprint="@hourly UTC", next_fire=START + MINUTE)

    store.change_schedules([first, never], [])
    store.change_schedules([changed], ["b", "unknown"])

    assert store.schedules() == {"a": changed}


def test_a_slot_its_run_and_the_next_slot_are_one(scheduled: Store) -> None:
    plan = firing(START)

    started = scheduled.fire(plan).result(10)

    run = scheduled.run(started[0])
    assert (run.trigger, run.slot, run.state) == ("schedule", START, RunState.QUEUED)
    assert scheduled.schedules()["job"].next_fire == START + MINUTE
    assert [event.reason for event in scheduled.events(run.id)] == ["schedule"]


def test_a_slot_never_starts_a_second_run_even_when_it_is_due_again(scheduled: Store) -> None:
    scheduled.fire(firing(START)).result(10)
    scheduled.change_schedules([ScheduleRow(task_id="job", fingerprint="new", next_fire=START)], [])

    started = scheduled.fire(firing(START, START + MINUTE)).result(10)

    assert [scheduled.run(run_id).slot for run_id in started] == [START + MINUTE]
    assert len(scheduled.runs(RunFilter()).items) == 2


def test_a_slot_that_was_missed_stays_missed(scheduled: Store) -> None:
    missed = Firing(
        task_id="job", digest=task().digest, verdicts=[SlotVerdict(slot=START, verdict="missed")], runs=[], next_fire=None
    )

    nothing = scheduled.fire(missed).result(10)
    later = scheduled.fire(firing(START)).result(10)

    assert nothing == later == []


def test_two_schedulers_start_each_slot_once(stores: Callable[[], Store]) -> None:
    both = [stores(), stores()]
    serve(both[0], task())
    slots = [START + place * MINUTE for place in range(40)]

    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda place: both[place % 2].fire(firing(slots[place // 4])).result(20), range(160)))

    runs = both[0].runs(RunFilter(trigger="schedule"), limit=100).items
    assert sorted(run.slot for run in runs) == slots
    assert sum(len(each) for each in started) == 40


def test_a_firing_of_a_definition_that_is_no_longer_served_is_a_conflict(scheduled: Store) -> None:
    old = firing(START)
    serve(scheduled, task(extra="maxConcurrent: 5\n"))

    with pytest.raises(Conflict):
        scheduled.fire(old).result(10)
    serve(scheduled)
    with pytest.raises(Conflict):
        scheduled.fire(firing(START, of=task(extra="maxConcurrent: 5\n"))).result(10)

    assert scheduled.runs(RunFilter()).items == []
    assert scheduled.schedules()["job"].next_fire == START


@pytest.mark.parametrize("state", ["queued", "running", "ended"])
def test_without_overlap_nothing_starts_while_a_run_of_the_task_is_active(scheduled: Store, state: str) -> None:
    queued(scheduled)
    if state != "queued":
        (claim,) = scheduled.claim("w", LEASE, everything)
        if state == "ended":
            end(scheduled, claim)

    started = scheduled.fire(firing(START, unless_active=True)).result(10)
    again = scheduled.fire(firing(START)).result(10)

    assert (len(started), again) == (1 if state == "ended" else 0, [])


def test_without_overlap_one_firing_starts_one_run(scheduled: Store) -> None:
    slots = [START + place * MINUTE for place in range(3)]

    started = scheduled.fire(firing(*slots, unless_active=True)).result(10)

    assert [scheduled.run(run_id).slot for run_id in started] == [START]


def test_another_tasks_run_is_no_overlap(scheduled: Store) -> None:
    queued(scheduled, task("Other"))

    assert len(scheduled.fire(firing(START, unless_active=True)).result(10)) == 1
