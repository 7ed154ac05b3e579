"""The stated worst case, held against what really could be spent."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.compiler.source_tree import MemoryTree
from optio.model.effect import EffectKind, EffectWeight
from optio.plan.compare import compare_sides
from optio.plan.effect import Forecast
from optio.plan.effects import between
from optio.plan.money import task_spend, total_spend
from optio.plan.side import compile_side
from tests.plan.histories import hold_schedule, hold_webhook
from tests.plan.test_fields import task

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
OUTLOOK = Forecast(now=NOW)
WEBHOOK = {"type": "webhook", "config": {"path": "x", "unsigned": True}}
SCHEDULES = [{"type": "schedule", "config": {"cronExpression": "0 9 * * *"}}]
PLAIN = {"name": "Report", "agentRuntime": "claude-code", "promptTemplate": "x", "budgetUsd": "1.00"}


def scheduled(expression: str, zone: str = "UTC", **more: object) -> dict[str, object]:
    return {**PLAIN, "triggers": [{"type": "schedule", "config": {"cronExpression": expression, "timezone": zone}}], **more}


@given(st.integers())
@settings(max_examples=200)
def test_a_webhook_never_spends_more_than_its_worst_case(seed: int) -> None:
    spent, stated = hold_webhook(random.Random(seed))

    assert spent <= stated


@given(st.integers())
@settings(max_examples=200)
def test_a_schedule_never_spends_more_than_its_worst_case(seed: int) -> None:
    spent, stated = hold_schedule(random.Random(seed))

    assert spent <= stated


@pytest.mark.parametrize("hold", [hold_webhook, hold_schedule])
def test_the_worst_case_is_not_more_than_what_can_happen(hold: object) -> None:
    found = [hold(random.Random(seed)) for seed in range(300)]  # type: ignore[operator]

    assert any(spent == stated for spent, stated in found)


@pytest.mark.parametrize(
    ("document", "day", "month"),
    [
        (PLAIN, "0", "0"),
        (scheduled("0 9 * * *"), "1", "30"),
        (scheduled("0 9 * * 1"), "1", "5"),
        (scheduled("0 9 * * 1", "Europe/Berlin"), "1", "5"),
        (scheduled("0 9 * * *", "Europe/Berlin"), "2", "31"),
        (scheduled("*/20 1 * * *", "America/New_York"), "6", "93"),
        (scheduled("0 9 * * *", maxRetries=5), "1", "30"),
        (scheduled("0 9 * * *", model="claude-sonnet-4-5"), "2.23", "66.90"),
        (scheduled("0 9 * * *", enabled=False), "0", "0"),
        (scheduled("0 0 1 1 *"), "1", "1"),
        (scheduled("* * * * *", startLimit={"count": 5, "per": "24h"}), "5", "150"),
        (scheduled("* * * * *", startLimit={"count": 5, "per": "7h"}), "20", "515"),
        ({**PLAIN, "triggers": [WEBHOOK], "startLimit": {"count": 5, "per": "24h"}}, "5", "150"),
        ({**PLAIN, "triggers": [WEBHOOK]}, "0", "0"),
    ],
)
def test_fires_and_limits_make_the_worst_case(document: dict[str, object], day: str, month: str) -> None:
    found = task_spend(task(document))

    assert (found.day.usd, found.month.usd) == (Decimal(day), Decimal(month))


def test_no_budget_has_no_bound_and_counts_beside_the_sum() -> None:
    without = {key: value for key, value in scheduled("0 9 * * *").items() if key != "budgetUsd"}

    found = total_spend([task(scheduled("0 9 * * *")), replace(task(without), id="other")])

    assert (str(found), found.cure) == ("$30.00 a month and no bound for 1 task", "`budgetUsd` for other")


def test_a_webhook_without_a_limit_is_named_beside_what_schedules_spend() -> None:
    called = task({**scheduled("0 9 * * *"), "triggers": [*SCHEDULES, WEBHOOK]})
    more = [replace(called, id=f"t{place}") for place in range(5)]

    found = total_spend([called, *more])

    assert (found.day, found.month) == (Decimal(6), Decimal(180))
    assert found.cure == "`startLimit: {count: 50, per: 24h}` for report, t0, t1 and 3 more"


def test_the_limit_to_write_says_what_it_comes_to() -> None:
    (effect,) = (
        each for each in between(None, task({**PLAIN, "triggers": [WEBHOOK]}), OUTLOOK) if each.kind is EffectKind.MONEY_UP
    )

    assert effect.text == "worst case in 30 days: $0.00 -> no bound; in 24 hours: $0.00 -> no bound"
    assert effect.lines[-1] == "no bound: write `startLimit: {count: 50, per: 24h}` for at most $1,500.00 in 30 days"
    assert effect.weight is EffectWeight.DANGER


def test_the_difference_is_told_where_the_same_tasks_have_no_bound() -> None:
    def tree(**budgets: str) -> MemoryTree:
        head = "agentRuntime: claude-code\npromptTemplate: x\n"
        when = "triggers: [{type: schedule, config: {cronExpression: 0 9 * * *}}]\n"
        return MemoryTree({f"{name}.yaml": f"name: {name}\n{head}{budget}\n{when}" for name, budget in budgets.items()})

    one, two = "budgetUsd: '1.00'", "budgetUsd: '2.00'"
    some, more, rest = "$30.00 a month", "$60.00 a month", " and no bound for 1 task"
    for before, after, said in (
        (tree(a="", b=one), tree(a="", b=two), f"{some}{rest} -> {more}{rest} (+$30.00); write `budgetUsd` for a"),
        (tree(a="", b=one), tree(a=two, b=""), f"{some}{rest} -> {more}{rest}; write `budgetUsd` for b"),
        (tree(a="", b=one), tree(a=one, b=one), f"{some}{rest} -> {more}"),
        (
            tree(a="", b="", c=one),
            tree(a=one, b="", c=""),
            f"{some} and no bound for 2 tasks -> {some} and no bound for 2 tasks; write `budgetUsd` for b, c",
        ),
        (tree(a=one, b=""), tree(a="", b=""), f"{some}{rest} -> no bound for 2 tasks; write `budgetUsd` for a, b"),
    ):
        assert compare_sides(compile_side(before), compile_side(after), OUTLOOK).summary.partition("; worst case ")[2] == said


def weight(before: dict[str, object], after: dict[str, object]) -> EffectWeight | None:
    found = [each for each in between(task(before), task(after), OUTLOOK) if each.kind is EffectKind.MONEY_UP]
    return found[0].weight if found else None


def test_more_money_is_a_danger_when_it_doubles_or_has_no_bound() -> None:
    daily = scheduled("0 9 * * *")
    unbounded = {key: value for key, value in daily.items() if key != "budgetUsd"}

    assert weight(daily, {**daily, "budgetUsd": "1.99"}) is EffectWeight.NOTICE
    assert weight(daily, {**daily, "budgetUsd": "2.00"}) is EffectWeight.DANGER
    assert weight(daily, unbounded) is EffectWeight.DANGER
    assert weight(daily, {**daily, "budgetUsd": "0.99"}) is None
    assert weight(unbounded, {**unbounded, "maxRetries": 3}) is None
    assert weight(daily, {**daily, "maxRetries": 9}) is None


def test_more_in_a_day_is_more_money_where_a_month_has_as_much() -> None:
    spread, together = scheduled("0 9 1,2 * *"), scheduled("0 9,21 1 * *")
    spends = [task_spend(task(each)) for each in (spread, together)]
    assert [(each.day.usd, each.month.usd) for each in spends] == [(1, 4), (2, 4)]

    found = [[each.kind for each in between(task(a), task(b), OUTLOOK)] for a, b in ((spread, together), (together, spread))]

    assert (EffectKind.MONEY_UP in found[0], EffectKind.MONEY_DOWN in found[0]) == (True, False)
    assert (EffectKind.MONEY_UP in found[1], EffectKind.MONEY_DOWN in found[1]) == (False, True)


def test_a_webhook_without_a_limit_is_a_danger() -> None:
    daily = scheduled("0 9 * * *")

    assert weight(daily, {**daily, "triggers": [*SCHEDULES, WEBHOOK]}) is EffectWeight.DANGER
    assert weight(PLAIN, {**PLAIN, "triggers": [WEBHOOK]}) is EffectWeight.DANGER


@pytest.mark.parametrize(
    ("expression", "expected"), [("0 0,6,12 * * *", EffectWeight.NOTICE), ("0 */6 * * *", EffectWeight.DANGER)]
)
def test_what_spends_for_the_first_time_is_a_danger_from_a_sum_on(expression: str, expected: EffectWeight) -> None:
    task = scheduled(expression)

    assert weight(PLAIN, task) is expected
    assert weight({**task, "enabled": False}, task) is expected


@pytest.mark.parametrize("expression", ["0 9 * * *", "*/5 * * * *", "0 9 1 1 *"])
def test_what_is_caught_up_is_in_the_worst_case(expression: str) -> None:
    schedule = {"cronExpression": expression, "misfire": "all", "maxCatchUp": 7}
    plain, late = (
        task_spend(task({**PLAIN, "triggers": [{"type": "schedule", "config": config}]}))
        for config in ({"cronExpression": expression}, schedule)
    )

    assert (late.day.runs, late.month.runs) == (plain.day.runs + 7, plain.month.runs + 7)


def test_a_start_limit_holds_for_what_is_caught_up() -> None:
    schedule = {"type": "schedule", "config": {"cronExpression": "0 9 * * *", "misfire": "all", "maxCatchUp": 100}}

    assert task_spend(task({**PLAIN, "triggers": [schedule], "startLimit": {"count": 2, "per": "24h"}})).month.runs == 60
