"""Rate windows in Redis: by its clock, shared, and in its absence each server's own."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import redis

from optio.limits.local import LocalRateWindow
from optio.limits.redis import REPLY_TIMEOUT_S, RETRY_PAUSE_S, RedisRateWindow
from tests.proxy import FaultProxy
from tests.servers import RedisServer
from tests.support import eventually

KEY = "optio:rate:a"
Make = Callable[..., RedisRateWindow]


class Clock:
    """This server's time, which the test moves; Redis has its own."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def client(redis_server: RedisServer) -> "redis.Redis":
    """An empty Redis."""
    made = redis_server.client()
    made.flushall()
    return made


@pytest.fixture
def make(loop: asyncio.Runner, client: "redis.Redis", redis_server: RedisServer) -> Iterator[Make]:
    """Windows of several servers, with 60 hits a minute."""
    opened = []

    def one(most: int = 60, **options: object) -> RedisRateWindow:
        opened.append(RedisRateWindow(str(options.pop("url", redis_server.url)), most, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield one
    for window in opened:
        loop.run(window.close())


def hits(loop: asyncio.Runner, window: RedisRateWindow, count: int, key: str = "a") -> list[timedelta | None]:
    """One after the other."""

    async def all_of_them() -> list[timedelta | None]:
        return [await window.hit(key) for _ in range(count)]

    return loop.run(all_of_them())


def age(client: "redis.Redis", seconds: float) -> None:
    """As if so much time had passed in Redis."""
    times = [int(each) for each in client.lrange(KEY, 0, -1)]
    client.delete(KEY)
    client.rpush(KEY, *(each - int(seconds * 1e6) for each in times))


def test_the_window_moves_by_the_clock_of_redis(make: Make, loop: asyncio.Runner, client: "redis.Redis") -> None:
    assert hits(loop, make(2), 2) == [None, None]
    age(client, 30)
    # Other servers: the first one's own window stands still.
    assert hits(loop, make(2), 1) != [None]

    (wait,) = hits(loop, make(2), 1)

    assert wait is not None
    assert timedelta(seconds=29) < wait <= timedelta(seconds=30)
    age(client, 30.1)
    assert hits(loop, make(2), 3)[:2] == [None, None]


def test_a_server_whose_clock_is_wrong_lets_through_no_more(
    make: Make, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = hits(loop, make(), 40).count(None)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)

    passed += hits(loop, make(), 40).count(None)

    assert passed == 60


def test_what_another_server_used_up_is_no_hit_here(make: Make, loop: asyncio.Runner, client: "redis.Redis") -> None:
    clock = Clock()
    here = make(clock=clock)
    hits(loop, make(), 60)
    assert None not in hits(loop, here, 60)

    age(client, 60.1)

    assert hits(loop, here, 61).count(None) == 60


def test_redis_keeps_no_more_hits_than_matter_and_none_for_longer_than_a_minute(
    make: Make, loop: asyncio.Runner, client: "redis.Redis"
) -> None:
    hits(loop, make(5), 3)
    client.rpush(KEY, *range(1000))
    hits(loop, make(5), 1)

    assert client.llen(KEY) == 5
    assert 0 < client.ttl(KEY) <= 60


def test_a_server_that_alone_was_asked_lets_through_no_more_after_redis_forgot_everything(
    make: Make, loop: asyncio.Runner, client: "redis.Redis"
) -> None:
    window = make()
    passed = hits(loop, window, 30).count(None)
    client.flushall()

    passed += hits(loop, window, 70).count(None)

    assert passed == 60


def test_each_server_counts_by_itself_while_redis_is_away_and_together_when_it_is_back(
    make: Make, loop: asyncio.Runner, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    with FaultProxy(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        clock = Clock()
        servers = [make(url=url, clock=clock) for _ in range(2)]
        proxy.refuse()

        apart = [hits(loop, server, 100).count(None) for server in servers]

        assert apart == [60, 60]
        assert all(server.problem() is not None for server in servers)
        proxy.pass_through()
        clock.now += 61
        for server in servers:
            until_back(loop, server, clock)
        together = sum(hits(loop, server, 60).count(None) for server in servers)
        assert together == 60


def until_back(loop: asyncio.Runner, window: RedisRateWindow, clock: Clock) -> None:
    """Nobody waits for the hit that asks whether Redis is back."""

    def look() -> bool:
        clock.now += RETRY_PAUSE_S
        hits(loop, window, 1, f"another {clock.now}")
        loop.run(asyncio.sleep(0.05))
        return window.problem() is None

    eventually(look, what="the window using Redis again")


def test_a_redis_that_stays_silent_costs_the_requests_after_the_first_nothing(
    make: Make, loop: asyncio.Runner, redis_server: RedisServer
) -> None:
    clock = Clock()
    with FaultProxy(redis_server.port) as proxy:
        window = make(1000, url=f"redis://127.0.0.1:{proxy.port}/0", clock=clock)
        proxy.blackhole()
        hits(loop, window, 1)
        began = time.monotonic()
        for _ in range(100):
            clock.now += RETRY_PAUSE_S
            hits(loop, window, 1)
        took = time.monotonic() - began
        proxy.pass_through()

        until_back(loop, window, clock)

    assert took < 5  # were each to wait, it would be forty


def test_a_window_without_hits_forgets_that_redis_was_away(make: Make, loop: asyncio.Runner, redis_server: RedisServer) -> None:
    clock = Clock()
    with FaultProxy(redis_server.port) as proxy:
        window = make(url=f"redis://127.0.0.1:{proxy.port}/0", clock=clock)
        proxy.refuse()
        hits(loop, window, 1)
        assert window.problem() is not None

        clock.now += 5

        assert window.problem() is None


@pytest.mark.parametrize("many", [1, 300])
def test_a_redis_that_does_not_answer_costs_less_than_half_a_second_and_that_once(
    make: Make, loop: asyncio.Runner, redis_server: RedisServer, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert REPLY_TIMEOUT_S < 0.5
    monkeypatch.setattr("optio.limits.redis.REPLY_TIMEOUT_S", 2.0)  # once is told from twice also where a second is nothing
    window = make(1000)
    hits(loop, window, 1)
    redis_server.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()

        async def flood() -> list[timedelta | None]:
            return await asyncio.gather(*(window.hit(f"key {number}") for number in range(many)))

        answers = loop.run(flood())
        first = time.monotonic() - began
        hits(loop, window, 100)
        rest = time.monotonic() - began - first
    finally:
        redis_server.signal(signal.SIGCONT)

    assert answers == [None] * many
    assert first < 4
    assert rest < 4


def test_answers_that_come_too_late_are_nobodys(make: Make, loop: asyncio.Runner, redis_server: RedisServer) -> None:
    clock = Clock()
    with FaultProxy(redis_server.port) as proxy:
        window = make(1, url=f"redis://127.0.0.1:{proxy.port}/0", clock=clock)
        assert hits(loop, window, 1, "full") == [None]
        for _ in range(2):
            proxy.delay(0.3)  # each way
            assert hits(loop, window, 1, f"slow {clock.now}") == [None]
            proxy.delay(0)
            until_back(loop, window, clock)

            assert hits(loop, window, 1, f"free {clock.now}") == [None]
            assert hits(loop, make(1), 1, "full") != [None]


def test_a_connection_that_ended_while_nobody_used_it_costs_nothing(
    make: Make, loop: asyncio.Runner, client: "redis.Redis"
) -> None:
    window = make()
    hits(loop, window, 1)
    client.client_kill_filter(_type="normal", skipme=True)

    hits(loop, window, 1)

    assert window.problem() is None
    assert client.llen(KEY) == 2


@pytest.mark.parametrize("value", ["text", ["not", "a", "number"], {"a": "hash"}, [str(2**60)] * 60, ["9" * 400] * 60])
def test_what_somebody_else_wrote_into_a_window_stops_no_webhook(
    make: Make, loop: asyncio.Runner, client: "redis.Redis", value: object
) -> None:
    if isinstance(value, str):
        client.set(KEY, value)
    elif isinstance(value, list):
        client.rpush(KEY, *value)
    else:
        client.hset(KEY, mapping=value)  # type: ignore[arg-type]
    window = make()

    answers = hits(loop, window, 61)

    assert answers.count(None) == 60
    assert window.problem() is None


@pytest.mark.parametrize("fault", ["full", "read-only", "locked"])
def test_a_redis_that_answers_and_takes_nothing_leaves_each_server_its_own_window(
    loop: asyncio.Runner, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer() as server:
        client = server.client()
        if fault == "full":
            client.config_set("maxmemory", "1mb")
        elif fault == "read-only":
            client.replicaof("127.0.0.1", "1")
        else:
            client.config_set("requirepass", "another")
        window = RedisRateWindow(server.url, 60)

        answers = hits(loop, window, 100)

        assert answers.count(None) == 60
        assert window.problem() is not None
        assert len(caplog.messages) == 1
        loop.run(window.close())


def test_a_server_without_redis_agrees_with_one_that_has_it(make: Make, loop: asyncio.Runner) -> None:
    alone = LocalRateWindow(7)

    async def both() -> list[tuple[bool, bool]]:
        window = make(7)
        return [(await alone.hit(key) is None, await window.hit(key) is None) for key in "abcab" * 5]

    answers = loop.run(both())

    assert [one for one, _ in answers] == [other for _, other in answers]
