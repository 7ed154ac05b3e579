"""Settlements: the cost of a call, by what came of its answer. Pure."""

from decimal import Decimal

from optio.gateway.protocols.base import ModelRequest, PassingAnswer
from optio.model import prices
from optio.model.model_call import PlannedCall, SettledCall
from optio.model.prices import Price
from optio.model.usage import Usage

# An event stream has more bytes for a token than this, so an answer that broke off is not estimated too low.
_BYTES_PER_TOKEN = 4


def settled(
    answer: PassingAnswer,
    request: ModelRequest,
    plan: PlannedCall,
    status: int,
    *,
    first_byte_s: float | None = None,
    duration_s: float | None = None,
) -> SettledCall:
    """Return the call as it ended. `status` is 0 where no answer came to a request that was sent, and 4xx or 5xx where the
    service refused, which costs nothing. An answer that broke off costs what is known of it and an estimate of the rest, and
    one that did not begin costs what was reserved, which is the most."""
    model, usage = answer.model or request.model, answer.usage or Usage()
    cost: Decimal | None = Decimal(0)
    is_estimate = False
    if status == 0 or 200 <= status < 300:
        price = prices.find(model) or prices.find(request.model)
        cost = None if price is None else price.cost(usage)
        is_estimate = not answer.is_complete
        if price is not None and is_estimate:
            cost = plan.reserved if status == 0 else min(plan.reserved, _seen(answer, plan, price))
    return SettledCall(
        model=model,
        usage=usage,
        cost=cost,
        is_estimate=is_estimate,
        status=status,
        first_byte_s=first_byte_s,
        duration_s=duration_s,
    )


def _seen(answer: PassingAnswer, plan: PlannedCall, price: Price) -> Decimal:
    """Return the cost of the input, as it was told or else estimated, and of as much output as came."""
    usage = answer.usage or Usage()
    output = max(usage.output, answer.size // _BYTES_PER_TOKEN)
    if answer.usage is None:
        return plan.input_cost + price.cost(Usage(output=output))
    return price.cost(usage + Usage(output=output - usage.output))
