"""What a call reserves: never less than it may cost, and never more than is left."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.gateway.protocols.base import ModelRequest, PassingAnswer
from optio.gateway.reservation import MIN_OUTPUT, plan_call
from optio.gateway.settlement import settled
from optio.model import prices
from optio.model.model_call import Account, PlannedCall, RefusedCall
from optio.model.usage import Usage

MODEL = "claude-sonnet-4-5"
PRICE = prices.find(MODEL)
assert PRICE is not None


def account(left: str | None, ratio: str | None = None, *, has_open: bool = False) -> Account:
    return Account(
        left=None if left is None else Decimal(left),
        has_open=has_open,
        tokens_per_byte=None if ratio is None else Decimal(ratio),
    )


def plan(at: Account, size: int = 80_000, most: int | None = 32_000, *, model: str = MODEL) -> PlannedCall | RefusedCall:
    return plan_call(at, model=model, size=size, max_output=most, is_priced=at.left is not None)


def test_the_first_call_counts_three_bytes_for_a_token_and_the_whole_answer() -> None:
    planned = plan(account("2.00"))

    # 80,000 bytes / 3 * 1.05 = 28,000 tokens that may be written to the cache at $3.75, and 32,000 tokens at $15.
    assert planned == PlannedCall(reserved=Decimal("0.585"), input_cost=Decimal("0.105"))


def test_later_calls_count_the_tokens_that_the_largest_had() -> None:
    assert plan(account("2.00", "0.25")) == PlannedCall(reserved=Decimal("0.55875"), input_cost=Decimal("0.07875"))


def test_an_answer_is_cut_to_what_fits() -> None:
    planned = plan(account("0.255"))

    assert planned == PlannedCall(reserved=Decimal("0.255"), input_cost=Decimal("0.105"), max_output=10_000)


@pytest.mark.parametrize("has_open", [False, True])
def test_a_call_is_refused_that_has_room_for_no_answer(has_open: bool) -> None:
    planned = plan(account("0.108", has_open=has_open))

    assert isinstance(planned, RefusedCall)
    assert (planned.reason, planned.has_open) == ("budget", has_open)
    assert "$0.108" in planned.message


def test_without_a_limit_in_the_request_the_answer_may_be_as_long_as_the_model_allows() -> None:
    assert PRICE is not None
    planned = plan(account(None), most=None)

    assert isinstance(planned, PlannedCall)
    assert planned.reserved - planned.input_cost == PRICE.cost(Usage(output=PRICE.most_output))


def test_a_model_without_a_price_is_refused_where_a_budget_counts() -> None:
    refused = plan(account("2.00"), model="our-own")

    assert isinstance(refused, RefusedCall)
    assert refused.reason == "unpriced"
    assert plan(account(None), model="our-own") == PlannedCall(reserved=Decimal(0))


@given(
    left=st.decimals("0", "20", places=4),
    size=st.integers(0, 4 << 20),
    most=st.none() | st.integers(1, 64_000),
    ratio=st.none() | st.decimals("0.01", "1", places=3),
)
def test_a_planned_call_costs_no_more_than_is_left_whatever_the_model_answers_within_its_limit(
    left: Decimal, size: int, most: int | None, ratio: Decimal | None
) -> None:
    assert PRICE is not None
    planned = plan(Account(left=left, has_open=False, tokens_per_byte=ratio), size, most)
    if isinstance(planned, RefusedCall):
        return
    assert planned.reserved <= left
    limit = planned.max_output or min(most or PRICE.most_output, PRICE.most_output)
    assert planned.max_output is None or planned.max_output >= min(MIN_OUTPUT, most or MIN_OUTPUT)
    assert planned.input_cost + PRICE.cost(Usage(output=limit)) <= planned.reserved + Decimal("0.000001")


REQUEST = ModelRequest(model=MODEL, max_output=None, is_stream=True, body=b"")
PLANNED = PlannedCall(reserved=Decimal("0.5"), input_cost=Decimal("0.1"))


def answered(usage: Usage | None, *, complete: bool = False, size: int = 0, model: str | None = None) -> PassingAnswer:
    answer = PassingAnswer()
    answer.usage, answer.is_complete, answer.size, answer.model = usage, complete, size, model
    return answer


def test_an_answer_that_is_complete_costs_its_usage() -> None:
    call = settled(answered(Usage(fresh=1000, output=100), complete=True), REQUEST, PLANNED, 200)

    assert (call.cost, call.is_estimate, call.model) == (Decimal("0.0045"), False, MODEL)


def test_the_model_that_answered_is_the_one_that_is_paid() -> None:
    answer = answered(Usage(fresh=1000), complete=True, model="claude-opus-4-5")

    assert settled(answer, REQUEST, PLANNED, 200).cost == Decimal("0.005")


@pytest.mark.parametrize("status", [400, 429, 500, 502])
def test_a_call_that_the_service_refused_costs_nothing(status: int) -> None:
    assert settled(answered(None), REQUEST, PLANNED, status).cost == 0


@pytest.mark.parametrize(
    ("answer", "status", "cost"),
    [
        (answered(None), 0, "0.5"),  # nothing came: as much as it may have been
        (answered(None, size=4000), 200, "0.115"),  # the input as estimated, and 1,000 tokens that came
        (answered(Usage(fresh=1000), size=4000), 200, "0.018"),  # the input as told
        (answered(None, size=10**9), 200, "0.5"),  # no more than was reserved
    ],
)
def test_an_answer_that_broke_off_costs_what_came_of_it(answer: PassingAnswer, status: int, cost: str) -> None:
    call = settled(answer, REQUEST, PLANNED, status)

    assert (call.cost, call.is_estimate) == (Decimal(cost), True)


def test_the_cost_of_an_unknown_model_is_unknown() -> None:
    request = ModelRequest(model="our-own", max_output=None, is_stream=True, body=b"")

    assert settled(answered(Usage(fresh=1), complete=True), request, PlannedCall(reserved=Decimal(0)), 200).cost is None
