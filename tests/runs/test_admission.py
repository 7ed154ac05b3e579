"""Which run starts now, and why each other one waits."""

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.room import MIN_TRY_INTERVAL, Shortage
from optio.runs.admission import Admission, Hold, decide, hold_of, hold_of_new, starts
from optio.store.values import AdmissionView, Pause, QueuedRun, Quota, RunningRun

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def waiting(
    seq: int, task: str, limit: int = 2, *, delay: float = 0, queued: float = 0, priority: int = 0, key: str | None = None
) -> QueuedRun:
    return QueuedRun(
        run_id=f"r{seq}",
        task_id=task,
        seq=seq,
        queued_at=NOW + timedelta(seconds=queued),
        not_before=NOW + timedelta(seconds=delay),
        max_concurrent=limit,
        priority=priority,
        dedupe_key=key,
    )


def view(queue: list[QueuedRun], running: dict[str, int] | None = None, **more: object) -> AdmissionView:
    """With as many running runs of each task; `a-0`, `a-1` and so on, the first of them with the key `K`."""
    running = running or {}
    occupants = [
        RunningRun(run_id=f"{task}-{place}", task_id=task, dedupe_key=None if place else "K")
        for task, count in running.items()
        for place in range(count)
    ]
    return AdmissionView(now=NOW, waiting=queue, running=running, occupants=occupants, **more)  # type: ignore[arg-type]


def pause(task: str, reason: str = "") -> dict[str, Pause]:
    return {task: Pause(task_id=task, reason=reason, actor="ann", at=NOW - HOUR)}


def quota(count: int, *minutes_ago: float, window: timedelta = HOUR) -> Quota:
    made = [(NOW - minutes * MINUTE, f"s{place}") for place, minutes in enumerate(minutes_ago)]
    return Quota(count=count, window=window, used=len(made), starts=made)


def short(task: str, chance: random.Random) -> Shortage:
    """A task without room: found some time ago, to be tried again soon or now, or with some that have begun since."""
    ago = chance.choice([1, 5, 30, 60])
    return Shortage(
        task_id=task,
        place="here",
        reason="quota",
        message="the quota is full",
        since=NOW - HOUR,
        at=NOW - timedelta(seconds=ago),
        due=NOW + timedelta(seconds=chance.choice([-9, -1, 0, 10])),
        begun=chance.choice([0, 0, 0, 1, 2, 3]),
        starting=chance.choice([0, 0, 0, 1, 2]),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[AdmissionView, int]:
    """What waits and runs, now and then over limits that were lowered meanwhile. Evenly spread: rare are only rare holds."""
    chance = draw(st.randoms(use_true_random=False))
    names = "abcd"[: chance.randint(2, 4)]
    limits = {task: chance.randint(1, 8) for task in names}
    priorities = {task: chance.choice([0, 0, 0, 1, -1]) for task in names}
    queue = [
        waiting(
            seq,
            task := chance.choice(names),
            limits[task],
            delay=chance.choice([0, 0, 0, 0, 0, 0, -3600, 5]),
            priority=priorities[task],
            key=chance.choice([*[None] * 8, "K", "L"]),
        )
        for seq in range(chance.randint(2, 24))
    ]
    running = {task: chance.randint(1, 4) for task in (*names, "gone") if chance.random() < 0.3}
    quotas = {
        task: quota(chance.randint(1, 4), *range(chance.randint(0, 4), 0, -1)) for task in names if chance.random() < 0.15
    }
    shortages = [short(task, chance) for task in names if chance.random() < 0.25]
    pauses = pause(chance.choice([*names, *["none"] * 12]))
    return view(queue, running, quotas=quotas, pauses=pauses, shortages=shortages), sum(running.values()) + chance.choice(
        [-1, 0, 1, 2, 3, 4, 5, 7, 10]
    )


def after(seen: AdmissionView, admission: Admission) -> Counter[str]:
    """How many runs of each task are running after the starts."""
    tasks = {each.run_id: each.task_id for each in seen.waiting}
    return Counter(seen.running) + Counter(tasks[run_id] for run_id in admission.starts)


def left(seen: AdmissionView, admission: Admission, task: str) -> int:
    """How many more starts the task's start limit allows after these."""
    limit = seen.quotas.get(task)
    if limit is None:
        return 10**6
    return limit.count - limit.used - sum(each.task_id == task for each in seen.waiting if each.run_id in admission.starts)


def active_keys(seen: AdmissionView, admission: Admission) -> list[tuple[str, str]]:
    """The business keys of what runs after the starts."""
    running = [(each.task_id, each.dedupe_key) for each in seen.occupants]
    started = [(each.task_id, each.dedupe_key) for each in seen.waiting if each.run_id in admission.starts]
    return [(task, key) for task, key in [*running, *started] if key is not None]


def could_start(seen: AdmissionView, admission: Admission, each: QueuedRun) -> bool:
    """Whether nothing but the limit over all tasks holds it after the starts."""
    return (
        each.task_id not in seen.pauses
        and each.not_before <= NOW
        and (each.task_id, each.dedupe_key) not in active_keys(seen, admission)
        and after(seen, admission)[each.task_id] < each.max_concurrent
        and left(seen, admission, each.task_id) > 0
        and has_room(seen, admission, each.task_id)
    )


def has_room(seen: AdmissionView, admission: Admission, task: str) -> bool:
    """Whether one more run of the task may start, as far as room goes."""
    tasks = {each.run_id: each.task_id for each in seen.waiting}
    started = Counter(tasks[run_id] for run_id in admission.starts)
    shortages = {each.task_id: each for each in seen.shortages}
    if task not in shortages:
        return True
    if shortages[task].begun:
        return started[task] + shortages[task].starting < shortages[task].at_once
    trials = [each for each in shortages.values() if not each.begun]
    lately = any(NOW - each.at < MIN_TRY_INTERVAL for each in trials)
    tries = sum(each.starting + started[each.task_id] for each in trials)
    sooner = [
        each
        for each in trials
        if (each.due, each.task_id) < (shortages[task].due, task) and each.task_id in {run.task_id for run in seen.waiting}
    ]
    return shortages[task].due <= NOW and not lately and not tries and not sooner


@given(situations())
def test_no_limit_is_ever_exceeded_by_a_start(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    admission = decide(seen, max_running=most)

    running = after(seen, admission)
    limits = {each.task_id: each.max_concurrent for each in seen.waiting}
    started = running - Counter(seen.running)
    assert not admission.starts or running.total() <= most
    assert all(running[task] <= limits[task] for task in started)
    assert all(left(seen, admission, task) >= 0 for task in started)


@given(situations())
def test_nothing_starts_that_is_paused_or_delayed_or_goes_on_already(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    admission = decide(seen, max_running=most)

    started = [each for each in seen.waiting if each.run_id in admission.starts]
    assert not any(each.task_id in seen.pauses or each.not_before > NOW for each in started)
    keys = active_keys(seen, admission)
    assert len(keys) == len(set(keys))


@given(situations())
def test_a_slot_stays_free_only_when_nobody_may_use_it(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    admission = decide(seen, max_running=most)

    running = after(seen, admission)
    others = [each for each in seen.waiting if each.run_id not in admission.starts]
    assert running.total() >= most or not any(could_start(seen, admission, each) for each in others)


@given(situations())
def test_every_waiting_run_starts_or_has_the_one_reason_that_holds(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    admission = decide(seen, max_running=most)

    running, keys = after(seen, admission), active_keys(seen, admission)
    assert sorted([*admission.starts, *admission.holds]) == sorted(each.run_id for each in seen.waiting)
    for each in seen.waiting:
        hold = admission.holds.get(each.run_id)
        if hold is None:
            continue
        if each.task_id in seen.pauses:
            assert hold.reason == "paused"
        elif each.not_before > NOW:
            assert (hold.reason, hold.earliest) == ("delayed", each.not_before)
        elif (each.task_id, each.dedupe_key) in keys:
            assert hold.reason == "same_key"
        elif left(seen, admission, each.task_id) <= 0:
            assert (hold.reason, str(seen.quotas[each.task_id].count) in str(hold.rule)) == ("start_limit", True)
        elif running[each.task_id] >= each.max_concurrent:
            assert (hold.reason, hold.rule) == ("task_limit", f"maxConcurrent: {each.max_concurrent}")
        elif hold.reason == "no_room":
            assert each.task_id in {shortage.task_id for shortage in seen.shortages}
        else:
            assert hold.reason in ("global_limit", "priority")
            assert running.total() >= most


@given(situations())
def test_priority_is_the_reason_where_only_higher_ones_go_first(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    holds = decide(seen, max_running=most).holds

    line = sorted(
        (each for each in seen.waiting if holds.get(each.run_id, Hold("", "")).reason in ("global_limit", "priority")),
        key=lambda each: holds[each.run_id].ahead,
    )
    assert [holds[each.run_id].ahead for each in line] == list(range(len(line)))
    assert [each.priority for each in line] == sorted((each.priority for each in line), reverse=True)
    for place, each in enumerate(line):
        only_higher = place > 0 and all(other.priority > each.priority for other in line[:place])
        assert (holds[each.run_id].reason == "priority") == only_higher


@given(situations())
def test_nothing_starts_while_something_of_a_higher_priority_could(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    admission = decide(seen, max_running=most)

    priorities = {each.run_id: each.priority for each in seen.waiting}
    started = [priorities[run_id] for run_id in admission.starts]
    assert started == sorted(started, reverse=True)
    held = [each.priority for each in seen.waiting if each.run_id in admission.holds and could_start(seen, admission, each)]
    assert not started or not held or min(started) >= max(held)


@given(situations())
def test_runs_of_one_task_start_in_their_order(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    admission = decide(seen, max_running=most)

    for task in {each.task_id for each in seen.waiting}:
        same = [run_id for run_id, hold in admission.holds.items() if hold.reason == "same_key"]
        queue = [each for each in seen.waiting if each.task_id == task and each.not_before <= NOW and each.run_id not in same]
        order = [each.run_id for each in queue]
        started = [run_id for run_id in admission.starts if run_id in order]
        assert started == order[: len(started)]


@given(situations())
def test_no_task_gets_a_slot_while_one_with_less_has_to_wait(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    admission = decide(seen, max_running=most)

    running, before = after(seen, admission), Counter(seen.running)
    priorities = {each.task_id: each.priority for each in seen.waiting}
    held = {
        each.task_id
        for each in seen.waiting
        if admission.holds.get(each.run_id, Hold("", "")).reason in ("global_limit", "priority")
    }
    for lucky in running:
        if running[lucky] > before[lucky]:
            poor = [task for task in held if priorities[task] == priorities[lucky]]
            assert all(running[lucky] <= running[task] + 1 for task in poor)


@given(situations(), st.randoms(use_true_random=False))
def test_the_same_situation_gives_the_same_decision_in_any_order(
    situation: tuple[AdmissionView, int], chance: random.Random
) -> None:
    seen, most = situation
    tasks = list(seen.running.items())
    chance.shuffle(tasks)

    assert decide(seen, max_running=most) == decide(replace(seen, running=dict(tasks)), max_running=most)
    assert starts(seen, max_running=most) == decide(seen, max_running=most).starts


@given(situations(), st.integers(1, 4))
def test_looks_at_the_heads_of_the_queues_come_to_what_a_look_at_all_comes_to(
    situation: tuple[AdmissionView, int], heads: int
) -> None:
    """As a claim looks: a few runs of each task, and again while something started."""
    whole, most = situation
    wanted = starts(whole, max_running=most)

    started: list[str] = []
    while True:
        seen = _heads(whole, started, heads)
        new = starts(seen, max_running=most)
        started += new
        if not new:
            break

    assert started == wanted


def _heads(whole: AdmissionView, started: list[str], heads: int) -> AdmissionView:
    """What a store shows to a claim that has started these."""
    admission = Admission(starts=started)
    keys = active_keys(whole, admission)
    queue: list[QueuedRun] = []
    for task in {each.task_id for each in whole.waiting} - set(whole.pauses):
        due = [
            each
            for each in whole.waiting
            if each.task_id == task
            and each.run_id not in started
            and each.not_before <= NOW
            and (task, each.dedupe_key) not in keys
        ]
        queue += due[:heads]
    quotas = {
        task: replace(limit, used=limit.count - left(whole, admission, task), starts=()) for task, limit in whole.quotas.items()
    }
    tasks = {each.run_id: each.task_id for each in whole.waiting}
    begun = Counter(tasks[run_id] for run_id in started)
    shortages = [replace(each, starting=each.starting + begun[each.task_id]) for each in whole.shortages]
    running = after(whole, admission)
    return AdmissionView(now=NOW, waiting=queue, running=running, quotas=quotas, shortages=shortages, heads=heads)


@given(situations())
def test_the_places_ahead_are_counted_without_gaps(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    holds = decide(seen, max_running=most).holds

    for task in {each.task_id for each in seen.waiting}:
        for reason in ("paused", "start_limit", "task_limit"):
            mine = [holds[each.run_id] for each in seen.waiting if each.task_id == task and each.run_id in holds]
            held = [hold for hold in mine if hold.reason == reason]
            assert [hold.ahead for hold in held] == list(range(len(held)))
            assert [hold.position for hold in held] == list(range(1, len(held) + 1))


def test_a_queue_of_equal_keys_that_ends_leaves_the_other_slots_to_lower_priorities() -> None:
    queue = [waiting(1, "a", priority=1, key="X"), waiting(2, "a", priority=1, key="X"), waiting(3, "b")]

    admission = decide(view(queue), max_running=9)

    assert admission.starts == ["r1", "r3"]
    assert {run_id: hold.reason for run_id, hold in admission.holds.items()} == {"r2": "same_key"}


def test_a_claim_ends_where_a_task_may_have_more_runs_than_it_was_shown() -> None:
    """A store shows as many runs of a task as its own limit leaves: behind two of one key there may be a third."""
    queue = [waiting(1, "a", priority=1, key="X"), waiting(2, "a", priority=1, key="X"), waiting(3, "b")]

    assert starts(view(queue, heads=4), max_running=9) == ["r1"]


def test_behind_the_total_limit_the_tasks_take_turns_too() -> None:
    queue = [*(waiting(seq, "many", 9) for seq in range(4)), *(waiting(seq, "few", 9) for seq in range(4, 7))]

    holds = decide(view(queue, {"few": 1, "other": 2}), max_running=3).holds

    assert {hold.reason for hold in holds.values()} == {"global_limit"}
    # The task with the fewest runs comes first, as if each run of the line had started: 0, 1 and 1, 2 and 2, 3 and 3.
    assert sorted(holds, key=lambda run_id: holds[run_id].ahead) == ["r0", "r1", "r4", "r2", "r5", "r3", "r6"]


def test_a_full_task_stands_in_nobodys_way() -> None:
    queue = [waiting(seq, "busy") for seq in range(5)] + [waiting(9, "idle")]

    admission = decide(view(queue, {"busy": 2}), max_running=5)

    assert admission.starts == ["r9"]
    message = "the task runs at most 2 at once"
    assert admission.holds["r4"] == Hold("task_limit", message, 4, "maxConcurrent: 2", ("busy-0", "busy-1"))


def test_slots_go_round_between_tasks_whoever_came_first() -> None:
    queue = [waiting(seq, "many", 9) for seq in range(10)] + [waiting(20, "few", 9), waiting(21, "few", 9)]

    admission = decide(view(queue), max_running=4)

    assert admission.starts == ["r0", "r20", "r1", "r21"]
    rule, message = "OPTIO_MAX_WORKFLOW_CONCURRENT=4", "4 of 4 runs are running in all"
    assert admission.holds["r2"] == Hold("global_limit", message, 0, rule, ("r0", "r20", "r1", "r21"))


def test_the_task_with_the_least_running_goes_first_even_if_it_came_later() -> None:
    queue = [waiting(1, "some", 9), waiting(2, "none", 9)]

    assert decide(view(queue, {"some": 1}), max_running=2).starts == ["r2"]


def test_a_higher_priority_goes_first_however_much_of_it_runs_and_however_late_it_came() -> None:
    queue = [waiting(1, "low", 9), waiting(2, "low", 9), *(waiting(seq, "high", 9, priority=1) for seq in range(3, 8))]

    admission = decide(view(queue, {"high": 2}), max_running=5)

    assert admission.starts == ["r3", "r4", "r5"]
    holds = admission.holds
    assert [(holds[run].reason, holds[run].position) for run in ("r6", "r7", "r1", "r2")] == [
        ("global_limit", 1),
        ("global_limit", 2),
        ("priority", 3),
        ("global_limit", 4),
    ]
    assert (holds["r1"].rule, holds["r1"].message) == (
        "priority: 0",
        "2 runs of a higher priority go first; 5 of 5 runs are running in all",
    )
    behind_one = decide(view(queue[:1] + queue[2:3], {"other": 1}), max_running=1).holds["r1"]
    assert behind_one.message == "1 run of a higher priority goes first; 1 of 1 runs are running in all"


def test_a_task_that_cannot_start_gives_way_to_lower_priorities() -> None:
    queue = [
        waiting(1, "full", 1, priority=9),
        waiting(2, "paused", priority=9),
        waiting(3, "spent", priority=9),
        waiting(4, "low"),
    ]
    limits = {"spent": quota(1, 10)}

    admission = decide(view(queue, {"full": 1}, pauses=pause("paused"), quotas=limits), max_running=9)

    assert admission.starts == ["r4"]
    assert [admission.holds[f"r{n}"].reason for n in (1, 2, 3)] == ["task_limit", "paused", "start_limit"]


def test_a_paused_task_says_who_paused_it_since_when_and_why() -> None:
    queue = [waiting(1, "a"), waiting(2, "a", delay=60)]

    holds = decide(view(queue, pauses=pause("a", "the API is down")), max_running=5).holds

    message = "the task is paused by ann since 2026-01-05T07:00:00+00:00: the API is down"
    assert holds == {"r1": Hold("paused", message, 0), "r2": Hold("paused", message, 1)}
    assert decide(view(queue, pauses=pause("a")), max_running=5).holds["r1"].message.endswith("07:00:00+00:00")


def test_a_start_limit_says_when_each_that_waits_can_start_at_the_earliest() -> None:
    queue = [waiting(seq, "a", 9) for seq in range(6)]

    admission = decide(view(queue, quotas={"a": quota(3, 50, 20)}), max_running=9)

    assert admission.starts == ["r0"]
    openings = [admission.holds[f"r{seq}"].earliest for seq in range(1, 6)]
    first, second, now = NOW - 50 * MINUTE, NOW - 20 * MINUTE, NOW
    assert openings == [first + HOUR, second + HOUR, now + HOUR, first + 2 * HOUR, second + 2 * HOUR]
    hold = admission.holds["r1"]
    assert (hold.message, hold.rule) == ("3 of 3 starts in 1h are used", "startLimit: {count: 3, per: 1h}")
    assert hold.occupied_by == ("s0", "s1", "r0")


def test_a_start_limit_that_was_lowered_opens_when_enough_starts_are_past() -> None:
    queue = [waiting(1, "a"), waiting(2, "a")]

    holds = decide(view(queue, quotas={"a": quota(1, 40, 30, 20)}), max_running=9).holds

    assert [holds[run].earliest for run in ("r1", "r2")] == [NOW + 40 * MINUTE, NOW + 100 * MINUTE]
    assert holds["r1"].message == "3 of 1 starts in 1h are used"


def test_a_run_waits_for_the_one_with_its_key_and_lets_others_pass() -> None:
    queue = [waiting(1, "a", 9, key="K"), waiting(2, "a", 9, key="L"), waiting(3, "a", 9, key="L"), waiting(4, "b", 9, key="K")]

    admission = decide(view(queue, {"a": 1}), max_running=9)

    assert admission.starts == ["r4", "r2"]
    same = "run {} has the same key and is still running"
    assert admission.holds == {
        "r1": Hold("same_key", same.format("a-0"), rule="dedupe: {key: K}", occupied_by=("a-0",)),
        "r3": Hold("same_key", same.format("r2"), rule="dedupe: {key: L}", occupied_by=("r2",)),
    }
    assert admission.holds["r1"].position is None


@pytest.mark.parametrize(("delay", "queued", "starting"), [(5, 0, []), (0, 0, ["r1"]), (0.000001, 0, []), (7205, 7200, ["r1"])])
def test_a_delay_is_kept_to_the_microsecond_unless_the_clock_was_set_back(
    delay: float, queued: float, starting: list[str]
) -> None:
    admission = decide(view([waiting(1, "a", delay=delay, queued=queued)]), max_running=5)

    assert admission.starts == starting
    assert all(hold.position is None and hold.earliest is not None for hold in admission.holds.values())


@given(situations())
def test_of_the_tasks_without_room_one_run_tries_and_the_one_whose_turn_it_is(situation: tuple[AdmissionView, int]) -> None:
    seen, most = situation

    admission = decide(seen, max_running=most)

    tasks = {each.run_id: each.task_id for each in seen.waiting}
    started = Counter(tasks[run_id] for run_id in admission.starts)
    trials = {each.task_id: each for each in seen.shortages if not each.begun}
    tried = [task for task in started if task in trials]
    assert sum(started[task] for task in tried) + sum(each.starting for each in trials.values()) <= 1 or not tried
    assert all(trials[task].due <= NOW and started[task] == 1 for task in tried)
    for each in seen.shortages:
        assert not each.begun or started[each.task_id] <= max(0, each.at_once - each.starting)


@given(situations())
def test_a_task_without_room_holds_up_nobody_else(situation: tuple[AdmissionView, int]) -> None:
    seen, _ = situation
    short_of_room = {each.task_id for each in seen.shortages}
    others = replace(seen, waiting=[each for each in seen.waiting if each.task_id not in short_of_room], shortages=())

    admission, alone = decide(seen, max_running=10**6), decide(others, max_running=10**6)

    tasks = {each.run_id: each.task_id for each in seen.waiting}
    assert {run_id for run_id in admission.starts if tasks[run_id] not in short_of_room} == set(alone.starts)


@pytest.mark.parametrize(("ago", "started"), [(timedelta(), []), (MIN_TRY_INTERVAL / 2, []), (MIN_TRY_INTERVAL, ["r2"])])
def test_a_try_without_room_holds_back_the_tries_of_other_tasks_for_a_moment(ago: timedelta, started: list[str]) -> None:
    def full(task: str, at: datetime, due: datetime) -> Shortage:
        return Shortage(task_id=task, place="here", reason="quota", message="full", since=NOW - HOUR, at=at, due=due)

    shortages = [full("a", NOW - ago, NOW + MINUTE), full("b", NOW - MINUTE, NOW - MINUTE)]
    queue = [waiting(1, "a"), waiting(2, "b")]

    assert starts(view(queue, shortages=shortages), max_running=9) == started


def test_a_task_whose_runs_wait_for_their_key_takes_no_turn_to_try_for_room() -> None:
    earlier, later = (
        Shortage(task_id=task, place="here", reason="quota", message="full", since=NOW - HOUR, at=NOW - MINUTE, due=NOW - due)
        for task, due in (("a", 2 * MINUTE), ("b", MINUTE))
    )
    queue = [waiting(1, "a", key="K"), waiting(2, "b")]

    assert starts(view(queue, {"a": 1}, shortages=[earlier, later]), max_running=9) == ["r2"]
    assert starts(view(queue, shortages=[earlier, later]), max_running=9) == ["r1"]


def test_why_a_run_waits_for_room_says_what_is_full_and_when_the_next_try_is() -> None:
    shortage = Shortage(
        task_id="a", place="here", reason="quota", message="the quota is full", since=NOW, at=NOW - MINUTE, due=NOW + MINUTE
    )
    queue = [waiting(1, "a"), waiting(2, "a"), waiting(3, "b")]

    admission = decide(view(queue, shortages=[shortage]), max_running=9)

    assert admission.starts == ["r3"]
    first, second = admission.holds["r1"], admission.holds["r2"]
    assert (first.reason, first.position, first.earliest) == ("no_room", 1, NOW + MINUTE)
    assert first.message == "the quota is full; the next try is due at 2026-01-05T08:01:00+00:00"
    assert (second.reason, second.position, second.earliest) == ("no_room", 2, None)

    trying = replace(shortage, starting=1)
    assert "tries now" in decide(view(queue, shortages=[trying]), max_running=9).holds["r1"].message


def test_tasks_without_room_take_turns_and_none_waits_for_ever() -> None:
    names = [f"t{n}" for n in range(5)]
    at = dict.fromkeys(names, NOW - MINUTE)
    due = dict.fromkeys(names, NOW)
    tried: Counter[str] = Counter()
    for step in range(200):
        now = NOW + timedelta(seconds=5 * step)
        shortages = [
            Shortage(task_id=name, place="", reason="r", message="", since=NOW, at=at[name], due=due[name]) for name in names
        ]
        seen = replace(view([waiting(n, name) for n, name in enumerate(names)], shortages=shortages), now=now)
        for run_id in starts(seen, max_running=9):
            name = names[int(run_id[1:])]
            tried[name] += 1
            at[name], due[name] = now, now + MINUTE

    assert min(tried.values()) >= 15


# Namespaces

TEAMS = {"a": "runs-a", "a2": "runs-a", "b": "runs-b"}


def test_a_run_that_no_worker_takes_says_so_and_how_to_mend_it() -> None:
    queue = [waiting(1, "a"), waiting(2, "b"), waiting(3, "c"), waiting(4, "a2")]

    admission = decide(view(queue, namespaces=TEAMS, served={"runs-b", ""}), max_running=9)

    assert sorted(admission.starts) == ["r2", "r3"]
    assert admission.holds["r4"].position == 2
    hold = admission.holds["r1"]
    assert (hold.reason, hold.position) == ("no_worker", 1)
    assert hold.message == ("no worker takes runs of the namespace `runs-a`: start one with OPTIO_TEAM_NAMESPACE=runs-a")


def test_a_task_without_a_namespace_may_have_no_worker_either() -> None:
    holds = decide(view([waiting(1, "c")], served={"runs-a"}), max_running=9).holds

    assert (holds["r1"].reason, "without OPTIO_TEAM_NAMESPACE" in holds["r1"].message) == ("no_worker", True)


def test_where_no_worker_is_known_only_tasks_with_a_namespace_are_said_to_have_none() -> None:
    admission = decide(view([waiting(1, "a"), waiting(2, "c")], namespaces=TEAMS, served=()), max_running=9)

    assert (admission.starts, list(admission.holds)) == (["r2"], ["r1"])


def test_a_run_that_could_start_waits_for_a_worker_where_none_is_known() -> None:
    def held(served: Collection[str] | None, most: int = 9) -> tuple[str, int | None] | None:
        hold = hold_of("r1", view([waiting(1, "c")], {"other": 1}, served=served), max_running=most)
        return None if hold is None else (hold.reason, hold.position)

    assert [held(()), held({""}), held(None), held((), most=1)] == [("no_worker", 1), None, None, ("global_limit", 1)]


def test_a_run_that_is_not_queued_yet_is_told_what_would_hold_it_in_its_own_namespace() -> None:
    seen = view([waiting(1, "c")], {"c": 1}, namespaces=TEAMS, served={"runs-b", ""})

    def held(task: str, namespace: str) -> tuple[str, int | None] | None:
        hold = hold_of_new(waiting(9, task), namespace, seen, max_running=1)
        return None if hold is None else (hold.reason, hold.position)

    assert (held("c", ""), held("new", "")) == (("global_limit", 2), ("global_limit", 1))
    assert (held("new", "runs-a"), held("new", "runs-b")) == (("no_worker", 1), None)


def test_a_pause_comes_before_a_missing_worker() -> None:
    seen = view([waiting(1, "a"), waiting(2, "a2")], namespaces=TEAMS, served={""}, pauses=pause("a"))

    holds = decide(seen, max_running=9).holds

    assert (holds["r1"].reason, holds["r2"].reason) == ("paused", "no_worker")


def test_each_namespace_has_a_line_and_the_limit_of_its_own() -> None:
    queue = [waiting(1, "a"), waiting(2, "a2"), waiting(3, "b"), waiting(4, "c")]
    seen = view(queue, {"a": 1, "b": 1}, namespaces=TEAMS, served={"runs-a", "runs-b", ""})

    admission = decide(seen, max_running=1)

    assert admission.starts == ["r4"]
    assert {run: (hold.position, hold.message) for run, hold in admission.holds.items()} == {
        "r1": (2, "1 of 1 runs are running in the namespace runs-a"),
        "r2": (1, "1 of 1 runs are running in the namespace runs-a"),
        "r3": (1, "1 of 1 runs are running in the namespace runs-b"),
    }
    assert admission.holds["r3"].occupied_by == ("b-0",)


def test_where_a_worker_takes_the_runs_of_all_there_is_one_line() -> None:
    seen = view([waiting(1, "a"), waiting(2, "c")], {"b": 1}, namespaces=TEAMS, served=None)

    holds = decide(seen, max_running=1).holds

    assert {run: hold.message for run, hold in holds.items()} == dict.fromkeys(("r1", "r2"), "1 of 1 runs are running in all")
