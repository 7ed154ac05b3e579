"""Reservations: the most that a model call may cost, and how much of an answer fits into what is left. Pure.

The input is estimated from the bytes of the request: before the first answer a token has three bytes, which real requests
exceed, and after it as many as the attempt's largest call had. The output is bounded by the most tokens that the request asks
for, which is lowered to what fits. So a run exceeds its budget by no more than the error of the estimate of one input.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from optio.model import prices
from optio.model.model_call import Account, PlannedCall, RefusedCall
from optio.model.money import dollars
from optio.model.usage import Usage

# Fewer tokens are no answer: a call that has no room for them is refused.
MIN_OUTPUT = 256
_FIRST_RATIO = Decimal(1) / 3
# The next request may have a little more tokens to its bytes than the last.
_MARGIN = Decimal("1.05")


def plan_call(
    account: Account, *, model: str, size: int, max_output: int | None, is_priced: bool, answers: int = 1
) -> PlannedCall | RefusedCall:
    """Return what a call of so many bytes reserves. `max_output` is what the request allows each of its `answers`, None for
    whatever the model gives. With `is_priced` a model without a price is refused."""
    price = prices.find(model)
    if price is None:
        if is_priced:
            message = f"no price of the model `{model}` is known here, so a run with `budgetUsd` does not call it"
            return RefusedCall(reason="unpriced", message=message)
        return PlannedCall(reserved=Decimal(0))
    tokens = int((size * (account.tokens_per_byte or _FIRST_RATIO) * _MARGIN).to_integral_value(ROUND_CEILING))
    tokens = min(tokens, price.window)
    # All of it may be new to the cache, where writing to it may be dearer than reading.
    input_cost = max(price.cost(Usage(fresh=tokens)), price.cost(Usage(cache_write=tokens)))
    most = min(max_output or price.most_output, price.most_output)
    output_cost = answers * (price.cost(Usage(fresh=tokens, output=most)) - price.cost(Usage(fresh=tokens)))
    if account.left is None or input_cost + output_cost <= account.left:
        return PlannedCall(reserved=input_cost + output_cost, input_cost=input_cost)
    fitting = int(((account.left - input_cost) * most / output_cost).to_integral_value(ROUND_FLOOR)) if output_cost else 0
    if fitting < min(MIN_OUTPUT, most):
        left = max(account.left, Decimal(0)).quantize(Decimal("0.0001"), ROUND_FLOOR)
        message = f"the budget of the run has {dollars(left, exact=True)} left, and this call may cost more"
        return RefusedCall(reason="budget", message=message, has_open=account.has_open)
    return PlannedCall(reserved=input_cost + output_cost * fitting / most, input_cost=input_cost, max_output=fitting)
