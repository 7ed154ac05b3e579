"""Quantities as Kubernetes writes them."""

from decimal import Decimal

import pytest

from optio.model.pool import parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", "1"), ("0.5", "0.5"), ("500m", "0.5"), ("2Gi", str(2 * 2**30)), ("512Mi", str(2**29)), ("1G", "1000000000"),
        ("3k", "3000"), ("1Ti", str(2**40)), ("0", "0"),
    ],
)  # fmt: skip
def test_a_quantity_is_a_number(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "-1", "1.", ".5", "1e3", "2 Gi", "2gi", "٣", "1Gi\n"])
def test_what_is_no_quantity_is_none(text: str) -> None:
    assert parse_quantity(text) is None
