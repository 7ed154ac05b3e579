"""List prices of models: to stop agents at their budgets, and to bound the cost of one call.

They are data with a date, in `prices.json`; a file of the same form overrides single models (`OPTIO_PRICES`). The figures of
Claude are those by which Claude Code 2.1.331 itself bills (`costBasis: list`), found from its answers to known usage. Those of
other makers are from their public lists.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from optio.model.usage import Usage

_MILLION = Decimal(1_000_000)
_AMOUNT = re.compile(r"\d{1,6}(\.\d{1,8})?")
# A name stands for its versions by date too, and for all that begin with it if `*` is at its end.
_VERSION = re.compile(r"(-latest|[-@]\d{4}-?\d{2}-?\d{2})?")
_RATES = {"input", "cached", "cacheWrite", "output"}
_KEYS = {"asOf", "contextTokens", "maxOutputTokens", "long"} | _RATES


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens of each sort."""

    fresh: Decimal
    cached: Decimal
    cache_write: Decimal
    output: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """Return the cost of this usage."""
        input_cost = self.fresh * usage.fresh + self.cached * usage.cached + self.cache_write * usage.cache_write
        return (input_cost + self.output * usage.output) / _MILLION


@dataclass(frozen=True, slots=True)
class Price:
    """The list price of one model. A call that reads more than `long_above` tokens costs the `long` rates. `window` and
    `most_output` are the most tokens that one call reads and writes."""

    as_of: date
    rates: Rates
    window: int
    most_output: int
    long_above: int | None = None
    long: Rates | None = None

    def cost(self, usage: Usage) -> Decimal:
        """Return the cost of a call with this usage."""
        input_tokens = usage.fresh + usage.cached + usage.cache_write
        is_long = self.long_above is not None and input_tokens > self.long_above
        return (self.long if is_long and self.long is not None else self.rates).cost(usage)

    def max_call_cost(self) -> Decimal:
        """Return the most that one call costs: a full window, all of it new to the cache, and the longest answer."""
        return self.cost(Usage(cache_write=self.window, output=self.most_output))


class PriceError(ValueError):
    """A price list that cannot be used; the text says where and why."""


def parse(text: str | bytes) -> dict[str, Price]:
    """Return the prices of a list by model; raise PriceError. The form is that of `prices.json`."""
    try:
        document = json.loads(text)
    except ValueError as err:
        raise PriceError(f"it is not JSON: {err}") from err
    models = document.get("models") if isinstance(document, dict) and set(document) == {"models"} else None
    if not isinstance(models, dict) or not models:
        raise PriceError('write `{"models": {"NAME": {...}}}`')
    return {_normal(name): _price(name, entry) for name, entry in models.items()}


def _price(model: str, entry: Any) -> Price:
    if not isinstance(entry, dict):
        raise PriceError(f"`{model}`: write `{{...}}` with its prices")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise PriceError(f"`{model}`: unknown key `{unknown[0]}`: the keys are {', '.join(sorted(_KEYS))}")
    try:
        as_of = date.fromisoformat(entry["asOf"])
    except (KeyError, TypeError, ValueError) as err:
        raise PriceError(f"`{model}`: `asOf` is the date of the price, such as `2026-01-31`") from err
    long = entry.get("long")
    if long is not None and not (isinstance(long, dict) and set(long) - _RATES == {"above"}):
        raise PriceError(f"`{model}`: `long` has `above` and the prices of a call that reads more tokens")
    return Price(
        as_of=as_of,
        rates=_rates(model, entry),
        window=_tokens(model, entry, "contextTokens"),
        most_output=_tokens(model, entry, "maxOutputTokens"),
        long_above=None if long is None else _tokens(model, long, "above"),
        long=None if long is None else _rates(model, long),
    )


def _rates(model: str, entry: Mapping[str, Any]) -> Rates:
    def rate(key: str) -> Decimal:
        value = entry.get(key)
        if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
            raise PriceError(f'`{model}`: `{key}` is US dollars per million tokens as text, such as `"1.25"`')
        return Decimal(value)

    fresh = rate("input")
    # Where writing to the cache has no price of its own, it is that of reading.
    cache_write = rate("cacheWrite") if "cacheWrite" in entry else fresh
    return Rates(fresh=fresh, cached=rate("cached"), cache_write=cache_write, output=rate("output"))


def _tokens(model: str, entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 10**9:
        raise PriceError(f"`{model}`: `{key}` is a number of tokens, such as `200000`")
    return value


@cache
def _built_in() -> Mapping[str, Price]:
    return parse(Path(__file__).with_name("prices.json").read_bytes())


_overrides: dict[str, Price] = {}


def override(prices: Mapping[str, Price]) -> None:
    """Use these prices in this process, before those that Optio brings."""
    _overrides.clear()
    _overrides.update(prices)
    find.cache_clear()


def price_list() -> dict[str, Price]:
    """Return all prices that are known, by model."""
    return {**_built_in(), **_overrides}


def _normal(model: str) -> str:
    return model.strip().lower().replace(".", "-")


@lru_cache(256)
def find(model: str) -> Price | None:
    """Return the price of a model, also by a name with the date of its version; None where none is known. Of several names with
    `*` at their end the longest counts."""
    name, prices = _normal(model), price_list()
    exact = (entry for entry in prices if name.startswith(entry) and _VERSION.fullmatch(name, len(entry)))
    open_ended = (entry for entry in prices if entry.endswith("*") and name.startswith(entry[:-1]))
    return prices.get(max(exact, key=len, default="") or max(open_ended, key=len, default=""))


def is_listed(model: str) -> bool:
    """Return whether the price of the model is known."""
    return find(model) is not None


def max_call_cost(model: str) -> Decimal | None:
    """Return the most that one call costs. For an alias such as `sonnet` this is the dearest model that it may stand for; None
    for models without a price."""
    price = find(model)
    candidates = [price] if price is not None else [price for name, price in price_list().items() if f"-{model}-" in name]
    return max((candidate.max_call_cost() for candidate in candidates), default=None)


def cost(model: str, usage: Usage) -> Decimal | None:
    """Return the cost of a call with this usage by list price; None for a model without a price."""
    price = find(model)
    return None if price is None else price.cost(usage)


def cost_of_calls(model: str, usage: Usage) -> Decimal | None:
    """Return the cost of calls with this usage together, none of which is taken to be a long one; None for a model without a
    price."""
    price = find(model)
    return None if price is None else price.rates.cost(usage)
