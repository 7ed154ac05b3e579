"""Fires of a day as minutes: they are those that the schedules give one by one, on days with clock changes too."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from optio.scheduling import cron
from optio.scheduling.day_fires import by_zone, day_pattern, minutes_between, shape_of

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Casablanca",
]
DATES = (["*", "*", "1", "L", "29"], ["*", "*", "3,10"], ["*", "*", "1-5", "0", "1#2"])
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def expression(some: random.Random) -> str:
    minute = some.choice(["*", "0", "30", "*/7", str(some.randrange(60)), "5,35"])
    hour = some.choice(["*", "2", "0", "*/5", str(some.randrange(24)), "1-3"])
    day, month, weekday = (some.choice(each) for each in DATES)
    return f"{minute} {hour} {day} {month} {weekday}"


@pytest.mark.parametrize("seed", range(12))
def test_minutes_are_the_fires_of_the_schedules(seed: int) -> None:
    some = random.Random(seed)
    # Around the days on which clocks are set in these zones, around new year, and any day.
    dates = [(3, 29), (10, 25), (11, 1), (4, 5), (10, 4), (9, 6), (2, 15), (1, 1), (12, 31), (6, 15)]
    schedules = [(expression(some), some.choice(ZONES)) for _ in range(40)]
    shapes = by_zone(shape_of(*each) for each in dict.fromkeys(schedules))
    for month, day in dates:
        begin = datetime(2026, month, day, some.randrange(24), some.choice([0, 30]), tzinfo=UTC)
        end = begin + some.choice([DAY, DAY - timedelta(hours=1), DAY + timedelta(minutes=30), timedelta(hours=2)])

        found: Counter[tuple[str, str, int]] = Counter()
        for shape, at in minutes_between(shapes, begin, end):
            found.update((shape.expression, shape.zone, minute) for minute in at)

        wanted = Counter(
            (*key, (fire - begin) // MINUTE)
            for key in dict.fromkeys(schedules)
            for fire in cron.fires_between(*key, begin - MINUTE, end - MINUTE)
        )
        assert found == wanted, (begin, end)


def test_days_of_one_pattern_have_the_same_fires_and_a_night_of_a_clock_change_has_none() -> None:
    some = random.Random(5)
    shapes = by_zone(shape_of(expression(some), zone) for zone in ZONES[:4] for _ in range(20))
    days = [datetime(2026, 10, 1, tzinfo=UTC) + DAY * place for place in range(60)]

    patterns: dict[object, list[tuple[str, str, tuple[int, ...]]]] = {}
    changed = []
    for day in days:
        fires = sorted((shape.expression, shape.zone, tuple(at)) for shape, at in minutes_between(shapes, day, day + DAY))
        pattern = day_pattern(shapes, day, day + DAY)
        if pattern is None:
            changed.append(f"{day:%m-%d}")
        else:
            assert patterns.setdefault(pattern, fires) == fires, day

    assert changed == ["10-25", "11-01"]
    assert len(patterns) < len(days)
