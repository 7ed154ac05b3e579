"""What is left of a run's budget, and the worst case of a task's triggers."""

from decimal import Decimal
from typing import Any

import pytest
import yaml

from optio.model.money import (
    DAY,
    MONTH,
    PROPOSED_TEXT,
    ZERO_USD,
    RunBudget,
    dollars,
    max_call_usd,
    max_run_usd,
    why_unpriced,
    worst_case,
)
from optio.model.task import TaskSpec

PLAIN = {"name": "Report", "agentRuntime": "claude-code", "promptTemplate": "x", "budgetUsd": "2.00"}
SCHEDULE = {"type": "schedule", "config": {"cronExpression": "0 9 * * *"}}
WEBHOOK = {"type": "webhook", "config": {"path": "x", "unsigned": True}}


def spec(**more: Any) -> TaskSpec:
    return TaskSpec.of({key: value for key, value in {**PLAIN, **more}.items() if value is not None})


@pytest.mark.parametrize(
    ("spent", "rest", "is_over"),
    [("0", "2.00", False), ("1.50", "0.50", False), ("2.00", "0", True), ("4.50", "0", True)],
)
def test_what_attempts_have_spent_is_not_left(spent: str, rest: str, is_over: bool) -> None:
    budget = RunBudget.of(spec(), Decimal(spent))

    assert (budget.left, budget.is_spent) == (Decimal(rest), is_over)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("3.0", "$3.00"), ("2", "$2.00"), ("4.280", "$4.28"), ("0", "$0.00"), ("0.00858", "$0.00858"), ("1E+1", "$10.00")],
)
def test_an_amount_is_written_with_its_cents(amount: str, text: str) -> None:
    assert dollars(Decimal(amount)) == text


def test_parts_of_a_cent_are_rounded_up_from_a_dollar_on_unless_all_digits_are_asked_for() -> None:
    assert dollars(Decimal("1.2341")) == "$1.24"
    assert dollars(Decimal("1.2341"), exact=True) == "$1.2341"


def test_what_costs_nothing_never_spends_a_budget_of_nothing() -> None:
    assert not RunBudget(Decimal(0)).is_spent
    assert RunBudget(Decimal(0)).after(Decimal("0.01")).is_spent
    assert RunBudget.of(spec(budgetUsd=None), Decimal(5)).left is None
    assert not RunBudget.of(spec(budgetUsd=None), Decimal(5)).is_spent


def test_a_cost_that_nobody_knows_leaves_an_unknown_rest_of_a_budget_that_is_enforced() -> None:
    enforced, reported, none = (RunBudget.of(each) for each in (spec(), spec(budget="report"), spec(budgetUsd=None)))

    assert enforced.after(None).is_unknown
    assert not enforced.after(None, had_agent=False).is_unknown
    assert not enforced.after(ZERO_USD).is_unknown
    assert not reported.after(None).is_unknown
    assert not none.after(None).is_unknown


@pytest.mark.parametrize(
    ("runtime", "model", "is_known"),
    [
        ("claude-code", None, True),
        ("claude-code", "sonnet", True),
        ("claude-code", "opus[1m]", True),
        ("claude-code", "claude-haiku-4-5-20251001", True),
        ("claude-code", "our-own", False),
        ("codex", None, False),
        ("codex", "gpt-5", True),
        ("codex", "sonnet", False),
        ("copilot", "claude-sonnet-4.5", True),
        ("gemini", None, False),
        ("gemini", "gemini-2.5-pro", True),
        ("opencode", "anthropic/claude-sonnet-4-5", True),
        ("opencode", "openai/our-own", False),
        ("opencode", None, True),
        ("command", None, True),
    ],
)
def test_a_run_with_a_budget_needs_a_model_whose_price_is_known(runtime: str, model: str | None, is_known: bool) -> None:
    command = "true" if runtime == "command" else None
    asked = spec(agentRuntime=runtime, model=model, command=command)

    assert (why_unpriced(asked) is None) is is_known
    assert why_unpriced(asked.replace(budget="report")) is None
    assert why_unpriced(asked.replace(budget_usd=None)) is None


@pytest.mark.parametrize(
    ("model", "call"),
    [("claude-sonnet-4-5-20250929", "1.23"), ("haiku", "0.41"), ("gpt-5", "1.780"), ("own", None), (None, None)],
)
def test_a_run_may_cost_one_call_more_than_its_budget_where_the_price_is_known(model: str | None, call: str | None) -> None:
    asked = spec(model=model)

    assert max_call_usd(asked) == (None if call is None else Decimal(call))
    assert max_run_usd(asked) == Decimal("2.00") + Decimal(call or 0)
    assert max_run_usd(spec(model=model, budgetUsd=None)) is None


def test_a_program_of_ones_own_makes_no_calls_that_are_known() -> None:
    assert max_run_usd(spec(agentRuntime="command", command=["true"], model="sonnet", promptTemplate=None)) == Decimal("2.00")


def test_retries_spend_nothing_more() -> None:
    few, many = (worst_case(spec(maxRetries=retries, triggers=[SCHEDULE]), fires=30, over=MONTH) for retries in (0, 9))

    assert few == many
    assert many.usd == Decimal(60)


def test_a_webhook_has_a_bound_by_its_start_limit_alone() -> None:
    limit = {"count": 5, "per": "24h"}
    open_, shut = (worst_case(spec(triggers=[SCHEDULE, WEBHOOK], startLimit=more), fires=1, over=DAY) for more in (None, limit))

    assert (open_.lacks, open_.runs, open_.usd) == ("startLimit", 1, Decimal(2))
    assert (shut.lacks, shut.limited, shut.runs, shut.usd) == (None, True, 5, Decimal(10))


def test_without_a_budget_there_is_no_bound_but_where_nothing_starts() -> None:
    assert worst_case(spec(budgetUsd=None, triggers=[WEBHOOK]), fires=0, over=DAY).lacks == "budgetUsd"
    assert worst_case(spec(budgetUsd=None), fires=0, over=DAY).is_nothing
    assert worst_case(spec(enabled=False, triggers=[SCHEDULE, WEBHOOK]), fires=1, over=DAY).is_nothing
    assert worst_case(spec(triggers=[{**SCHEDULE, "enabled": False}]), fires=1, over=DAY).is_nothing
    assert worst_case(spec(triggers=[{**WEBHOOK, "enabled": False}]), fires=0, over=DAY).is_nothing
    assert not worst_case(spec(triggers=[SCHEDULE]), fires=1, over=DAY).is_nothing
    assert not worst_case(spec(triggers=[WEBHOOK]), fires=0, over=DAY).is_nothing


def test_a_webhook_that_no_schedule_joins_starts_as_many_runs_a_month_as_thirty_days_let() -> None:
    worst = worst_case(spec(triggers=[WEBHOOK], startLimit={"count": 5, "per": "24h"}), fires=0, over=MONTH)

    assert (worst.runs, worst.usd, worst.limited) == (150, Decimal(300), True)


def test_the_limit_that_is_proposed_for_a_webhook_is_one_that_a_file_may_have() -> None:
    assert yaml.safe_load(PROPOSED_TEXT) == {"startLimit": {"count": 50, "per": "24h"}}


@pytest.mark.parametrize(("count", "runs", "limited"), [(2, 2, True), (3, 3, False), (4, 3, False), (None, 3, False)])
def test_a_start_limit_bounds_a_schedule_only_below_what_it_fires(count: int | None, runs: int, limited: bool) -> None:
    limit = None if count is None else {"count": count, "per": "24h"}
    worst = worst_case(spec(triggers=[SCHEDULE], startLimit=limit), fires=3, over=DAY)

    assert (worst.runs, worst.limited) == (runs, limited)


def test_missed_fires_that_are_caught_up_count_where_the_schedule_asks_for_them() -> None:
    config = {**SCHEDULE["config"], "misfire": "all", "maxCatchUp": 7}
    worst = worst_case(spec(triggers=[{"type": "schedule", "config": config}]), fires=1, over=DAY)

    assert worst.runs == 8
    assert worst_case(spec(triggers=[SCHEDULE]), fires=1, over=DAY).runs == 1
