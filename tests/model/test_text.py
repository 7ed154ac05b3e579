"""Slugs, durations, money."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.text import format_duration, format_roughly, parse_duration, parse_money, slug


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Weekly Security Report", "weekly-security-report"),
        ("  A  ", "a"),
        ("Caf\u00e9 & T\u00e9a", "cafe-tea"),
        ("///", ""),
        ("\u4f60\u597d", ""),
        ("v1.2.3", "v1-2-3"),
        ("a--b__c", "a-b-c"),
        ("\uff21\uff22", "ab"),
        ("Gro\u00dfe \u00c6nderung", "grosse-aenderung"),
        ("\u2103", "c"),
    ],
)
def test_a_slug_is_lower_case_with_single_dashes(name: str, expected: str) -> None:
    assert slug(name) == expected


@given(st.text())
def test_a_slug_is_empty_or_well_formed_and_its_own_slug(name: str) -> None:
    found = slug(name)

    assert not found or re.fullmatch("[a-z0-9]+(?:-[a-z0-9]+)*", found)
    assert slug(found) == found


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1h", 3600), ("1h30m", 5400), ("1h1m1s", 3661), ("99999h", 359_996_400)]
)
def test_durations_are_hours_minutes_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "0s", "20", "1d", "-5m", "1.5h", "30m1h", " 5m", "5m\n", "\u0665m", "1e3s", "m", "999999h"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_duration(text)


@given(st.integers(1, 99_999 * 3600))
def test_a_span_is_written_as_it_is_read(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("seconds", "text"), [(90, "1m30s"), (3600, "1h"), (5400, "1h30m"), (86_400, "24h"), (59, "59s")])
def test_a_span_is_written_as_people_write_it(seconds: int, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0.5 seconds"),
        (90, "90 seconds"),
        (121, "2.02 minutes"),
        (7199, "120 minutes"),
        (45000, "12.5 hours"),
        (604800, "7 days"),
    ],
)
def test_a_span_is_told_roughly_in_one_unit(seconds: float, text: str) -> None:
    assert format_roughly(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize("text", ["0", "2.50", "0.0001", "999999999.9999"])
def test_money_is_exact(text: str) -> None:
    assert parse_money(text) == Decimal(text)


@pytest.mark.parametrize(
    "text", ["", "$5", "-1", "1e3", "nan", "inf", "1.00001", "1,50", " 1", "1\n", ".5", "5.", "\u0665", "1" * 10]
)
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        parse_money(text)
