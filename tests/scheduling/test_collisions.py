"""Too many starts in one minute, and other minutes for some."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from optio.scheduling.calendar import TimedTask, fires_by_schedule
from optio.scheduling.collisions import Collisions, find_collisions
from optio.scheduling.cron import expand

AFTER = datetime(2026, 6, 1, tzinfo=UTC) - timedelta(seconds=1)
UNTIL = AFTER + timedelta(days=4)


def looked_at(timed: list[TimedTask], limit: int = 5) -> Collisions:
    return find_collisions(timed, fires_by_schedule(timed, AFTER, UNTIL), AFTER, UNTIL, limit)


def moved(timed: list[TimedTask], found: Collisions) -> list[TimedTask]:
    """The same tasks, each with the expression that it is told to write."""
    written = {move.task_id: move.new for move in found.moves}
    return [each._replace(expression=written.get(each.task_id, each.expression)) for each in timed]


def starts(timed: list[TimedTask]) -> Counter[datetime]:
    """By counting them one by one."""
    found = fires_by_schedule(timed, AFTER, UNTIL)
    return Counter(fire.at.astimezone(UTC) for each in timed for fire in found[each.key])


def midnight(number: int, prefix: str = "task") -> list[TimedTask]:
    return [TimedTask(f"{prefix}-{place}", "0 0 * * *", "UTC") for place in range(number)]


def test_what_may_start_at_once_is_no_herd() -> None:
    found = looked_at(midnight(5))

    assert (found.most, found.then, found.crowded, found.moves) == (5, 5, (), ())


def test_only_those_beyond_the_limit_are_asked_to_move_and_keep_their_hour() -> None:
    found = looked_at(midnight(8))

    assert (found.most, found.then, len(found.crowded), len(found.moves)) == (8, 5, 4, 3)
    for move in found.moves:
        minute, _, rest = move.new.partition(" ")
        assert (move.old, rest) == ("0 0 * * *", "0 * * *")
        assert 1 <= int(minute) <= 59


def test_the_same_is_proposed_whatever_the_order_of_the_tasks() -> None:
    assert looked_at(midnight(40)).moves == looked_at(midnight(40)[::-1]).moves


def test_one_more_task_changes_little() -> None:
    before = {move.task_id: move.new for move in looked_at(midnight(100)).moves}

    for place in range(20):
        after = {move.task_id: move.new for move in looked_at([*midnight(100), *midnight(1, f"new{place}")]).moves}
        assert sum(before.get(task_id) != after.get(task_id) for task_id in {*before, *after}) <= 3


def test_who_states_another_minute_or_many_is_never_asked() -> None:
    timed = [
        *midnight(7),
        *(TimedTask(f"step-{place}", "*/30 * * * *", "UTC") for place in range(3)),
        TimedTask("list", "0,30 0 * * *", "UTC"),
        TimedTask("other", "7 0 * * *", "UTC"),
    ]

    found = looked_at(timed)

    assert {move.task_id.partition("-")[0] for move in found.moves} == {"task"}
    assert (found.most, found.then) == (11, 5)


def test_a_word_becomes_five_fields() -> None:
    found = looked_at([TimedTask(f"daily-{place}", "@daily", "UTC") for place in range(6)])

    (move,) = found.moves
    assert move.old == "@daily"
    assert move.new.split()[1:] == ["0", "*", "*", "*"]


def test_who_fires_seldom_moves_before_who_fires_often() -> None:
    timed = [*(TimedTask(f"hourly-{place}", "0 * * * *", "UTC") for place in range(5)), *midnight(2)]

    assert {move.task_id for move in looked_at(timed).moves} == {"task-0", "task-1"}


def test_where_nothing_helps_nothing_is_proposed() -> None:
    assert looked_at([TimedTask(f"each-{place}", "* * * * *", "UTC") for place in range(7)]).moves == ()
    full = [TimedTask(f"each-{place}", "* * * * *", "UTC") for place in range(7)]
    assert looked_at([*full, TimedTask("one", "0 0 * * *", "UTC")]).moves == ()


def test_more_than_an_hour_can_hold_is_spread_evenly() -> None:
    found = looked_at(midnight(400))

    assert found.most == 400
    assert found.then <= 7


EXPRESSIONS = ["0 0 * * *", "@daily", "0 * * * *", "30 9 * * 1-5", "0 9 * * *", "*/15 * * * *", "0,30 0 * * *", "0 0 2 * *"]
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata"]
SCHEDULES = st.lists(st.tuples(st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES)), min_size=1, max_size=60)


@given(SCHEDULES, st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_a_spread_lowers_the_most_and_changes_nothing_but_minutes(schedules: list[tuple[str, str]], limit: int) -> None:
    timed = [TimedTask(f"t{place}", *each) for place, each in enumerate(schedules)]

    found = looked_at(timed, limit)
    then = moved(timed, found)

    before, after = starts(timed), starts(then)
    assert (found.most, found.then) == (max(before.values(), default=0), max(after.values(), default=0))
    assert found.crowded == tuple(sorted((at, number) for at, number in before.items() if number > limit))
    assert found.then <= found.most
    states_one = {each.task_id for each in timed if expand(each.expression).split()[0].isdigit()}
    moments = {
        fire.at for each in timed if each.task_id in states_one for fire in fires_by_schedule([each], AFTER, UNTIL)[each.key]
    }
    fullest = {at for at, number in before.items() if number == found.most}
    # Sixty tasks leave a minute of the hour to whoever would not be alone in it anyway.
    if found.most > max(limit, 2) and fullest <= moments:
        assert found.then < found.most
    assert {move.task_id for move in found.moves} <= states_one
    assert sum(before.values()) == sum(after.values())
    for old, new in zip(timed, then, strict=True):
        assert expand(old.expression).split()[1:] == expand(new.expression).split()[1:]
