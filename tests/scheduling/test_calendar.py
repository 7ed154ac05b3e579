"""Fires by days, and what odd nights do to schedules."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.scheduling import cron
from optio.scheduling.calendar import TimedTask, calendar_days, clock_change_nights, dst_note, fires, fires_by_schedule
from optio.scheduling.dst import DstEffect, dst_effect, dst_effects
from optio.scheduling.zone_transitions import ClockChange, clock_changes

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
SPRING, AUTUMN = datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_days_on_which_clocks_are_not_set_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    walked, walk = [], cron.fires

    def counted(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
        for at in walk(expression, zone, after):
            walked.append(at)
            yield at

    monkeypatch.setattr(cron, "fires", counted)

    found = list(fires("*/5 * * * *", BERLIN, utc("2026-01-01"), utc("2027-01-01")))

    assert len(found) == 365 * 24 * 12
    assert len(walked) < len(found) / 20


# When clocks are set


def test_a_zone_without_summer_time_is_never_set() -> None:
    assert list(clock_changes("UTC", utc("2020-01-01"), utc("2030-01-01"))) == []
    assert list(clock_changes("Asia/Tokyo", utc("2020-01-01"), utc("2030-01-01"))) == []


def test_a_change_says_what_the_clocks_show_before_and_after_it() -> None:
    spring, autumn = clock_changes(BERLIN, utc("2026-01-01"), utc("2027-01-01"))

    assert (spring.at, f"{spring.old:%H:%M}", f"{spring.new:%H:%M}") == (SPRING, "02:00", "03:00")
    assert (autumn.at, f"{autumn.old:%H:%M}", f"{autumn.new:%H:%M}") == (AUTUMN, "03:00", "02:00")


@pytest.mark.parametrize(
    ("after", "until", "number"), [(SPRING - SECOND, SPRING, 1), (SPRING, SPRING + DAY, 0), (SPRING - DAY, SPRING - SECOND, 0)]
)
def test_a_change_is_in_a_range_that_ends_with_it_and_in_none_that_begins_with_it(
    after: datetime, until: datetime, number: int
) -> None:
    assert len(list(clock_changes(BERLIN, after, until))) == number


# What they do to a schedule


def around(zone: str, at: datetime) -> ClockChange:
    (change,) = clock_changes(zone, at - 20 * DAY, at + 20 * DAY)
    return change


@pytest.mark.parametrize(
    ("expression", "at", "what", "times"),
    [
        ("30 2 * * *", SPRING, "moved", ["02:30"]),
        ("15,45 2 * * *", SPRING, "moved", ["02:15", "02:45"]),
        ("*/30 2 * * *", SPRING, "skipped", ["02:00", "02:30"]),
        ("10 */2 * * *", SPRING, "skipped", ["02:10"]),
        ("30 2 * * *", AUTUMN, "once", ["02:30"]),
        ("*/30 2 * * *", AUTUMN, "twice", ["02:00", "02:30"]),
    ],
)
def test_what_the_change_of_the_clocks_does_to_a_schedule(expression: str, at: datetime, what: str, times: list[str]) -> None:
    found = dst_effect(expression, around(BERLIN, at))

    assert found is not None
    assert (found.what, [f"{each:%H:%M}" for each in found.times]) == (what, times)


@pytest.mark.parametrize("expression", ["0 9 * * *", "0 3 * * *", "59 1 * * *", "*/5 * * * *", "0 * * * *", "30 2 * * 1"])
@pytest.mark.parametrize("at", [SPRING, AUTUMN])
def test_who_goes_by_elapsed_time_or_is_elsewhere_feels_nothing(expression: str, at: datetime) -> None:
    assert dst_effect(expression, around(BERLIN, at)) is None


def test_half_an_hour_is_half_an_hour() -> None:
    change = around(LORD_HOWE, datetime(2026, 10, 3, 15, 30, tzinfo=UTC))

    assert dst_effect("15 2 * * *", change) == DstEffect("moved", (datetime(2026, 10, 4, 2, 15),))  # noqa: DTZ001
    assert dst_effect("45 2 * * *", change) is None


@given(
    minutes=st.sampled_from(["0", "30", "*/20", "5,55", "*"]),
    hours=st.sampled_from(["2", "1-3", "*/2", "0", "23", "1", "*"]),
    zone=st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, "America/Havana", "Africa/Casablanca", "Antarctica/Troll"]),
    spring=st.booleans(),
)
def test_what_is_said_of_a_change_is_what_then_fires(minutes: str, hours: str, zone: str, spring: bool) -> None:
    """The times that are skipped do not fire, those that are moved fire when the clocks are set, and so on."""
    expression = f"{minutes} {hours} * * *"
    change = next(c for c in clock_changes(zone, utc("2026-01-01"), utc("2028-01-01")) if (c.after > c.before) is spring)
    found = dst_effect(expression, change)
    if found is None:
        return
    fired = walked(TimedTask("any", expression, zone), change.at - 4 * HOUR, change.at + 4 * HOUR)

    first = {at.replace(tzinfo=UTC) - change.before for at in found.times}
    second = {at.replace(tzinfo=UTC) - change.after for at in found.times}
    if found.what == "moved":
        assert change.at in fired
    elif found.what == "skipped":
        shown = {at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for at in fired}
        assert not shown & set(found.times)
    elif found.what == "once":
        assert first <= set(fired)
        assert not second & set(fired)
    else:
        assert first | second <= set(fired)


# Fires with their notes


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/15 0-4 * * *", "0 0 * * *", "15 1-3 * * *", "0 * * * *"])
@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, "America/Havana"])
def test_a_fire_far_from_a_change_has_no_note_and_one_near_it_has_its_own(expression: str, zone: str) -> None:
    for fire in fires(expression, zone, utc("2026-01-01"), utc("2027-01-01")):
        assert fire.note == dst_note(expression, fire.at)


# By days


def test_each_day_has_what_fires_on_it_by_the_calendars_clocks() -> None:
    timed = [
        TimedTask("late", "30 23 * * *", NEW_YORK),
        TimedTask("noon", "0 12 * * *", "UTC"),
        TimedTask("never-now", "0 0 1 1 *", "UTC"),
    ]
    after, until = utc("2026-06-01") - SECOND, utc("2026-06-03") - SECOND

    found = calendar_days(timed, fires_by_schedule(timed, after, until), "UTC")

    assert [(day.date, [row.timed.task_id for row in day.rows]) for day in found] == [
        (date(2026, 6, 1), ["late", "noon"]),
        (date(2026, 6, 2), ["late", "noon"]),
    ]
    assert f"{found[0].rows[0].fires[0].at:%d %H:%M}" == "31 23:30"


@given(
    st.lists(
        st.builds(
            TimedTask,
            st.text("abc", min_size=1, max_size=3),
            st.sampled_from(["0 9 * * *", "*/30 * * * *", "15 2 * * 0", "@monthly"]),
            st.sampled_from([BERLIN, "UTC", "Asia/Kathmandu"]),
        ),
        max_size=6,
    ),
    st.sampled_from(["UTC", NEW_YORK, "Pacific/Apia"]),
    st.integers(0, 400),
)
def test_no_fire_is_lost_or_told_twice(timed: list[TimedTask], zone: str, begin: int) -> None:
    after = utc("2026-01-01") + begin * DAY
    until = after + 3 * DAY

    found = calendar_days(timed, fires_by_schedule(timed, after, until), zone)

    told = sorted((row.timed, fire.at.astimezone(UTC)) for day in found for row in day.rows for fire in row.fires)
    assert told == sorted((each, at) for each in timed for at in walked(each, after, until))
    assert all(a.date < b.date for a, b in pairwise(found))
    assert all(fire.at.astimezone(ZoneInfo(zone)).date() == day.date for day in found for row in day.rows for fire in row.fires)


def walked(timed: TimedTask, after: datetime, until: datetime) -> list[datetime]:
    found = []
    for at in cron.fires(timed.expression, timed.zone, after):
        if at > until:
            break
        found.append(at)
    return found


def test_a_night_names_those_who_feel_it() -> None:
    timed = [TimedTask("a", "30 2 * * *", BERLIN), TimedTask("b", "0 9 * * *", BERLIN), TimedTask("c", "30 2 * * *", "UTC")]

    (night,) = clock_change_nights(timed, SPRING - DAY, SPRING + DAY)

    assert (night.zone, night.change.at, [task_id for task_id, _ in night.felt]) == (BERLIN, SPRING, ["a"])


# What comes of a zone's rules, whatever the year


@pytest.mark.parametrize(
    ("expression", "zone", "kinds"),
    [
        ("30 2 * * *", BERLIN, ["moved", "once"]),
        ("*/30 2 * * *", BERLIN, ["skipped", "twice"]),
        ("30 1 * * *", NEW_YORK, ["once"]),
        ("15 2 * * *", LORD_HOWE, ["moved"]),
        ("30 2 25 3 *", BERLIN, ["moved"]),
        ("30 2 * * 1", BERLIN, []),
        ("30 2 24 3 *", BERLIN, []),
        ("30 3 * * *", BERLIN, []),
        ("0 * * * *", BERLIN, []),
        ("30 2 * * *", "America/Sao_Paulo", []),
        ("0 2 * * *", "Africa/Casablanca", ["moved", "once"]),
    ],
)
def test_a_zones_rules_say_whether_a_night_will_ever_be_odd(expression: str, zone: str, kinds: list[str]) -> None:
    assert [it.what for _, it in dst_effects(expression, zone)] == kinds


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE, "America/Santiago", "Africa/Cairo"])
@pytest.mark.parametrize("hour", range(4))
def test_the_rules_agree_with_the_years_to_come(zone: str, hour: int) -> None:
    """Where a zone keeps its rules from now on, the nights of the next years are those of any others."""
    expression = f"30 {hour} * * *"
    coming_years = {
        it.what
        for c in clock_changes(zone, utc("2027-01-01"), utc("2030-01-01"))
        if (it := dst_effect(expression, c)) is not None
    }

    assert {it.what for _, it in dst_effects(expression, zone)} == coming_years
