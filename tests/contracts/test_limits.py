"""What every rate window must do."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.limits.base import RateWindow
from optio.limits.local import LocalRateWindow


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def hit(window: RateWindow, key: str) -> timedelta | None:
    """Count a hit."""
    return asyncio.run(window.hit(key))


Make = Callable[[int, Clock], RateWindow]
DRIVERS: dict[str, Make] = {"local": lambda most, clock: LocalRateWindow(most, clock=clock)}


@pytest.fixture(params=sorted(DRIVERS))
def make(request: pytest.FixtureRequest) -> Make:
    return DRIVERS[request.param]


def test_sixty_hits_in_a_minute_pass_and_the_next_does_not(make: Make) -> None:
    window = make(60, Clock())

    answers = [hit(window, "a") for _ in range(100)]

    assert answers[:60] == [None] * 60
    assert None not in answers[60:]


def test_the_turn_of_a_minute_gives_no_double_allowance(make: Make) -> None:
    clock = Clock()
    window = make(60, clock)
    clock.now = 1019.9
    assert [hit(window, "a") for _ in range(60)] == [None] * 60

    clock.now = 1020.1

    assert hit(window, "a") is not None


def test_keys_do_not_share_a_window(make: Make) -> None:
    window = make(1, Clock())
    hit(window, "a")

    other = hit(window, "b")

    assert other is None


def test_the_wait_that_is_told_is_long_enough_and_not_longer(make: Make) -> None:
    clock = Clock()
    window = make(2, clock)
    hit(window, "a")
    clock.now += 10
    hit(window, "a")

    wait = hit(window, "a")

    assert wait == timedelta(seconds=50)
    clock.now += 49.9
    assert hit(window, "a") is not None
    clock.now += 0.1
    assert hit(window, "a") is None


def test_refused_hits_do_not_prolong_the_wait(make: Make) -> None:
    clock = Clock()
    window = make(1, clock)
    hit(window, "a")
    for _ in range(59):
        clock.now += 1
        assert hit(window, "a") is not None

    clock.now += 1

    assert hit(window, "a") is None


@given(most=st.integers(1, 5), steps=st.lists(st.floats(0, 40), max_size=40))
def test_no_sixty_seconds_ever_hold_more_than_the_most(most: int, steps: list[float]) -> None:
    for driver in DRIVERS.values():
        clock = Clock()
        window = driver(most, clock)
        passed = []

        for step in steps:
            clock.now += step
            if hit(window, "a") is None:
                passed.append(clock.now)

        assert all(sum(1 for other in passed if at - 60 < other <= at) <= most for at in passed)


def test_keys_that_are_quiet_are_forgotten() -> None:
    clock = Clock()
    window = LocalRateWindow(60, clock=clock)
    for number in range(5_000):
        hit(window, f"old {number}")

    clock.now += 61
    for number in range(100):
        hit(window, f"new {number}")

    assert len(window._hits) <= 100
