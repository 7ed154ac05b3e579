"""Cron: five fields, and one stated policy for the two odd nights of the year."""

import random
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.scheduling.cron import (
    PRESETS,
    WORDS,
    CronError,
    check_expression,
    count_fires,
    expand,
    explain,
    fires,
    fires_between,
    last_fires,
    minutes_of_day,
    next_fire,
)

BERLIN, LORD_HOWE, NEW_YORK = "Europe/Berlin", "Australia/Lord_Howe", "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(expression: str, zone: str, day: str) -> list[str]:
    """The fires of a local day as wall clock times with their offset."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    end = (start.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=ZoneInfo(zone))
    found: list[str] = []
    for fire in fires(expression, zone, start - timedelta(seconds=1)):
        if fire >= end.astimezone(UTC):
            return found
        found.append(fire.astimezone(ZoneInfo(zone)).strftime("%H:%M%z"))
    return found


@pytest.mark.parametrize(
    ("zone", "day", "expression", "expected"),
    [
        # Spring: 02:00 becomes 03:00. A fixed time in the gap fires once, at the first instant after it.
        (BERLIN, "2026-03-29", "30 2 * * *", ["03:00+0200"]),
        (BERLIN, "2026-03-29", "0 2 * * *", ["03:00+0200"]),
        (BERLIN, "2026-03-29", "30 1 * * *", ["01:30+0100"]),
        (BERLIN, "2026-03-29", "0 3 * * *", ["03:00+0200"]),
        (BERLIN, "2026-03-29", "0 1-4 * * *", ["01:00+0100", "03:00+0200", "04:00+0200"]),
        # Autumn: 03:00 becomes 02:00. A fixed time fires once, at its first occurrence; a wildcard hour in both.
        (BERLIN, "2026-10-25", "30 2 * * *", ["02:30+0200"]),
        (BERLIN, "2026-10-25", "0 3 * * *", ["03:00+0100"]),
        (NEW_YORK, "2026-03-08", "30 2 * * *", ["03:00-0400"]),
        (NEW_YORK, "2026-11-01", "30 1 * * *", ["01:30-0400"]),
        # Lord Howe moves by half an hour: 02:00 becomes 02:30, and back from 02:00 to 01:30.
        (LORD_HOWE, "2026-10-04", "15 2 * * *", ["02:30+1100"]),
        (LORD_HOWE, "2026-10-04", "45 2 * * *", ["02:45+1100"]),
        (LORD_HOWE, "2026-04-05", "45 1 * * *", ["01:45+1100"]),
    ],
)
def test_a_fixed_time_fires_once_on_the_odd_nights(zone: str, day: str, expression: str, expected: list[str]) -> None:
    assert local(expression, zone, day) == expected


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [(BERLIN, "2026-03-29", 23), (BERLIN, "2026-10-25", 25), (NEW_YORK, "2026-03-08", 23), (NEW_YORK, "2026-11-01", 25)],
)
def test_a_wildcard_hour_follows_elapsed_time(zone: str, day: str, hours: int) -> None:
    assert len(local("0 * * * *", zone, day)) == hours
    assert len(local("*/30 * * * *", zone, day)) == 2 * hours


def test_no_half_hour_is_lost_where_clocks_change_by_half_an_hour() -> None:
    assert local("*/30 2 * * *", LORD_HOWE, "2026-04-05") == ["02:00+1030", "02:30+1030"]
    assert local("*/30 2 * * *", LORD_HOWE, "2026-10-04") == ["02:30+1100"]


@pytest.mark.parametrize("since", ["2026-03-25", "2026-10-20"])
def test_nothing_fires_twice_or_backwards(since: str) -> None:
    for zone in (BERLIN, LORD_HOWE, NEW_YORK, "UTC"):
        for expression in ("30 2 * * *", "*/30 * * * *", "15 1-3 * * *"):
            found = list(islice(fires(expression, zone, utc(since)), 700))
            assert all(a < b for a, b in pairwise(found))


def test_a_leap_day_comes_every_four_years() -> None:
    found = list(islice(fires("0 0 29 2 *", "UTC", utc("2026-01-01")), 2))

    assert found == [utc("2028-02-29"), utc("2032-02-29")]


def test_times_come_in_utc_and_after_the_given_one() -> None:
    at = utc("2026-01-05T08:00:00")

    assert next_fire("0 9 * * 1", BERLIN, at) == utc("2026-01-12T08:00:00")
    assert next_fire("0 9 * * 1", BERLIN, at - timedelta(seconds=1)) == at


@pytest.mark.parametrize(("word", "five"), [*WORDS.items(), ("  0   9 * * 1\n", "0 9 * * 1"), ("0 9 * * 1", "0 9 * * 1")])
def test_words_and_blanks_are_expanded(word: str, five: str) -> None:
    assert expand(word) == five


@pytest.mark.parametrize("expression", [*WORDS, *PRESETS.values()])
def test_words_and_presets_are_schedules(expression: str) -> None:
    check_expression(expression)
    assert explain(expression)


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("60 * * * *", 0),
        ("* 24 * * *", 1),
        ("* * 32 * *", 2),
        ("* * 0 * *", 2),
        ("* * * 13 *", 3),
        ("* * * * 8", 4),
        ("a * * * *", 0),
        ("*/0 * * * *", 0),
        ("5-1 * * * *", 0),
        ("0 9 * *", None),
        ("0 0 9 * * 1", None),
        ("", None),
        ("@reboot", None),
        ("1,,2 * * * *", 0),
        ("\u0661 * * * *", 0),
    ],
)
def test_the_bad_field_is_named(expression: str, field: int | None) -> None:
    with pytest.raises(CronError) as refused:
        check_expression(expression)

    assert refused.value.field == field
    assert not refused.value.never


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2 *", "0 0 31 4,6,9,11 *", "0 1 */10 2 5L"])
def test_a_day_that_no_month_has_is_never(expression: str) -> None:
    with pytest.raises(CronError) as refused:
        check_expression(expression)

    assert refused.value.never


def test_missed_times_are_found_backwards_and_bounded() -> None:
    before, since = utc("2026-01-10T00:00:00"), utc("2026-01-01T00:00:00")

    assert last_fires("0 0 * * *", "UTC", before, since, 3) == [utc("2026-01-08"), utc("2026-01-09"), utc("2026-01-10")]
    assert last_fires("0 0 * * *", "UTC", before, utc("2026-01-09T00:00:00"), 3) == [before]
    assert last_fires("0 0 1 * *", "UTC", before, since, 3) == []


@pytest.mark.parametrize(
    ("day", "expression"), [("2026-03-29", "30 2 * * *"), ("2026-10-25", "30 2 * * *"), ("2026-10-25", "0 * * * *")]
)
def test_looking_back_over_an_odd_night_finds_the_same_times(day: str, expression: str) -> None:
    since = utc(day) - timedelta(hours=12)
    until = since + timedelta(days=2)
    forwards = [f for f in islice(fires(expression, BERLIN, since), 60) if f <= until]

    assert last_fires(expression, BERLIN, until, since, 100) == forwards


# Every kind of change of the clocks

MINUTE = timedelta(minutes=1)
AROUND = timedelta(hours=30)
ZONES = 150
EVERY = ["*/30 2 * * *", "*/15 0-3 * * *", "15 * * * *", "30 2 * * *", "0,15,30,45 1,2,3 * * *", "0 0 * * *", "*/20 23,0 * * *"]


def moments(zone: str) -> list[datetime]:
    """Noons of ten years between which the zone's clocks are changed."""
    noons = [datetime(2016, 1, 1, 12, tzinfo=UTC) + timedelta(days=place) for place in range(3653)]
    offsets = [noon.astimezone(ZoneInfo(zone)).utcoffset() for noon in noons]
    return [noon for noon, (a, b) in zip(noons, pairwise(offsets), strict=False) if a != b]


def changes() -> dict[tuple[object, ...], tuple[str, datetime]]:
    """One change of each kind, by how far and at what time of the day, of a sample of all zones."""
    chosen = random.Random(55).sample(sorted(available_timezones()), ZONES)
    odd = [LORD_HOWE, "Africa/Casablanca", "Asia/Gaza", "America/Sao_Paulo", "Antarctica/Troll", "Asia/Pyongyang"]
    found: dict[tuple[object, ...], tuple[str, datetime]] = {}
    for zone in [*odd, *chosen]:
        for noon in moments(zone):
            first, last = (at.astimezone(ZoneInfo(zone)) for at in (noon, noon + timedelta(days=1)))
            found.setdefault((first.utcoffset(), last.utcoffset(), first.hour), (zone, noon + timedelta(hours=12)))
    return found


def values(text: str, most: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        numbers = range(most + 1) if span == "*" else range(int(low), int(high or low) + 1)
        found |= set(numbers[:: int(step or 1)])
    return found


def by_the_minute(expression: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """The stated policy, by looking at every minute."""
    minutes, hours = (values(field, most) for field, most in zip(expression.split()[:2], (59, 23), strict=True))
    place = ZoneInfo(zone)
    if "*" in (expression[0], expression.split()[1][0]):
        passing = [begin + number * MINUTE for number in range((end - begin) // MINUTE + 1)]
        return [at for at in passing if (wall := at.astimezone(place)).minute in minutes and wall.hour in hours]
    found = set()
    wall = begin.astimezone(place).replace(tzinfo=None) - timedelta(days=1)
    while wall < end.astimezone(place).replace(tzinfo=None) + timedelta(days=1):
        if wall.minute in minutes and wall.hour in hours:
            shown = wall
            while shown.replace(tzinfo=place).astimezone(UTC).astimezone(place).replace(tzinfo=None) != shown:
                shown += MINUTE
            found.add(shown.replace(tzinfo=place).astimezone(UTC))
        wall += MINUTE
    return sorted(at for at in found if begin <= at <= end)


def test_every_kind_of_change_of_the_clocks_keeps_the_policy_in_both_directions_and_in_numbers() -> None:
    kinds = changes()
    wrong = []
    for zone, middle in kinds.values():
        begin, end = middle - AROUND, middle + AROUND
        before = begin - timedelta(seconds=1)
        for expression in EVERY:
            expected = by_the_minute(expression, zone, begin, end)
            forwards = [at for at in islice(fires(expression, zone, before), len(expected) + 1) if at <= end]
            backwards = last_fires(expression, zone, end, before, 10_000)
            if not forwards == backwards == expected or count_fires(expression, zone, before, end) != len(expected):
                wrong.append((zone, middle, expression))

    assert len(kinds) > 30
    assert wrong == []


@pytest.mark.parametrize("expression", ["*/30 * * * *", "*/7 3-5 * * 1-5", "30 2 1,15 * *", "0 0 29 2 *", "15 */2 * 6 *"])
@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, "UTC"])
def test_a_long_time_is_counted_as_it_is_walked(expression: str, zone: str) -> None:
    after, until = utc("2024-02-03T04:05:06"), utc("2025-04-06T07:08:00")
    walked = list(takewhile(lambda at: at <= until, fires(expression, zone, after)))

    assert count_fires(expression, zone, after, until) == len(walked)
    assert list(fires_between(expression, zone, after, until)) == walked


@given(
    expression=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0,30 0-3 * * 0", "59 23 28-31 * *", "15 */2 * * 1-5"]),
    zone=st.sampled_from([BERLIN, LORD_HOWE, NEW_YORK, "Africa/Cairo", "Antarctica/Troll", "UTC"]),
    begin=st.integers(0, 500_000),
    minutes=st.integers(0, 5_000),
)
def test_times_are_those_of_a_walk(expression: str, zone: str, begin: int, minutes: int) -> None:
    after = utc("2026-01-01") + timedelta(minutes=begin)
    until = after + timedelta(minutes=minutes)

    assert list(fires_between(expression, zone, after, until)) == list(
        takewhile(lambda at: at <= until, fires(expression, zone, after))
    )


def test_nobody_counts_for_ever() -> None:
    assert count_fires("* * * * *", "UTC", utc("2000-01-01"), utc("2026-01-01")) is None
    assert count_fires("0 0 * * *", "UTC", utc("2016-01-01"), utc("2026-01-01")) == 3653


def test_the_times_of_a_day_are_in_order() -> None:
    assert minutes_of_day("30,0 9,8 * * 1") == (480, 510, 540, 570)
