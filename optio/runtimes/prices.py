"""List prices of models, US dollars per million tokens, for budgets while an agent runs.

The Claude figures are those that Claude Code 2.1.331 itself bills by (`costBasis: list`), found by its answers to known usage.
"""

from dataclasses import dataclass
from decimal import Decimal

from optio.model.run import Usage

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """Per million tokens."""

    fresh: Decimal
    output: Decimal
    cached: Decimal
    cache_write: Decimal


def _claude(fresh: str, output: str, cached: str) -> Price:
    return Price(Decimal(fresh), Decimal(output), Decimal(cached), Decimal(fresh) * Decimal("1.25"))


# The longest prefix of the model's name wins.
PRICES = {
    "claude-opus-5-5": _claude("4", "20", "0.2"),
    "claude-sonnet-5-5": _claude("2", "10", "0.1"),
    "claude-haiku-5-5": _claude("0.1", "0.5", "0.01"),
    "claude-opus-4-5": _claude("5", "25", "0.5"),
    "claude-sonnet-4-5": _claude("3", "15", "0.3"),
    "claude-haiku-4-5": _claude("1", "5", "0.1"),
}


def cost(model: str, usage: Usage) -> Decimal | None:
    """What this usage costs by list price; None for a model that is not in the table."""
    known = [name for name in PRICES if model.startswith(name)]
    if not known:
        return None
    price = PRICES[max(known, key=len)]
    total = (
        price.fresh * usage.fresh
        + price.cached * usage.cached
        + price.cache_write * usage.cache_write
        + price.output * usage.output
    )
    return total / _MILLION
