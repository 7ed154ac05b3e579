"""What is offered in the place of an amount, a duration or a number is one."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.compiler.conversions.quantities import suggest_amount, suggest_duration, suggest_whole_number
from optio.model.text import parse_duration, parse_money

ALMOST = st.text(alphabet="0123456789.,$ eE+-_PTUSDdhmswMin", max_size=12) | st.text(max_size=50)


@given(ALMOST)
def test_what_is_offered_can_be_read(text: str) -> None:
    if (amount := suggest_amount(text)) is not None:
        assert parse_money(amount) >= 0
    if (span := suggest_duration(text)) is not None:
        assert parse_duration(span)
    suggest_whole_number(text)


@given(st.decimals(0, 999_999_999, places=4).filter(lambda number: not number.is_signed()))
def test_an_amount_with_its_currency_is_that_amount(number: Decimal) -> None:
    for written in (f"${number}", f"{number} USD", f"US$ {number:,}"):
        assert Decimal(str(suggest_amount(written))) == number


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1d", "24h"), ("1d12h", "36h"), ("2 weeks", "336h"), ("90 minutes", "1h30m"), ("1.5h", "1h30m"), ("PT20M", "20m"),
        ("P1DT2H", "26h"), ("1 hour and 30 minutes", "1h30m"), ("500ms", None), ("0d", None), ("forever", None),
        ("1h" * 40, None),
    ],
)  # fmt: skip
def test_a_duration_of_others(written: str, meant: str | None) -> None:
    assert suggest_duration(written) == meant
