"""What became of a delivery then, beside what would become of it now."""

import pytest

from optio.runs.replay import DeliveryDecision, diff, differences

RUN = DeliveryDecision(verdict="accepted", task_id="a", params={"A": 1}, prompt="one\ntwo\n")
LOST = DeliveryDecision(verdict="accepted", task_id="a")
BAD = DeliveryDecision(verdict="invalid", task_id="a", detail="/params/A must be a string")


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        (RUN, RUN, []),
        (RUN, DeliveryDecision(verdict="accepted", task_id="a", params={"A": 2}, prompt="one\ntwo\n"), ["params"]),
        (RUN, DeliveryDecision(verdict="accepted", task_id="b", params={"A": 1}, prompt="one\n"), ["task", "prompt"]),
        (RUN, BAD, ["verdict"]),
        (BAD, RUN, ["verdict"]),
        (BAD, BAD, []),
        (BAD, DeliveryDecision(verdict="invalid", task_id="a", detail="another"), ["detail"]),
        (BAD, DeliveryDecision(verdict="absent"), ["verdict"]),
        # A duplicate meant a run too, whose parameters are not its own; those of a run that is gone are not known.
        (DeliveryDecision(verdict="duplicate", task_id="a"), RUN, []),
        (LOST, RUN, []),
        (
            DeliveryDecision(verdict="filtered", task_id="a", detail="x"),
            DeliveryDecision(verdict="filtered", task_id="a", detail="x"),
            [],
        ),
    ],
)
def test_differences_are_named(then: DeliveryDecision, now: DeliveryDecision, expected: list[str]) -> None:
    assert differences(then, now) == expected


def test_a_diff_shows_parameters_and_prompt() -> None:
    now = DeliveryDecision(verdict="accepted", params={"A": 2, "B": "ü"}, prompt="one\nthree\n")

    assert diff(RUN, now).splitlines() == [
        "--- then: params", "+++ now: params", "@@ -1,3 +1,4 @@", " {", '-  "A": 1', '+  "A": 2,', '+  "B": "ü"', " }",
        "--- then: prompt", "+++ now: prompt", "@@ -1,2 +1,2 @@", " one", "-two", "+three",
    ]  # fmt: skip


def test_nothing_is_compared_with_what_is_not_known() -> None:
    assert diff(LOST, RUN) == ""


def test_what_starts_now_for_the_first_time_is_shown_whole() -> None:
    assert [line[0] for line in diff(BAD, RUN).splitlines()] == list("-+@+++-+@++")


def test_a_huge_prompt_is_compared_as_far_as_it_makes_sense() -> None:
    long = DeliveryDecision(verdict="accepted", params={}, prompt="x\n" * 150_000)
    longer = DeliveryDecision(verdict="accepted", params={}, prompt="x\n" * 150_000 + "y")

    assert diff(long, longer).splitlines()[-2:] == ["-... and 100,000 characters more", "+... and 100,001 characters more"]
