"""How often a schedule fires at most, held against a walk."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optio.scheduling.cron import fires
from optio.scheduling.max_fires import max_fires
from optio.scheduling.zone_transitions import clock_changes

BERLIN, LORD_HOWE, NEW_YORK, CASABLANCA = "Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "Africa/Casablanca"
DAY = timedelta(days=1)
SPANS = (1, 7, 30)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def walked(expression: str, zone: str, years: int) -> list[datetime]:
    """The fires of so many years."""
    start = utc("2026-01-01")
    until = start + years * 365 * DAY
    return list(takewhile(lambda at: at <= until, fires(expression, zone, start - timedelta(seconds=1))))


def walked_most(at: list[datetime], days: int) -> int:
    """By a window that begins at each fire."""
    found = last = 0
    for first, begin in enumerate(at):
        while last < len(at) and at[last] - begin < days * DAY:
            last += 1
        found = max(found, last - first)
    return found


@pytest.mark.parametrize(
    "expression",
    [
        "0 9 * * *",
        "0 9 * * 1",
        "0 9,17 * * 1-5",
        "30 2 1 * *",
        "0 0 31 * *",
        "0 0 29 2 *",
        "0 9 13 * 5",
        "0 0 L * *",
        "0 0 * * 1#1",
        "0 0 */10 * 1",
    ],
)
def test_the_most_in_so_many_days_is_what_a_walk_finds(expression: str) -> None:
    at = walked(expression, "UTC", 8)

    assert [max_fires(expression, "UTC", days) for days in SPANS] == [walked_most(at, days) for days in SPANS]


# Within 11 years clocks have changed on each date on which they do; weekdays stand on the same dates again after 28.
@pytest.mark.parametrize(
    ("expression", "years"),
    [("0 6 * * *", 11), ("*/20 1 * * *", 11), ("30 2 * * *", 11), ("0 9 * * 1", 28), ("0 2,3 * * 0", 28), ("5 0-3 29 * *", 28)],
)
@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE])
def test_where_clocks_are_set_it_is_what_a_walk_of_all_years_finds(expression: str, years: int, zone: str) -> None:
    at = walked(expression, zone, years)

    assert [max_fires(expression, zone, days) for days in SPANS] == [walked_most(at, days) for days in SPANS]


@given(
    minute=st.sampled_from(["0", "30", "59", "*/20", "0,45", "*/7"]),
    hour=st.sampled_from(["0", "1", "2", "3", "0-3", "1,2", "23", "*/2", "*"]),
    day=st.sampled_from(["* * *", "* * 0", "* * 1", "* * 6,0", "1,29 * *", "25-31 10 *", "* 3,4 *"]),
    zone=st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, CASABLANCA, "America/Santiago", "Asia/Beirut", "Antarctica/Troll"]),
    days=st.sampled_from([1, 3, 30]),
    place=st.integers(0, 40),
    hours=st.integers(0, 31 * 24),
)
@example("*/20", "1", "* * *", NEW_YORK, 1, 1, 1)
@example("0", "6", "* * *", BERLIN, 1, 1, 23)
@settings(max_examples=300, deadline=None)
def test_no_span_about_a_change_of_clocks_has_more(
    minute: str, hour: str, day: str, zone: str, days: int, place: int, hours: int
) -> None:
    expression = f"{minute} {hour} {day}"
    clocks = list(clock_changes(zone, utc("2026-01-01"), utc("2047-01-01")))
    begin = clocks[place % len(clocks)].at - timedelta(hours=hours)

    number = 0
    for at in fires(expression, zone, begin):
        if at - begin > days * DAY:
            break
        number += 1

    assert number <= max_fires(expression, zone, days)


def test_a_night_with_two_hours_of_a_name_has_the_fires_of_both() -> None:
    assert max_fires("*/20 1 * * *", NEW_YORK, 1) == 6
    assert max_fires("30 1 * * *", NEW_YORK, 1) == 2


def test_a_short_day_brings_two_fires_into_24_hours_and_31_into_30_days() -> None:
    assert (max_fires("0 6 * * *", BERLIN, 1), max_fires("0 6 * * *", BERLIN, 30)) == (2, 31)
    assert (max_fires("0 6 * * *", "UTC", 1), max_fires("0 6 * * *", "Asia/Kolkata", 30)) == (1, 30)


def test_a_schedule_that_no_change_of_clocks_comes_near_has_no_more_by_it() -> None:
    assert (max_fires("0 9 * * 1", BERLIN, 1), max_fires("0 9 * * 1", BERLIN, 30)) == (1, 5)
    assert (max_fires("0 0 25 12 *", BERLIN, 1), max_fires("0 0 25 12 *", BERLIN, 30)) == (1, 1)


def test_a_dense_schedule_has_as_many_fires_as_there_are_minutes() -> None:
    assert [max_fires("* * * * *", zone, 1) for zone in ("UTC", BERLIN, LORD_HOWE)] == [1440] * 3
    assert (max_fires("* * * * *", BERLIN, 30), max_fires("@hourly", NEW_YORK, 30)) == (43200, 720)
