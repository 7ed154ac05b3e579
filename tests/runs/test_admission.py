"""Which run starts now, and why each other one waits."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.runs.admission import Admission, Hold, decide
from optio.store.base import AdmissionView, Waiting

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)


def waiting(seq: int, task: str, limit: int = 2, *, delay: float = 0, queued: float = 0) -> Waiting:
    return Waiting(
        run_id=f"r{seq}",
        task_id=task,
        seq=seq,
        queued_at=NOW + timedelta(seconds=queued),
        not_before=NOW + timedelta(seconds=delay),
        max_concurrent=limit,
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[AdmissionView, int]:
    """What waits and runs, now and then over limits that were lowered meanwhile."""
    limits = draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 4), min_size=1))
    tasks = draw(st.lists(st.sampled_from(sorted(limits)), max_size=30))
    delays = draw(st.lists(st.sampled_from([0, 0, 0, -3600, 5]), min_size=len(tasks), max_size=len(tasks)))
    running = draw(st.dictionaries(st.sampled_from([*sorted(limits), "gone"]), st.integers(1, 5)))
    queue = [waiting(seq, task, limits[task], delay=delays[seq]) for seq, task in enumerate(tasks)]
    return AdmissionView(now=NOW, waiting=queue, running=running), draw(st.integers(1, 12))


def due(view: AdmissionView) -> list[Waiting]:
    return [each for each in view.waiting if each.not_before <= NOW]


def after(view: AdmissionView, admission: Admission) -> Counter[str]:
    """How many runs of each task are running after the starts."""
    tasks = {each.run_id: each.task_id for each in view.waiting}
    return Counter(view.running) + Counter(tasks[run_id] for run_id in admission.starts)


@given(situations())
def test_no_limit_is_ever_exceeded_by_a_start(situation: tuple[AdmissionView, int]) -> None:
    view, most = situation

    admission = decide(view, max_running=most)

    running = after(view, admission)
    limits = {each.task_id: each.max_concurrent for each in view.waiting}
    started = running - Counter(view.running)
    assert not admission.starts or running.total() <= most
    assert all(running[task] <= limits[task] for task in started)


@given(situations())
def test_a_slot_stays_free_only_when_nobody_may_use_it(situation: tuple[AdmissionView, int]) -> None:
    view, most = situation

    admission = decide(view, max_running=most)

    running = after(view, admission)
    left = [each for each in due(view) if each.run_id not in admission.starts]
    assert running.total() >= most or all(running[each.task_id] >= each.max_concurrent for each in left)


@given(situations())
def test_every_waiting_run_starts_or_has_the_reason_that_holds(situation: tuple[AdmissionView, int]) -> None:
    view, most = situation

    admission = decide(view, max_running=most)

    running = after(view, admission)
    assert sorted([*admission.starts, *admission.holds]) == sorted(each.run_id for each in view.waiting)
    for each in view.waiting:
        hold = admission.holds.get(each.run_id)
        if hold is None:
            continue
        if each.not_before > NOW:
            assert hold.reason == "delayed"
        elif running[each.task_id] >= each.max_concurrent:
            assert (hold.reason, str(each.max_concurrent) in hold.message) == ("task_limit", True)
        else:
            assert (hold.reason, running.total() >= most) == ("global_limit", True)


@given(situations())
def test_runs_of_one_task_start_in_their_order(situation: tuple[AdmissionView, int]) -> None:
    view, most = situation

    starts = decide(view, max_running=most).starts

    for task in {each.task_id for each in view.waiting}:
        order = [each.run_id for each in due(view) if each.task_id == task]
        started = [run_id for run_id in starts if run_id in order]
        assert started == order[: len(started)]


@given(situations())
def test_no_task_gets_a_slot_while_one_with_less_has_to_wait(situation: tuple[AdmissionView, int]) -> None:
    view, most = situation

    admission = decide(view, max_running=most)

    running, before = after(view, admission), Counter(view.running)
    held = {each.task_id for each in view.waiting if admission.holds.get(each.run_id, Hold("", "")).reason == "global_limit"}
    for lucky in running:
        if running[lucky] > before[lucky]:
            assert all(running[lucky] <= running[poor] + 1 for poor in held)


@given(situations(), st.randoms(use_true_random=False))
def test_the_same_situation_gives_the_same_decision_in_any_order(
    situation: tuple[AdmissionView, int], chance: random.Random
) -> None:
    view, most = situation
    tasks = list(view.running.items())
    chance.shuffle(tasks)

    assert decide(view, max_running=most) == decide(replace(view, running=dict(tasks)), max_running=most)


@given(situations())
def test_the_places_ahead_are_counted_without_gaps(situation: tuple[AdmissionView, int]) -> None:
    view, most = situation

    holds = decide(view, max_running=most).holds

    everywhere = sorted(hold.ahead for hold in holds.values() if hold.reason == "global_limit")
    assert everywhere == list(range(len(everywhere)))
    for task in {each.task_id for each in view.waiting}:
        mine = [holds[each.run_id] for each in due(view) if each.task_id == task and each.run_id in holds]
        if mine and mine[0].reason == "task_limit":
            assert [hold.ahead for hold in mine] == list(range(len(mine)))


def test_a_full_task_stands_in_nobodys_way() -> None:
    queue = [waiting(seq, "busy") for seq in range(5)] + [waiting(9, "idle")]

    admission = decide(AdmissionView(now=NOW, waiting=queue, running={"busy": 2}), max_running=5)

    assert admission.starts == ["r9"]
    assert admission.holds["r4"] == Hold("task_limit", "the task runs at most 2 at once", 4)


def test_slots_go_round_between_tasks_whoever_came_first() -> None:
    queue = [waiting(seq, "many", 9) for seq in range(10)] + [waiting(20, "few", 9), waiting(21, "few", 9)]

    admission = decide(AdmissionView(now=NOW, waiting=queue), max_running=4)

    assert admission.starts == ["r0", "r20", "r1", "r21"]
    assert admission.holds["r2"] == Hold("global_limit", "4 of 4 runs are running in all", 0)


def test_the_task_with_the_least_running_goes_first_even_if_it_came_later() -> None:
    queue = [waiting(1, "some", 9), waiting(2, "none", 9)]

    assert decide(AdmissionView(now=NOW, waiting=queue, running={"some": 1}), max_running=2).starts == ["r2"]


@pytest.mark.parametrize(("delay", "queued", "starts"), [(5, 0, []), (0, 0, ["r1"]), (0.000001, 0, []), (7205, 7200, ["r1"])])
def test_a_delay_is_kept_to_the_microsecond_unless_the_clock_was_set_back(
    delay: float, queued: float, starts: list[str]
) -> None:
    view = AdmissionView(now=NOW, waiting=[waiting(1, "a", delay=delay, queued=queued)])

    assert decide(view, max_running=5).starts == starts
