"""What every rate window must do. Redis has its own clock: what needs one that tests can turn is tried in memory only."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.limits.base import RateWindow
from optio.limits.local import LocalRateWindow
from optio.limits.redis import RedisRateWindow
from tests.servers import RedisServer


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Driver:
    """Makes windows: each is another server's, all of one installation. `hit` counts on one loop, as a server does."""

    make: Callable[[int], RateWindow]
    shared: bool
    loop: asyncio.Runner

    def hit(self, window: RateWindow, key: str) -> timedelta | None:
        return self.loop.run(window.hit(key))


@pytest.fixture(params=["local", "redis"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """Each driver, on an empty installation."""
    opened: list[RateWindow] = []
    with asyncio.Runner() as loop:
        if request.param == "local":
            yield Driver(LocalRateWindow, False, loop)
            return
        server: RedisServer = request.getfixturevalue("redis_server")
        server.client().flushall()

        def make(most: int) -> RateWindow:
            opened.append(RedisRateWindow(server.url, most))
            return opened[-1]

        yield Driver(make, True, loop)
        for window in opened:
            loop.run(window.close())


def hit(window: RateWindow, key: str) -> timedelta | None:
    """Count a hit in memory."""
    return asyncio.run(window.hit(key))


def test_sixty_hits_in_a_minute_pass_and_the_next_does_not(driver: Driver) -> None:
    window = driver.make(60)

    answers = [driver.hit(window, "a") for _ in range(100)]

    assert answers[:60] == [None] * 60
    assert None not in answers[60:]


def test_of_a_hundred_hits_at_once_sixty_pass(driver: Driver) -> None:
    window = driver.make(60)

    async def flood() -> list[timedelta | None]:
        return await asyncio.gather(*(window.hit("a") for _ in range(100)))

    assert driver.loop.run(flood()).count(None) == 60


def test_keys_do_not_share_a_window(driver: Driver) -> None:
    window = driver.make(1)

    async def both() -> list[timedelta | None]:
        return await asyncio.gather(*(window.hit(key) for key in ("a", "b", "a", "b")))

    assert [wait is None for wait in driver.loop.run(both())] == [True, True, False, False]
    assert driver.hit(window, "hook:with/a slash \N{SNOWMAN}") is None


def test_the_wait_that_is_told_is_right_within_a_second(driver: Driver) -> None:
    window = driver.make(2)
    for _ in range(2):
        driver.hit(window, "a")

    wait = driver.hit(window, "a")

    assert wait is not None
    assert timedelta(seconds=59) < wait <= timedelta(seconds=60)


def test_servers_that_share_a_driver_let_through_sixty_of_120_in_all(driver: Driver) -> None:
    servers = [driver.make(60), driver.make(60)]

    async def flood() -> list[timedelta | None]:
        return await asyncio.gather(*(servers[number % 2].hit("a") for number in range(120)))

    answers = driver.loop.run(flood())

    assert answers.count(None) == (60 if driver.shared else 120)
    assert all(timedelta(seconds=58) < wait <= timedelta(seconds=60) for wait in answers if wait is not None)


def test_a_limit_of_one_installation_may_be_large(driver: Driver) -> None:
    window = driver.make(2**31 - 1)

    assert [driver.hit(window, "a") for _ in range(3)] == [None] * 3


# By a clock that is turned


def test_the_turn_of_a_minute_gives_no_double_allowance() -> None:
    clock = Clock()
    window = LocalRateWindow(60, clock=clock)
    clock.now = 1019.9
    assert [hit(window, "a") for _ in range(60)] == [None] * 60

    clock.now = 1020.1

    assert hit(window, "a") is not None


def test_the_wait_that_is_told_is_long_enough_and_not_longer() -> None:
    clock = Clock()
    window = LocalRateWindow(2, clock=clock)
    hit(window, "a")
    clock.now += 10
    hit(window, "a")

    wait = hit(window, "a")

    assert wait == timedelta(seconds=50)
    clock.now += 49.9
    assert hit(window, "a") is not None
    clock.now += 0.1
    assert hit(window, "a") is None


def test_refused_hits_do_not_prolong_the_wait() -> None:
    clock = Clock()
    window = LocalRateWindow(1, clock=clock)
    hit(window, "a")
    for _ in range(59):
        clock.now += 1
        assert hit(window, "a") is not None

    clock.now += 1

    assert hit(window, "a") is None


@given(most=st.integers(1, 5), steps=st.lists(st.floats(0, 40), max_size=40))
def test_no_sixty_seconds_ever_hold_more_than_the_most(most: int, steps: list[float]) -> None:
    clock = Clock()
    window = LocalRateWindow(most, clock=clock)
    passed = []

    for step in steps:
        clock.now += step
        if hit(window, "a") is None:
            passed.append(clock.now)

    assert all(sum(1 for other in passed if at - 60 < other <= at) <= most for at in passed)


def test_a_look_counts_nothing() -> None:
    window = LocalRateWindow(1)

    assert [window.wait("a") for _ in range(3)] == [None] * 3
    assert hit(window, "a") is None
    assert window.wait("a") is not None


def test_keys_that_are_quiet_are_forgotten() -> None:
    clock = Clock()
    window = LocalRateWindow(60, clock=clock)
    for number in range(5_000):
        hit(window, f"old {number}")

    clock.now += 61
    for number in range(100):
        hit(window, f"new {number}")

    assert len(window._hits) <= 100
