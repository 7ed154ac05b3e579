"""Which slots are due, what the policies make of them, and when the next one is."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.registry import CompiledTask
from optio.runs.schedule import MAX_VERDICTS, ScheduleStep, fingerprint, plan_step, reconcile
from optio.scheduling import cron
from optio.store.values import ScheduleRow, SkippedSlots
from tests.support import compiled

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)

TASK = """\
type: standalone
name: Timed
agentRuntime: command
command: ["true"]
promptTemplate: "hello {{{{A}}}}"
paramsSchema: {{type: object, properties: {{A: {{type: string}}, B: {{type: object}}}}, required: [A]}}
triggers:
  - type: schedule
    enabled: {enabled}
    config: {config}
"""


def timed(expression: str = "* * * * *", zone: str = "UTC", *, enabled: bool = True, **more: Any) -> CompiledTask:
    config = {"cronExpression": expression, "timezone": zone, "paramMapping": {"A": "x"}, **more}
    return compiled(TASK.format(config=json.dumps(config), enabled=json.dumps(enabled)))


def changed(task: CompiledTask, old: str, new: str) -> CompiledTask:
    """The same task with something in it that the compiler would not have let through."""
    return CompiledTask.from_json(json.loads(json.dumps(task.to_json()).replace(old, new)))


def off(task: CompiledTask) -> CompiledTask:
    return replace(task, spec=task.spec.replace(enabled=False))


def planned(task: CompiledTask, due: datetime, now: datetime) -> ScheduleStep:
    ids = count(1)
    return plan_step(task, due, now, lambda: f"run-{next(ids)}")


def verdicts(result: ScheduleStep) -> list[str]:
    return [verdict.verdict for verdict in result.firing.verdicts]


def fired(result: ScheduleStep) -> list[datetime | None]:
    return [run.slot for run in result.firing.runs]


# One slot, on time


@pytest.mark.parametrize("late", [timedelta(), timedelta(microseconds=1), timedelta(seconds=59.999999)])
def test_a_slot_that_is_due_fires_once_and_names_the_next(late: timedelta) -> None:
    result = planned(timed(), NOON, NOON + late)

    assert (fired(result), verdicts(result)) == ([NOON], ["fired"])
    assert (result.firing.next_fire, result.notes) == (NOON + MINUTE, ())
    (run,) = result.firing.runs
    assert (run.trigger, run.actor, run.prompt, run.params) == ("schedule", "scheduler", "hello x", {"A": "x"})


def test_a_task_that_has_lost_its_schedule_fires_no_more() -> None:
    task = timed()
    unscheduled = replace(task, spec=task.spec.replace(triggers=()))

    result = planned(unscheduled, NOON, NOON)

    assert (result.firing.task_id, result.firing.digest, verdicts(result), fired(result)) == (
        task.id,
        unscheduled.digest,
        [],
        [],
    )
    assert (result.firing.next_fire, result.notes) == (None, ())


@pytest.mark.parametrize(
    ("overlap", "unless_active"), [({}, False), ({"overlap": "queue"}, False), ({"overlap": "skip"}, True)]
)
def test_only_a_schedule_that_skips_waits_for_no_other_run(overlap: dict[str, str], unless_active: bool) -> None:
    assert planned(timed(**overlap), NOON, NOON).firing.unless_active is unless_active


def test_the_note_about_missed_slots_counts_those_that_start_nothing() -> None:
    result = planned(timed(misfire="skip"), NOON, NOON + 10 * MINUTE)

    assert verdicts(result).count("missed") == 9
    assert result.notes == ("schedule of `timed`: 9 slots were missed since 2026-01-05T12:00:00+00:00",)


def test_a_moment_too_early_nothing_is_due() -> None:
    result = planned(timed(), NOON, NOON - timedelta(microseconds=1))

    assert (fired(result), result.firing.next_fire) == ([], NOON)


@pytest.mark.parametrize(("late", "slots"), [(MINUTE, 2), (MINUTE + timedelta(microseconds=1), 1)])
def test_a_slot_is_missed_only_after_a_whole_minute(late: timedelta, slots: int) -> None:
    result = planned(timed(), NOON, NOON + late)

    assert fired(result) == [NOON, NOON + MINUTE][2 - slots :]


def test_a_slot_before_the_one_that_is_due_is_never_looked_at() -> None:
    assert [verdict.slot for verdict in planned(timed(), NOON, NOON).firing.verdicts] == [NOON]


def test_a_slot_that_the_expression_does_not_have_fires_nothing_and_the_schedule_goes_on() -> None:
    result = planned(timed("0 0 * * *"), NOON, NOON)

    assert (fired(result), result.firing.next_fire) == ([], datetime(2026, 1, 6, tzinfo=UTC))


def test_parameters_are_fixed_values_whatever_they_look_like() -> None:
    (run,) = planned(timed(paramMapping={"A": "$.x", "B": {"literal": 1}}), NOON, NOON).firing.runs

    assert run.params == {"A": "$.x", "B": {"literal": 1}}


def test_parameters_that_do_not_fit_are_a_verdict_and_a_sentence() -> None:
    # The compiler would not let it through; an older version of it may have.
    task = changed(timed(), '"A": "x"', '"A": 5')

    result = planned(task, NOON, NOON)

    assert (fired(result), verdicts(result), result.firing.next_fire) == ([], ["invalid"], NOON + MINUTE)
    (note,) = result.notes
    assert "`timed`" in note
    assert "/params/A" in note


# Three hours down

HOURS = NOON + timedelta(hours=3)


@pytest.mark.parametrize(
    ("policy", "starts"),
    [
        ({"misfire": "last"}, [HOURS - MINUTE, HOURS]),
        ({"misfire": "skip"}, [HOURS - MINUTE, HOURS]),
        ({"misfire": "all"}, [HOURS - place * MINUTE for place in range(9, -1, -1)]),
        ({"misfire": "all", "maxCatchUp": 1}, [HOURS - MINUTE, HOURS]),
        ({"misfire": "all", "maxCatchUp": 1000}, [NOON + place * MINUTE for place in range(181)]),
    ],
)
def test_a_minutely_task_after_three_hours(policy: dict[str, Any], starts: list[datetime]) -> None:
    result = planned(timed(**policy), NOON, HOURS)

    assert fired(result) == starts
    assert len(verdicts(result)) == 181
    assert verdicts(result).count("missed") == 181 - len(starts)
    assert result.firing.next_fire == HOURS + MINUTE
    assert len(result.notes) == (1 if len(starts) < 181 else 0)


@pytest.mark.parametrize(("policy", "starts"), [("last", 1), ("skip", 0), ("all", 3)])
def test_missed_days_by_policy(policy: str, starts: int) -> None:
    result = planned(timed("0 9 * * *", misfire=policy), datetime(2026, 1, 3, 9, tzinfo=UTC), NOON)

    assert fired(result) == [datetime(2026, 1, day, 9, tzinfo=UTC) for day in (3, 4, 5)][3 - starts :]


def test_a_year_down_is_listed_no_further_than_a_thousand_slots() -> None:
    result = planned(timed(misfire="all", maxCatchUp=1000), NOON - timedelta(days=365), NOON)

    assert len(result.firing.verdicts) == MAX_VERDICTS
    assert (fired(result)[0], fired(result)[-1]) == (NOON - (MAX_VERDICTS - 1) * MINUTE, NOON)
    assert result.firing.next_fire == NOON + MINUTE
    older = 365 * 1440 + 1 - MAX_VERDICTS
    assert result.firing.skipped == SkippedSlots(
        first=NOON - timedelta(days=365), last=NOON - MAX_VERDICTS * MINUTE, count=older, verdict="missed"
    )
    assert result.notes == (f"schedule of `timed`: {older:,} slots were missed since 2025-01-05T12:00:00+00:00",)


def test_slots_of_twenty_years_are_not_counted() -> None:
    result = planned(timed(), NOON - timedelta(days=7300), NOON)

    assert result.firing.skipped is not None
    assert result.firing.skipped.count is None
    assert "more than 998 slots were missed" in result.notes[0]


# Zones and the odd nights

# 02:30 is skipped; it comes twice; whole hours of both nights; a change by 30 minutes; a leap day; a night without a midnight.
NIGHTS = [
    ("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC), ["03-29T01:00", "03-30T00:30"]),
    (
        "30 2 * * *",
        "Europe/Berlin",
        datetime(2026, 10, 24, 12, tzinfo=UTC),
        ["10-25T00:30", "10-26T01:30"],
    ),
    ("0 * * * *", "Europe/Berlin", datetime(2026, 10, 24, 23, 30, tzinfo=UTC), ["10-25T00:00", "10-25T01:00", "10-25T02:00"]),
    ("0 * * * *", "Europe/Berlin", datetime(2026, 3, 29, 0, 30, tzinfo=UTC), ["03-29T01:00", "03-29T02:00"]),
    (
        "15 2 * * *",
        "Australia/Lord_Howe",
        datetime(2026, 10, 3, 0, tzinfo=UTC),
        ["10-03T15:30", "10-04T15:15"],
    ),
    ("0 9 29 2 *", "UTC", datetime(2026, 1, 1, tzinfo=UTC), ["02-29T09:00"]),
    ("0 0 * * *", "America/Sao_Paulo", datetime(2018, 11, 3, 12, tzinfo=UTC), ["11-04T03:00", "11-05T02:00"]),
]


@pytest.mark.parametrize(("expression", "zone", "start", "expected"), NIGHTS)
def test_each_slot_of_an_odd_night_fires_once(expression: str, zone: str, start: datetime, expected: list[str]) -> None:
    task = timed(expression, zone)
    due = cron.next_fire(expression, zone, start)
    seen: list[str] = []

    while len(seen) < len(expected) and due is not None:
        result = planned(task, due, due + timedelta(milliseconds=3))
        seen += [f"{slot:%m-%dT%H:%M}" for slot in fired(result) if slot is not None]
        due = result.firing.next_fire

    assert seen == expected


odd = st.sampled_from(
    [
        ("Europe/Berlin", datetime(2026, 3, 28, 20, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 10, 24, 20, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 10, tzinfo=UTC)),
        ("Africa/Casablanca", datetime(2026, 2, 14, 20, tzinfo=UTC)),
        ("Asia/Kolkata", datetime(2026, 5, 1, tzinfo=UTC)),
    ]
)
EVERY = ["* * * * *", "*/15 * * * *", "0 * * * *", "30 2 * * *", "30 1 * * *", "15,45 1-3 * * *", "0 3 * * *"]
expressions = st.sampled_from(EVERY)


@given(odd, expressions, st.lists(st.integers(1, 90), min_size=3, max_size=25), st.integers(0, 59))
def test_looks_at_any_moments_give_each_slot_once_in_order_and_never_go_back(
    night: tuple[str, datetime], expression: str, steps: list[int], second: int
) -> None:
    zone, now = night[0], night[1] + timedelta(seconds=second)
    task = timed(expression, zone, misfire="all", maxCatchUp=1000)
    due = cron.next_fire(expression, zone, now)
    seen: list[datetime] = []

    for step in steps:
        now += timedelta(minutes=step * 2)
        while due is not None and due <= now:
            result = planned(task, due, now)
            assert due in fired(result)
            seen += [slot for slot in fired(result) if slot is not None]
            due = result.firing.next_fire
            assert due is None or due > now

    assert seen == sorted(set(seen))
    assert all(slot <= now for slot in seen)


# What is kept


def row(task: CompiledTask, at: datetime | None) -> ScheduleRow:
    assert task.spec.schedule is not None
    return ScheduleRow(task_id=task.id, fingerprint=fingerprint(task.spec.schedule.config), next_fire=at)


def test_a_new_schedule_begins_now() -> None:
    task = timed("0 * * * *")

    changes = reconcile({task.id: task}, {}, NOON)

    assert (changes.put, changes.drop) == ([row(task, NOON + timedelta(hours=1))], [])


def test_a_schedule_that_is_born_in_the_repeated_hour_does_not_begin_in_the_first_one() -> None:
    task = timed("30 2 * * *", "Europe/Berlin")
    now = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time

    assert reconcile({task.id: task}, {}, now).put == [row(task, datetime(2026, 10, 26, 1, 30, tzinfo=UTC))]


def test_an_unchanged_schedule_keeps_what_it_has_missed() -> None:
    task = timed()

    changes = reconcile({task.id: task}, {task.id: row(task, NOON - timedelta(hours=3))}, NOON, clock_set_back=True)

    assert (changes.put, changes.drop) == ([], [])


@pytest.mark.parametrize("before", [("0 * * * *", "UTC"), ("* * * * *", "Europe/Berlin")])
def test_a_changed_schedule_begins_anew(before: tuple[str, str]) -> None:
    task = timed()

    changes = reconcile({task.id: task}, {task.id: row(timed(*before), NOON - timedelta(hours=3))}, NOON)

    assert changes.put == [row(task, NOON + MINUTE)]


@pytest.mark.parametrize("how", ["edited", "off", "gone"])
@pytest.mark.parametrize(
    ("end", "slots"),
    [(NOON - timedelta(microseconds=1), []), (NOON, [NOON]), (NOON + 2.5 * MINUTE, [NOON, NOON + MINUTE, NOON + 2 * MINUTE])],
)
def test_slots_that_nobody_had_looked_at_when_their_schedule_ended_are_superseded(
    how: str, end: datetime, slots: list[datetime]
) -> None:
    tasks = {"edited": {"timed": timed("0 9 * * *")}, "off": {"timed": timed(enabled=False)}, "gone": {}}[how]

    changes = reconcile(tasks, {"timed": row(timed(), NOON)}, end)

    found = [(closing.task_id, each.slot, each.verdict) for closing in changes.closings for each in closing.verdicts]
    assert found == [("timed", slot, "superseded") for slot in slots]


def test_a_schedule_that_goes_on_is_not_closed() -> None:
    task = timed()

    assert reconcile({task.id: task}, {task.id: row(task, NOON - timedelta(hours=3))}, NOON, clock_set_back=True).closings == []


def test_a_schedule_that_ended_long_ago_leaves_a_number() -> None:
    (closing,) = reconcile({}, {"timed": row(timed(), NOON - timedelta(days=30))}, NOON).closings

    assert len(closing.verdicts) == MAX_VERDICTS
    assert closing.skipped is not None
    assert (closing.skipped.count, closing.skipped.verdict) == (30 * 1440 + 1 - MAX_VERDICTS, "superseded")


def test_a_kept_schedule_that_nobody_can_read_here_ends_without_a_word() -> None:
    unreadable = ScheduleRow(task_id="timed", fingerprint="61 * * * * Mars/Olympus", next_fire=NOON)

    changes = reconcile({}, {"timed": unreadable}, NOON + MINUTE)

    assert (changes.drop, changes.closings) == (["timed"], [])


def test_a_schedule_without_another_slot_ends_without_a_word() -> None:
    changes = reconcile({}, {"timed": row(timed(), None)}, NOON)

    assert (changes.drop, changes.closings) == (["timed"], [])


def test_another_way_to_write_it_is_no_change() -> None:
    task = timed("  0   0 * *  * ")

    assert reconcile({task.id: task}, {task.id: row(timed("@daily"), NOON)}, NOON).put == []


@pytest.mark.parametrize("how", ["gone", "trigger off", "task off"])
def test_a_schedule_that_is_gone_or_off_is_forgotten(how: str) -> None:
    tasks = {"gone": {}, "trigger off": {"timed": timed(enabled=False)}, "task off": {"timed": off(timed())}}[how]

    changes = reconcile(tasks, {"timed": row(timed(), NOON)}, NOON)

    assert (changes.put, changes.drop) == ([], ["timed"])


def test_a_task_that_is_off_gets_no_schedule() -> None:
    assert reconcile({"timed": off(timed())}, {}, NOON).put == []


@pytest.mark.parametrize(("set_back", "changed"), [({"clock_set_back": True}, True), ({}, False)])
def test_a_slot_from_a_time_ahead_is_brought_back_when_the_clock_was(set_back: dict[str, bool], changed: bool) -> None:
    task = timed()
    kept = {task.id: row(task, NOON + timedelta(hours=2))}

    changes = reconcile({task.id: task}, kept, NOON, **set_back)

    assert changes.put == ([row(task, NOON + MINUTE)] if changed else [])


def test_a_schedule_that_cannot_be_read_here_stops_no_other() -> None:
    good, bad = timed(), replace(changed(timed(), "* * * * *", "61 * * * *"), id="bad")

    changes = reconcile({bad.id: bad, good.id: good}, {}, NOON)

    assert [put.task_id for put in changes.put] == [good.id]
    assert isinstance(changes.broken[bad.id], cron.CronError)
