"""The list prices of models: found by their names, overridden by a file, and refused when they are malformed."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from optio.model import prices
from optio.model.usage import Usage

OWN = {"asOf": "2026-11-01", "input": "0.40", "cached": "0.04", "output": "1.60", "contextTokens": 200, "maxOutputTokens": 50}
LONG = {"above": 100, "input": "4", "cached": "1", "output": "8"}
MILLION = 1_000_000


@pytest.fixture(autouse=True)
def without_overrides() -> Iterator[None]:
    yield
    prices.override({})


def listed(**changes: Any) -> str:
    entry = {key: value for key, value in {**OWN, **changes}.items() if value is not None}
    return json.dumps({"models": {"own": entry}})


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        ("claude-sonnet-4-5", "3"),
        ("claude-sonnet-4-5-20250929", "3"),
        ("claude-sonnet-4.5", "3"),
        ("Claude-Sonnet-4-5@20250929", "3"),
        ("gpt-5", "1.25"),
        ("gpt-5-2025-08-07", "1.25"),
        ("gpt-5.1-codex-mini", "0.25"),
        ("gpt-5-pro", None),
        ("gpt-5-", None),
        ("claude-sonnet-4-5-of-a-gateway", "3"),
        ("claude-sonnet-4", None),
        ("", None),
    ],
)
def test_a_price_is_found_by_the_whole_name_with_or_without_a_date(model: str, dollars: str | None) -> None:
    assert prices.cost(model, Usage(fresh=MILLION)) == (None if dollars is None else Decimal(dollars))


def test_each_sort_of_token_has_its_price() -> None:
    prices.override(prices.parse(listed(cacheWrite="2")))

    assert prices.cost("own", Usage(fresh=MILLION, cached=MILLION, cache_write=MILLION, output=MILLION)) == Decimal("4.04")


def test_writing_to_the_cache_costs_what_reading_does_where_it_has_no_price() -> None:
    prices.override(prices.parse(listed()))

    assert prices.cost("own", Usage(cache_write=MILLION)) == Decimal("0.40")


def test_a_call_that_reads_more_than_a_limit_costs_the_long_rates_for_all_of_it() -> None:
    prices.override(prices.parse(listed(long=LONG)))
    at, above = Usage(fresh=60, cached=40), Usage(fresh=61, cached=40)

    assert prices.cost("own", at) == (60 * Decimal("0.4") + 40 * Decimal("0.04")) / MILLION
    assert prices.cost("own", above) == (61 * Decimal(4) + 40 * Decimal(1)) / MILLION
    assert prices.cost_of_calls("own", above) == (61 * Decimal("0.4") + 40 * Decimal("0.04")) / MILLION
    assert prices.max_call_cost("own") == (200 * Decimal(4) + 50 * Decimal(8)) / MILLION


def test_an_own_price_counts_before_the_one_that_optio_brings_and_others_stay() -> None:
    before = prices.cost("gpt-5", Usage(output=MILLION))
    prices.override(prices.parse(listed().replace("own", "gpt-5")))

    assert (before, prices.cost("gpt-5", Usage(output=MILLION))) == (Decimal(10), Decimal("1.60"))
    assert prices.is_listed("claude-opus-4-5")


def test_every_price_that_optio_brings_has_a_date_and_is_plausible() -> None:
    for model, price in prices.price_list().items():
        assert date(2025, 1, 1) < price.as_of < datetime.now(UTC).date(), model
        assert price.rates.cached < price.rates.fresh < price.rates.output, model
        assert Decimal("0.01") < price.max_call_cost() < 10, model


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not JSON"),
        ("[]", 'write `{"models"'),
        ('{"models": {}}', 'write `{"models"'),
        ('{"models": {"a": 1}}', "`a`: write"),
        (listed(input=1.25), "`input` is US dollars per million tokens as text"),
        (listed(input="-1"), "`input` is US dollars"),
        (listed(output=None), "`output` is US dollars"),
        (listed(asOf="yesterday"), "`asOf` is the date"),
        (listed(contextTokens="200"), "`contextTokens` is a number of tokens"),
        (listed(maxOutputTokens=0), "`maxOutputTokens` is a number"),
        (listed(price="1"), "unknown key `price`: the keys are asOf"),
        (listed(long={"above": 5}), "`input` is US dollars"),
        (listed(long=7), "`long` has `above`"),
    ],
)
def test_a_list_that_cannot_be_used_says_where_and_why(text: str, words: str) -> None:
    with pytest.raises(prices.PriceError) as caught:
        prices.parse(text)

    assert words in str(caught.value)
