"""What every store promises about schedules: each slot has one verdict and starts at most one run, for ever."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from optio.errors import Conflict, Invalid
from optio.model.registry import CompiledTask, Registry
from optio.model.run import RunState
from optio.store.base import Store
from optio.store.values import ClosedSchedule, Firing, RunFilter, ScheduleRow, SkippedSlots, SlotFilter, SlotRow, SlotVerdict
from tests.store.build import LEASE, START, Clock, end, everything, new_run, queued, serve, task

MINUTE = timedelta(minutes=1)


def firing(*slots: datetime, of: CompiledTask | None = None, following: datetime | None = None, **more: Any) -> Firing:
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


# Many at once


def outcomes(store: Store, firings: Sequence[Firing]) -> list[list[str] | type[Exception]]:
    """Of each of these in one commit the runs that it started, or the kind of its error."""
    results = store.ready(firings)().result(20)
    return [type(each) if isinstance(each, Exception) else each for each in results]


def test_firings_that_are_committed_together_come_to_what_each_would_alone(stores: Callable[[], Store]) -> None:
    store, other = stores(), stores()
    tasks = [task(f"T{place}") for place in range(60)]
    serve(store, *tasks)
    store.change_schedules([ScheduleRow(task_id=each.id, fingerprint="x", next_fire=START) for each in tasks], [])
    fresh = [firing(START, of=each) for each in tasks[:50]]
    known = [firing(START, START + MINUTE, of=each) for each in tasks[50:52]]
    for each in tasks[50:52]:
        other.fire(firing(START, of=each)).result(10)
    overlapping = firing(START, START + MINUTE, of=tasks[52], unless_active=True)
    stale = firing(START, of=task("T53", "maxConcurrent: 7\n"))
    missed = replace(firing(START, of=tasks[54]), verdicts=[SlotVerdict(slot=START, verdict="missed")], runs=[])

    found = outcomes(store, [*fresh[:30], *known, overlapping, stale, missed, *fresh[30:]])

    assert found[:30] + found[35:] == [[each.runs[0].id] for each in fresh]
    assert found[30:32] == [[each.runs[1].id] for each in known]
    assert found[32:35] == [[overlapping.runs[0].id], Conflict, []]
    assert {row.next_fire for row in store.schedules().values() if row.task_id in {each.id for each in tasks[:50]}} == {
        START + MINUTE
    }
    assert [row.verdict for row in store.slots("t52").items] == ["overlap", "fired"]
    assert store.slots("t53").items == []
    assert len(store.runs(RunFilter(), limit=200).items) == 50 + 2 + 2 + 1


def test_without_overlap_a_task_starts_nothing_among_others_while_a_run_of_it_is_active(store: Store) -> None:
    tasks = [task(f"T{place}", "maxConcurrent: 5\n") for place in range(5)]
    serve(store, *tasks)
    store.change_schedules([ScheduleRow(task_id=each.id, fingerprint="x", next_fire=START) for each in tasks], [])
    queued(store, tasks[1])
    (claim,) = store.claim("w", LEASE, everything)
    queued(store, tasks[2])
    firings = [firing(START, of=each, unless_active=each is not tasks[4]) for each in tasks]
    queued(store, tasks[4])

    first = outcomes(store, firings)
    end(store, claim)
    second = outcomes(store, [firing(START + MINUTE, of=each, unless_active=True) for each in tasks[:2]])

    assert [type(each) if isinstance(each, Exception) else len(each) for each in first + second] == [1, 0, 0, 1, 1, 0, 1]
    found = [[row.verdict for row in store.slots(each.id).items] for each in tasks]
    assert found == [["overlap", "fired"], ["fired", "overlap"], ["overlap"], ["fired"], ["fired"]]
    assert {store.schedules()[each.id].next_fire for each in tasks[2:]} == {START + MINUTE}


def test_firings_of_several_schedulers_at_one_moment_start_each_slot_once(stores: Callable[[], Store]) -> None:
    three = [stores(), stores(), stores()]
    tasks = [task(f"T{place}") for place in range(100)]
    serve(three[0], *tasks)
    chance = random.Random(9)

    def lots(store: Store, slot: datetime) -> list[Callable[[], Future[list[list[str] | Exception]]]]:
        """All of them, in lots that no other scheduler has just so, each lot in an order of its own."""
        firings = [firing(slot, of=each) for each in chance.sample(tasks, len(tasks))]
        size = chance.choice([7, 30, 100])
        return [store.ready(firings[place : place + size]) for place in range(0, len(firings), size)]

    started: list[str] = []
    for place in range(5):
        ready = [lots(store, START + place * MINUTE) for store in three]
        with ThreadPoolExecutor(3) as pool:
            futures = [future for some in pool.map(lambda lots: [fire() for fire in lots], ready) for future in some]
        for result in (each for future in futures for each in future.result(20)):
            assert isinstance(result, list), result
            started += result

    runs = three[0].runs(RunFilter(), limit=1000).items
    assert Counter((run.task_id, run.slot) for run in runs) == {
        (each.id, START + place * MINUTE): 1 for each in tasks for place in range(5)
    }
    assert sorted(started) == sorted(run.id for run in runs)


def test_a_firing_that_fails_harms_no_other_of_its_commit(scheduled: Store) -> None:
    tasks = [task(f"T{place}") for place in range(5)]
    serve(scheduled, *tasks)
    scheduled.change_schedules([ScheduleRow(task_id=each.id, fingerprint="x", next_fire=START) for each in tasks], [])
    scheduled.fire(firing(START, of=tasks[0])).result(10)
    (taken,) = scheduled.runs(RunFilter()).items
    firings = [firing(START, of=each) for each in tasks[1:]]
    firings[2] = replace(firings[2], runs=[replace(firings[2].runs[0], id=taken.id)])

    found = outcomes(scheduled, firings)

    assert found == [[firings[0].runs[0].id], [firings[1].runs[0].id], Conflict, [firings[3].runs[0].id]]
    assert scheduled.slots("t3").items == []
    assert [row.next_fire for row in map(scheduled.schedules().__getitem__, ("t2", "t3", "t4"))] == [
        START + MINUTE, START, START + MINUTE,
    ]  # fmt: skip


# Schedulers that are behind, and clocks that were wrong


@pytest.mark.parametrize("behind", [START + MINUTE, START + 2 * MINUTE])
def test_a_scheduler_that_is_behind_never_moves_the_next_slot_back(scheduled: Store, behind: datetime) -> None:
    scheduled.fire(firing(START, START + MINUTE, following=START + 2 * MINUTE)).result(10)

    late = scheduled.fire(firing(START, following=behind)).result(10)

    assert late == []
    assert scheduled.schedules()["job"].next_fire == START + 2 * MINUTE


@pytest.mark.parametrize("together", [False, True])
def test_a_scheduler_that_is_behind_starts_nothing_that_was_judged_in_a_row_of_many(scheduled: Store, together: bool) -> None:
    older = SkippedSlots(first=START, last=START + 5 * MINUTE, count=6, verdict="missed")
    scheduled.fire(replace(firing(START + 6 * MINUTE), skipped=older)).result(10)
    serve(scheduled, task(), task("Other"), task("Another"))

    late = firing(START, START + 3 * MINUTE, following=START + 4 * MINUTE)
    if together:
        others = [firing(START, of=task(name)) for name in ("Other", "Another")]
        found = outcomes(scheduled, [others[0], late, others[1]])
        assert found == [[others[0].runs[0].id], [], [others[1].runs[0].id]]
    else:
        assert scheduled.fire(late).result(10) == []

    assert [(row.first, row.verdict) for row in scheduled.slots("job").items] == [
        (START + 6 * MINUTE, "fired"), (START, "missed"),
    ]  # fmt: skip


def test_a_schedule_that_ends_has_no_next_slot_and_gets_none_from_who_is_behind(scheduled: Store) -> None:
    scheduled.fire(replace(firing(START), next_fire=None)).result(10)
    scheduled.fire(firing(START + MINUTE)).result(10)

    assert scheduled.schedules()["job"].next_fire is None


def test_what_has_changed_since_it_was_seen_is_left_as_it_is(scheduled: Store) -> None:
    seen = scheduled.schedules()
    put = [ScheduleRow(task_id="job", fingerprint="old", next_fire=START + 9 * MINUTE)]
    scheduled.fire(firing(START)).result(10)

    scheduled.change_schedules(put, [], seen=seen)
    scheduled.change_schedules([], ["job"], seen=seen)
    kept = scheduled.schedules()["job"]
    scheduled.change_schedules([replace(put[0], task_id="new")], ["job"], seen=scheduled.schedules())

    assert kept == ScheduleRow(task_id="job", fingerprint="* * * * * UTC", next_fire=START + MINUTE)
    assert list(scheduled.schedules()) == ["new"]


def test_what_was_missed_by_a_clock_that_was_ahead_is_open_again(scheduled: Store) -> None:
    ahead = [SlotVerdict(slot=START + place * MINUTE, verdict="missed") for place in range(1, 5)]
    older = SkippedSlots(first=START - 9 * MINUTE, last=START + 30 * MINUTE, count=40, verdict="missed")
    begun = firing(START)
    plan = replace(begun, verdicts=[*begun.verdicts, *ahead], next_fire=START + 60 * MINUTE, skipped=older)
    scheduled.fire(plan).result(10)
    seen = scheduled.schedules()

    scheduled.change_schedules([replace(seen["job"], next_fire=START + 3 * MINUTE)], [], seen=seen)

    rows = scheduled.slots("job").items
    assert [(row.last, row.verdict) for row in rows if row.first == row.last] == [
        (START + 2 * MINUTE, "missed"), (START + MINUTE, "missed"), (START, "fired"),
    ]  # fmt: skip
    assert [(row.first, row.count, row.last < START + 3 * MINUTE) for row in rows if row.first != row.last] == [
        (START - 9 * MINUTE, None, True)
    ]
    again = scheduled.fire(firing(START, START + 3 * MINUTE)).result(10)
    assert [scheduled.run(run_id).slot for run_id in again] == [START + 3 * MINUTE]


def test_a_scheduler_that_is_a_moment_behind_opens_nothing_again(scheduled: Store, clock: Clock) -> None:
    queued(scheduled)
    scheduled.fire(firing(START, unless_active=True)).result(10)
    seen = scheduled.schedules()

    scheduled.change_schedules([replace(seen["job"], next_fire=START)], [], seen=seen)

    assert [row.verdict for row in scheduled.slots("job").items] == ["overlap"]


def test_the_stores_clock_can_be_asked(store: Store, clock: Clock) -> None:
    first = store.now()
    clock.move(hours=2)

    assert (first, store.now()) == (START, START + 120 * MINUTE)


# Generations


def test_the_schedules_of_a_generation_are_taken_up_once_and_in_order(stores: Callable[[], Store], clock: Clock) -> None:
    store, other = stores(), stores()
    serve(store, task())
    clock.move(minutes=1)
    serve(store, task(extra="maxConcurrent: 7\n"))
    first, second = store.unscheduled_generation()
    row = ScheduleRow(task_id="job", fingerprint="a", next_fire=START)

    taken = store.schedule_generation(first.id, [row], [])
    late = other.schedule_generation(first.id, [replace(row, fingerprint="b")], ["job"])

    assert (taken, late, store.schedules()) == (True, False, {"job": row})
    assert [each.id for each in store.unscheduled_generation()] == [second.id]
    assert store.schedule_generation(second.id, [], ["job"])
    newest = store.generation()
    assert newest is not None
    assert (store.unscheduled_generation(), store.schedules(), newest.scheduled_at) == ([], {}, START + MINUTE)


def test_slots_of_a_schedule_that_ended_have_a_verdict_unless_they_have_one(scheduled: Store) -> None:
    scheduled.fire(firing(START)).result(10)
    (generation,) = scheduled.unscheduled_generation()
    verdicts = [SlotVerdict(slot=START + place * MINUTE, verdict="superseded") for place in range(2)]
    older = SkippedSlots(first=START - 5 * MINUTE, last=START - MINUTE, count=5, verdict="superseded")

    scheduled.schedule_generation(generation.id, [], ["job"], [ClosedSchedule(task_id="job", verdicts=verdicts, skipped=older)])

    found = [(row.first, row.last, row.count, row.verdict) for row in scheduled.slots("job").items]
    assert found == [
        (START + MINUTE, START + MINUTE, 1, "superseded"),
        (START, START, 1, "fired"),
        (START - 5 * MINUTE, START - MINUTE, 5, "superseded"),
    ]


# What became of slots


def test_slots_are_listed_newest_first_and_paged(scheduled: Store) -> None:
    slots = [START + place * MINUTE for place in range(25)]
    older = SkippedSlots(first=START - 9 * MINUTE, last=START - MINUTE, count=9, verdict="missed")
    started = scheduled.fire(replace(firing(*slots), skipped=older)).result(10)
    older = SkippedSlots(first=START - 99 * MINUTE, last=START - 10 * MINUTE, count=None, verdict="missed")
    scheduled.fire(replace(firing(START + 30 * MINUTE), skipped=older)).result(10)

    pages, cursor = [], None
    while True:
        page = scheduled.slots("job", cursor=cursor, limit=10)
        pages.append(page.items)
        cursor = page.next
        if cursor is None:
            break

    rows: list[SlotRow] = [row for items in pages for row in items]
    assert [len(items) for items in pages] == [10, 10, 8]
    assert [row.run_id for row in rows[1:26]] == started[::-1]
    assert [(row.first, row.last, row.count) for row in rows[26:]] == [
        (START - 9 * MINUTE, START - MINUTE, 9),
        (START - 99 * MINUTE, START - 10 * MINUTE, None),
    ]
    assert {row.at for row in rows} == {START}

    def narrowed(**where: Any) -> list[tuple[datetime, datetime]]:
        return [(row.first, row.last) for row in scheduled.slots("job", SlotFilter(**where), limit=3).items]

    assert narrowed(until=START + MINUTE, since=START) == [(START + MINUTE, START + MINUTE), (START, START)]
    # A range belongs to each span that it overlaps.
    assert narrowed(since=START - 9 * MINUTE, until=START - 8 * MINUTE) == [(START - 9 * MINUTE, START - MINUTE)]
    assert narrowed(verdict="missed")[0] == (START - 9 * MINUTE, START - MINUTE)
    assert narrowed(verdict="overlap") == []
    assert scheduled.slots("other").items == []
    with pytest.raises(Invalid):
        scheduled.slots("job", cursor="forged")


def test_older_slots_are_counted_once_by_two_schedulers(stores: Callable[[], Store]) -> None:
    both = [stores(), stores()]
    serve(both[0], task())
    older = SkippedSlots(first=START - 9 * MINUTE, last=START - MINUTE, count=9, verdict="missed")

    for place, store in enumerate(both):
        longer = replace(older, last=older.last + place * MINUTE, count=9 + place)
        store.fire(replace(firing(START + place * MINUTE), skipped=longer)).result(10)

    ranges = [row.count for row in both[0].slots("job").items if row.first != row.last]
    assert ranges == [9]


def test_outcomes_of_slots_are_counted_by_hour_for_tasks_that_are_served(store: Store) -> None:
    serve(store, task())
    begin = store.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    store.change_schedules([ScheduleRow(task_id="job", fingerprint="x", next_fire=begin)], [])
    slots = [SlotVerdict(slot=begin + timedelta(minutes=each), verdict="missed") for each in (0, 59, 60)]
    skipped = SkippedSlots(first=begin - timedelta(hours=2), last=begin - timedelta(hours=1), count=9, verdict="missed")
    later = begin + timedelta(hours=2)
    store.fire(Firing(task_id="job", digest=task().digest, verdicts=slots, runs=[], next_fire=later, skipped=skipped)).result(
        10
    )

    whole = store.slot_counts(begin - timedelta(hours=2), later)
    part = store.slot_counts(begin + timedelta(minutes=30), begin + timedelta(minutes=60))

    assert sorted(whole.hours) == [(2, "missed", 2), (3, "missed", 1)]
    assert (whole.skipped, whole.settled) == ([skipped], later)
    assert (part.hours, part.skipped) == ([(0, "missed", 1)], [])
    store.activate(Registry.of({}), None)
    assert store.slot_counts(begin, later).hours == []
