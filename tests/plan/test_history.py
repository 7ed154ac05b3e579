"""What a task may be expected to spend, by its past."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from optio.plan.effect import Forecast
from optio.plan.history import RunHistory, expected_spend
from tests.plan.test_fields import task
from tests.plan.test_money import PLAIN, scheduled

OUTLOOK = Forecast(now=datetime(2026, 1, 2, 12, tzinfo=UTC))
CENTS = tuple(Decimal(each) for each in ("0.10", "0.30"))
WEEKLY, DAILY = scheduled("0 9 * * 1"), scheduled("0 9 * * *")


def said(before: dict[str, object], after: dict[str, object] | None, past: RunHistory) -> str:
    return expected_spend(task(before), None if after is None else task(after), past, OUTLOOK)


def test_a_schedule_starts_what_it_will_at_the_mean_of_what_runs_cost() -> None:
    past = RunHistory(triggered={"schedule": 4}, costs=CENTS)

    assert said(WEEKLY, DAILY, past) == (
        "expected in 30 days: $0.80 -> $6.00 (4 runs -> 30, at $0.20 each, as 2 runs cost in the last 30 days)"
    )


def test_people_and_webhooks_go_on_as_they_did() -> None:
    hooked = {**PLAIN, "triggers": [{"type": "webhook", "config": {"path": "x", "secret": {"name": "S"}}}]}
    past = RunHistory(triggered={"webhook": 10, "manual": 5}, costs=CENTS)

    assert "$3.00 -> $1.00 (15 runs -> 5," in said(hooked, PLAIN, past)
    assert "$3.00 -> $0.00 (15 runs -> 0," in said(hooked, None, past)


def test_very_many_runs_are_counted_over_the_time_in_which_they_were() -> None:
    past = RunHistory(triggered={"manual": 2000}, costs=CENTS, over=timedelta(days=3))

    assert "(20,000 runs -> 20,000, at $0.20 each, as 2 runs cost in the last 3 days)" in said(PLAIN, PLAIN, past)


def test_a_start_limit_and_the_time_that_runs_take_bound_what_is_expected() -> None:
    past = RunHistory(triggered={"manual": 100}, costs=CENTS)

    assert "(100 runs -> 30," in said(PLAIN, {**PLAIN, "startLimit": {"count": 1, "per": "24h"}}, past)
    slow = RunHistory(triggered={"manual": 100}, costs=CENTS, shortest=timedelta(days=1))
    assert "(62 runs -> 31," in said(PLAIN, {**PLAIN, "maxConcurrent": 1}, slow)


def test_what_nobody_knows_is_not_made_up() -> None:
    assert said(WEEKLY, DAILY, RunHistory()) == "expected in 30 days: 4 runs -> 30; the cost of a run is unknown"
