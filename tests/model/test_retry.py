"""Which failed attempt is tried again, and when."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.money import RunBudget
from optio.model.retry import MAX_DELAY, MAX_INFRASTRUCTURE_RETRIES, GiveUp, RetryAt, decide_retry
from optio.model.run import Outcome, Run, RunState
from optio.model.usage import Meter

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
AGAIN = Outcome(ok=False, reason="exit_code", again=True)
OURS = replace(AGAIN, infrastructure=True)


def run(**more: Any) -> Run:
    fields: dict[str, Any] = dict.fromkeys(Run.__dataclass_fields__)
    fields |= {"state": RunState.RUNNING, "meter": Meter(), "retries": 0, "max_retries": 3, "infrastructure_retries": 0}
    return Run(**{**fields, **more})


@pytest.mark.parametrize(("retries", "seconds"), [(0, 5), (1, 10), (2, 20), (6, 320), (7, 600), (1000, 600)])
def test_the_delay_doubles_from_five_seconds_up_to_ten_minutes(retries: int, seconds: int) -> None:
    asked = run(retries=retries, max_retries=2**31 - 1)

    assert decide_retry(asked, AGAIN, now=NOW, jitter=0) == RetryAt(NOW + timedelta(seconds=seconds))
    assert decide_retry(asked, AGAIN, now=NOW, jitter=1) == RetryAt(NOW + timedelta(seconds=seconds) * 1.25)


@pytest.mark.parametrize(("most", "retries", "why"), [(0, 0, "the task allows no retries"), (2, 2, "no retries left")])
def test_a_task_is_tried_again_as_often_as_it_says(most: int, retries: int, why: str) -> None:
    assert decide_retry(run(max_retries=most, retries=retries), AGAIN, now=NOW, jitter=0) == GiveUp(why)


def test_what_a_second_try_cannot_help_is_given_up_at_once() -> None:
    assert isinstance(decide_retry(run(), replace(AGAIN, again=False), now=NOW, jitter=0), GiveUp)


@pytest.mark.parametrize(
    ("asked", "seconds"), [(60, 60), (1, 5), (-5, 5), (1e300, 86400), (float("inf"), 86400), (float("nan"), 86400)]
)
def test_the_agents_own_time_is_a_floor_within_reason(asked: float, seconds: float) -> None:
    outcome = replace(AGAIN, not_before_s=asked)

    assert decide_retry(run(), outcome, now=NOW, jitter=0) == RetryAt(NOW + timedelta(seconds=seconds))


def test_a_result_is_mended_once_at_once_without_a_retry_and_within_the_budget() -> None:
    unfit, last = replace(AGAIN, reason="result_invalid"), run(max_retries=2, retries=2)
    budget = RunBudget(Decimal(1), Decimal(1))

    assert decide_retry(last, unfit, now=NOW, jitter=1, repair="possible") == RetryAt(NOW, counts=False)
    assert isinstance(decide_retry(last, unfit, now=NOW, jitter=1, repair="possible", budget=budget), GiveUp)
    told = GiveUp("the agent was told so, and did not mend it")
    assert decide_retry(run(), unfit, now=NOW, jitter=1, repair="made") == told, "though it has retries"


@pytest.mark.parametrize("outcome", [AGAIN, OURS])
def test_nothing_is_tried_again_once_the_budget_is_spent(outcome: Outcome) -> None:
    budget = Decimal("2.00")
    rest = decide_retry(run(), outcome, now=NOW, jitter=0, budget=RunBudget(budget, Decimal("1.99")))
    none = decide_retry(run(), outcome, now=NOW, jitter=0, budget=RunBudget(budget, budget))

    assert isinstance(rest, RetryAt)
    assert none == GiveUp("no retry: $2.00 of the run's budget of $2.00 is spent", reason="budget")


def test_a_run_without_further_retries_keeps_its_own_reason() -> None:
    spent = decide_retry(run(max_retries=0), AGAIN, now=NOW, jitter=0, budget=RunBudget(Decimal(1), Decimal(1)))

    assert spent == GiveUp("the task allows no retries")


def test_nothing_is_tried_again_where_nobody_knows_what_is_left_unless_the_fault_is_ours() -> None:
    unknown = RunBudget(Decimal(2)).after(None)
    given_up = decide_retry(run(), AGAIN, now=NOW, jitter=0, budget=unknown)

    assert given_up == GiveUp("no retry: nobody knows what the attempt has cost, so what is left of `budgetUsd` is unknown")
    assert isinstance(decide_retry(run(), OURS, now=NOW, jitter=0, budget=unknown), RetryAt)


def test_our_own_faults_are_repeated_at_once_then_with_delays_and_not_for_ever() -> None:
    decisions = [
        decide_retry(run(infrastructure_retries=before, max_retries=0), OURS, now=NOW, jitter=0)
        for before in range(MAX_INFRASTRUCTURE_RETRIES + 1)
    ]

    assert decisions[:3] == [RetryAt(NOW + timedelta(seconds=seconds)) for seconds in (0, 5, 10)]
    assert decisions[-1] == GiveUp("lost 5 times")


@given(retries=st.integers(0, 10**6), jitter=st.floats(0, 1), floor=st.floats(0, 86400), ours=st.booleans())
def test_no_run_waits_for_ever_or_comes_back_before_its_time(retries: int, jitter: float, floor: float, ours: bool) -> None:
    outcome = replace(AGAIN, not_before_s=floor, infrastructure=ours)
    asked = run(retries=retries, max_retries=2**31 - 1, infrastructure_retries=min(retries, 4))

    decision = decide_retry(asked, outcome, now=NOW, jitter=jitter)

    assert isinstance(decision, RetryAt)
    longest = max(MAX_DELAY * 1.25, timedelta(seconds=floor))
    assert NOW <= decision.at <= NOW + longest + timedelta(microseconds=1)
