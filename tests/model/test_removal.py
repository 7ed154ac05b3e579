"""The teardown guard: which removals go, which are held, and that no sequence of looks removes more than the limit."""

from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.registry import CompiledTask, Origin
from optio.model.removal import REMOVAL_WINDOW_S, RemovalDecision, RemovedTask, decide_removals, find_removed
from optio.model.removal_limit import RemovalLimit
from tests.support import command_task

JOB = command_task(["/bin/true"])


def task(task_id: str, path: str | None = None) -> CompiledTask:
    return CompiledTask(id=task_id, spec=JOB.spec, prompt=JOB.prompt, origin=Origin(path=path or f"{task_id}.yaml", line=1))


def tasks(*ids: str) -> dict[str, CompiledTask]:
    return {task_id: task(task_id) for task_id in ids}


def numbered(count: int, start: int = 0) -> dict[str, CompiledTask]:
    return tasks(*(f"t{number}" for number in range(start, count)))


def judge(
    served: Mapping[str, CompiledTask],
    compiled: Mapping[str, CompiledTask],
    *,
    limit: str = "50%",
    now: float = 0.0,
    recent: Mapping[str, RemovedTask] | None = None,
    held: Collection[str] = (),
    released: Collection[str] = (),
) -> RemovalDecision:
    return decide_removals(
        served, compiled, limit=RemovalLimit.parse(limit), now=now, recent=recent or {}, held_ids=held, released=released
    )


@pytest.mark.parametrize(
    ("limit", "removed", "total", "allowed"),
    [
        ("50%", 0, 0, True), ("50%", 1, 1, True), ("50%", 2, 2, False), ("50%", 2, 3, True), ("50%", 3, 3, False),
        ("50%", 3, 4, False), ("50%", 2, 4, True), ("50%", 15, 30, True), ("50%", 16, 30, False), ("50%", 12, 30, True),
        ("100%", 30, 30, True), ("1%", 2, 30, True), ("1%", 3, 30, False), ("1%", 3, 300, True), ("99%", 30, 30, False),
        ("5", 5, 5, True), ("5", 6, 1000, False), ("0", 1, 1, False), ("0", 0, 9, True), ("1", 2, 2, False),
    ],
)  # fmt: skip
def test_how_many_may_go(limit: str, removed: int, total: int, allowed: bool) -> None:
    assert RemovalLimit.parse(limit).allows(removed, total) is allowed


@pytest.mark.parametrize("text", ["0%", "101%", "", "half", "-1", "5.5%", "50 %", "٣", "1000000000000"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a share from"):
        RemovalLimit.parse(text)


@pytest.mark.parametrize("text", ["50%", "1%", "0", "20"])
def test_a_limit_is_shown_as_it_is_written(text: str) -> None:
    assert str(RemovalLimit.parse(text)) == text


def test_a_task_that_moved_to_another_file_is_not_removed() -> None:
    assert find_removed(tasks("a"), {"a": task("a", "elsewhere.yaml")}) == {}


def test_a_task_whose_file_gives_a_new_task_was_renamed_in_place() -> None:
    assert find_removed({"a": task("a", "x.yaml")}, {"b": task("b", "x.yaml")}) == {}


def test_a_task_whose_file_gives_a_task_that_was_there_before_is_removed() -> None:
    before = {"a": task("a", "x.yaml"), "b": task("b", "y.yaml")}

    assert find_removed(before, {"b": task("b", "x.yaml")}).keys() == {"a"}


def test_another_tree_in_the_place_of_this_one_is_held() -> None:
    other = {f"o{number}": task(f"o{number}") for number in range(30)}

    verdict = judge(numbered(30), other)

    assert (len(verdict.held), verdict.total) == (30, 30)


def test_what_went_within_the_window_is_held_with_the_rest() -> None:
    first = judge(numbered(30), numbered(30, 14), now=0)
    assert (first.held, len(first.recent)) == ({}, 14)

    second = judge(numbered(30, 14), numbered(30, 24), now=REMOVAL_WINDOW_S - 1, recent=first.recent)

    assert second.held.keys() == numbered(24).keys()
    assert second.total == 30
    assert second.recent == {}


def test_what_went_before_the_window_counts_no_more() -> None:
    first = judge(numbered(30), numbered(30, 14), now=0)

    second = judge(numbered(30, 14), numbered(30, 22), now=REMOVAL_WINDOW_S, recent=first.recent)

    assert second.held == {}
    assert second.recent.keys() == numbered(22, 14).keys()


def test_a_task_leaves_the_window_a_minute_after_it_went_however_often_the_tree_is_looked_at() -> None:
    recent = judge(numbered(30), numbered(30, 14), now=0).recent
    for now in (20, 40, 59):
        recent = judge(numbered(30, 14), numbered(30, 14), now=now, recent=recent).recent

    assert judge(numbered(30, 14), numbered(30, 22), now=61, recent=recent).held == {}


def test_a_release_lets_exactly_those_tasks_go_which_count_no_more() -> None:
    held = judge(numbered(30), {}).held

    assert judge(numbered(30), {}, held=held.keys(), released=held.keys()).held == {}
    rest = judge(numbered(30), {}, held=held.keys(), released=numbered(29).keys())
    assert rest.held.keys() == {"t29"}


def test_a_task_that_is_held_stays_held_though_the_tree_grows_and_others_come_back() -> None:
    held = judge(numbered(30), {}).held
    many = {f"o{number}": task(f"o{number}") for number in range(300)}

    assert judge({**held, **many}, many, held=held.keys()).held.keys() == held.keys()
    assert judge(held, numbered(29), held=held.keys()).held.keys() == {"t29"}
    assert judge(held, numbered(30), held=held.keys()).held == {}


LIMITS = st.sampled_from(["50%", "30%", "80%", "5", "0"])
STEPS = st.lists(
    st.tuples(
        st.sets(st.integers(0, 19)),  # files that go
        st.sets(st.integers(0, 19)),  # files that come
        st.sampled_from([0.1, 1.0, 10.0, 30.0, 61.0]),  # until the next look
        st.booleans(),  # whether everything that is held then is released
    ),
    max_size=25,
)


@given(limit=LIMITS, steps=STEPS)
def test_never_more_than_the_limit_goes_within_the_window_without_a_release(
    limit: str, steps: list[tuple[set[int], set[int], float, bool]]
) -> None:
    """A plain model keeps each time at which a task was served last, and counts."""
    allowed = RemovalLimit.parse(limit)
    files = set(range(20))
    served: dict[str, CompiledTask] = {}
    recent: Mapping[str, RemovedTask] = {}
    held: set[str] = set()
    last_served: dict[str, float] = {}
    now = 0.0
    for go, come, pause, release in [(set(), set(), 1.0, False), *steps]:
        files = (files - go) | come
        now += pause
        compiled = tasks(*(f"t{number}" for number in sorted(files)))
        released = set(held) if release else set()
        verdict = judge(served, compiled, limit=limit, now=now, recent=recent, held=held, released=released)
        after = {**compiled, **verdict.held}

        # A released task may be gone at once, and nobody counts it.
        for task_id in released - after.keys():
            last_served.pop(task_id, None)
        window = {task_id for task_id, at in last_served.items() if now - at < REMOVAL_WINDOW_S or task_id in served}
        gone = window - after.keys()
        assert allowed.allows(len(gone), len(window | served.keys() - released))
        # What has a file is served, and a hold never ends by itself.
        assert compiled.items() <= after.items()
        assert held - released <= after.keys()

        for task_id in after:
            last_served[task_id] = now
        for task_id in served.keys() - after.keys() - released:
            last_served[task_id] = now  # it was served until now
        served, recent, held = after, verdict.recent, set(verdict.held)
    # With every file back, nothing is held and everything is served.
    assert judge(served, numbered(20), limit=limit, now=now, recent=recent, held=held).held == {}
