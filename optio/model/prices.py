"""List prices of models in US dollars per million tokens: to stop agents at their budgets, and to bound the cost of one call.

The Claude figures are those by which Claude Code 2.1.331 itself bills (`costBasis: list`), found from its answers to known
usage; the most tokens of a call are its `contextWindow` and `maxOutputTokens`.
"""

from dataclasses import dataclass
from decimal import Decimal

from optio.model.run import Usage

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """The list price of one model, per million tokens of each sort; `window` and `most_output` are the most tokens that one
    call reads and writes."""

    fresh: Decimal
    output: Decimal
    cached: Decimal
    cache_write: Decimal
    window: int
    most_output: int


def _claude(fresh: str, output: str, cached: str, window: int, most_output: int) -> Price:
    return Price(Decimal(fresh), Decimal(output), Decimal(cached), Decimal(fresh) * Decimal("1.25"), window, most_output)


# The longest prefix of the model's name wins.
PRICES = {
    "claude-opus-5-5": _claude("4", "20", "0.2", 1_000_000, 128_000),
    "claude-sonnet-5-5": _claude("2", "10", "0.1", 1_000_000, 128_000),
    "claude-haiku-5-5": _claude("0.1", "0.5", "0.01", 1_000_000, 128_000),
    "claude-opus-4-5": _claude("5", "25", "0.5", 200_000, 32_000),
    "claude-sonnet-4-5": _claude("3", "15", "0.3", 200_000, 32_000),
    "claude-haiku-4-5": _claude("1", "5", "0.1", 200_000, 32_000),
}


def _price(model: str) -> Price | None:
    known = [name for name in PRICES if model.startswith(name)]
    return PRICES[max(known, key=len)] if known else None


def is_listed(model: str) -> bool:
    """Return whether the table has the model."""
    return _price(model) is not None


def max_call_cost(model: str) -> Decimal | None:
    """Return the most that one call costs: a full window, all of it new to the cache, and the longest answer. For an alias such
    as `sonnet` this is the dearest model that it may stand for; None for models outside the table."""
    price = _price(model)
    found = [price] if price is not None else [price for name, price in PRICES.items() if f"-{model}-" in name]
    return max((_full_call_cost(each) for each in found), default=None)


def _full_call_cost(price: Price) -> Decimal:
    return (price.cache_write * price.window + price.output * price.most_output) / _MILLION


def cost(model: str, usage: Usage) -> Decimal | None:
    """Return the cost of this usage by list price; None for a model that is not in the table."""
    price = _price(model)
    if price is None:
        return None
    total = (
        price.fresh * usage.fresh
        + price.cached * usage.cached
        + price.cache_write * usage.cache_write
        + price.output * usage.output
    )
    return total / _MILLION
