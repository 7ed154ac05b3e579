"""Hints through Redis: what others write there, and what becomes of Redis."""

import json
import logging
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import dramatiq
import pytest
import redis

from optio.broker.base import Topic
from optio.broker.connection import is_open_to_others
from optio.broker.dramatiq import KEY, read
from optio.broker.redis import RedisBroker
from tests.proxy import FaultProxy
from tests.servers import RedisServer
from tests.support import eventually


class Worker:
    """Looks at each hint at once, and has room for another."""

    def __init__(self, broker: RedisBroker) -> None:
        self.broker = broker
        self.heard: list[tuple[Topic, str]] = []
        self.leave = broker.subscribe(self._hint, (Topic.START, Topic.QUEUE, Topic.CANCEL, Topic.REGISTRY))

    def _hint(self, topic: Topic, key: str) -> None:
        self.heard.append((topic, key))
        self.broker.ready(True)

    def hears(self, topic: Topic, key: str, *, within: float = 60.0) -> None:
        eventually(lambda: (topic, key) in self.heard, within=within, what=f"{topic} {key} being told")


Open = Callable[..., RedisBroker]


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for comes sooner."""
    monkeypatch.setattr("optio.broker.redis._CHECK_INTERVAL_S", 0.2)
    monkeypatch.setattr("optio.broker.redis._SILENCE_S", 1.0)
    for module in ("redis", "dramatiq"):
        monkeypatch.setattr(f"optio.broker.{module}.RETRY_PAUSE_S", 0.1)
    monkeypatch.setattr("optio.broker.dramatiq._POLL_INTERVAL_S", 0.05)


@pytest.fixture
def opened() -> Iterator[Open]:
    made: list[RedisBroker] = []

    def one(url: str) -> RedisBroker:
        made.append(RedisBroker(url))
        return made[-1]

    yield one
    for broker in made:
        broker.close()


@pytest.fixture
def client(redis_server: RedisServer) -> "redis.Redis":
    """An empty Redis."""
    made = redis_server.client()
    made.flushall()
    return made


@pytest.fixture
def worker(opened: Open, redis_server: RedisServer, client: "redis.Redis") -> Worker:
    """Somebody who listens."""
    made = Worker(opened(redis_server.url))
    listening(client)
    return made


def listening(client: "redis.Redis", database: int = 0) -> None:
    channel = f"optio:{database}:queue"
    eventually(lambda: client.pubsub_numsub(channel)[0][1], what="somebody listening")


def message(*args: object, actor: str = "start", **more: object) -> bytes:
    fields: dict[str, Any] = {"queue_name": "runs", "actor_name": actor, "args": args, "kwargs": {}, "options": {}}
    return dramatiq.Message(**{**fields, **more}).encode()


GARBAGE = {
    "empty": b"",
    "no JSON": b"\x00\xff{",
    "no text": "\ud800".encode("utf-16", "surrogatepass"),
    "a number": b"7",
    "a list": b"[1, 2]",
    "another shape": b'{"run": "x"}',
    "deep": b"[" * 4000,
    "another actor": message("x", actor="delete_everything"),
    "no argument": message(),
    "two arguments": message("x", "y"),
    "a number for the id": message(7),
    "an object for the id": message({"id": "x"}),
    "no id": message(""),
    "a long id": message("x" * 101),
    "named arguments": message("x", kwargs={"more": 1}),
    "a pickle": pickle.dumps({"actor_name": "start", "args": ("x",)}),
    "5 MB": message("x" * 5_000_000),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_message_that_is_none_of_ours_is_dropped_and_said_once_and_the_next_is_taken_at_once(
    worker: Worker, client: "redis.Redis", caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    client.rpush(KEY, data, message("real"))

    worker.hears(Topic.START, "real")

    assert worker.heard == [(Topic.START, "real")]
    assert len(caplog.messages) == 1
    assert "unknown message" in caplog.messages[0]
    assert len(caplog.messages[0]) < 500
    assert client.llen(KEY) == 0


def test_100_mb_are_dropped(worker: Worker, client: "redis.Redis") -> None:
    client.rpush(KEY, b"x" * 100_000_000)
    client.rpush(KEY, message("real"))

    worker.hears(Topic.START, "real")


def test_a_flood_of_garbage_is_said_once(worker: Worker, client: "redis.Redis", caplog: pytest.LogCaptureFixture) -> None:
    client.rpush(KEY, *(b"garbage %d" % number for number in range(1000)), message("real"))

    worker.hears(Topic.START, "real")

    assert len(caplog.messages) == 1


def test_a_message_that_is_to_be_late_is_taken_now(worker: Worker, client: "redis.Redis") -> None:
    client.rpush(KEY, message("x", options={"eta": 2**53, "redis_message_id": None, "pipe_target": {}}))

    worker.hears(Topic.START, "x")


def test_one_message_a_thousand_times_is_a_thousand_looks(worker: Worker, client: "redis.Redis") -> None:
    client.rpush(KEY, *[message("run-1")] * 1000)

    eventually(lambda: len(worker.heard) == 1000)
    client.rpush(KEY, message("run-2"))
    worker.hears(Topic.START, "run-2")


@pytest.mark.parametrize("teller", [False, True])
@pytest.mark.parametrize("value", ["text", {"a": "hash"}])
def test_something_else_in_the_place_of_the_queue_is_removed(
    worker: Worker,
    opened: Open,
    redis_server: RedisServer,
    client: "redis.Redis",
    caplog: pytest.LogCaptureFixture,
    value: Any,
    teller: bool,
) -> None:
    worker.broker.ready(not teller)
    if isinstance(value, str):
        client.set(KEY, value)
    else:
        client.hset(KEY, mapping=value)
    if not teller:
        eventually(lambda: not client.exists(KEY), what="the key being removed")

    opened(redis_server.url).tell(Topic.START, "run-1")
    eventually(lambda: not teller or client.type(KEY) == b"list")
    worker.broker.ready(True)

    worker.hears(Topic.START, "run-1")
    assert ["was deleted" in line for line in caplog.messages] == [True]


def test_what_is_published_by_others_ends_nothing(worker: Worker, client: "redis.Redis") -> None:
    for topic in ("queue", "cancel", "start", "nonsense"):
        for data in (b"", b"queue", b"\xff\x00 \xfe", b"someone " + b"k" * 5000, b"x" * 1_000_000):
            client.publish(f"optio:0:{topic}", data)
    client.publish("optio:0:cancel", b"someone run-1")

    worker.hears(Topic.CANCEL, "run-1")
    assert all(topic in (Topic.QUEUE, Topic.CANCEL) and len(key) <= 100 for topic, key in worker.heard)


def test_an_installation_in_another_database_hears_nothing(worker: Worker, opened: Open, redis_server: RedisServer) -> None:
    url = redis_server.url.removesuffix("/0") + "/1"
    neighbour = Worker(opened(url))
    listening(redis_server.client(), database=1)

    for teller in (opened(url), opened(redis_server.url)):
        teller.tell(Topic.QUEUE, str(teller))
        teller.tell(Topic.START, str(teller))
        (worker if teller._url != url else neighbour).hears(Topic.QUEUE, str(teller))
        (worker if teller._url != url else neighbour).hears(Topic.START, str(teller))

    assert len(worker.heard) == len(neighbour.heard) == 2


def test_the_queue_has_an_end_and_what_nobody_takes_is_forgotten(
    opened: Open, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    client.rpush(KEY, *(message(f"old-{number}") for number in range(5000)))

    opened(redis_server.url).tell(Topic.START, "new")

    eventually(lambda: client.llen(KEY) <= 1000)
    assert read(client.lindex(KEY, -1)) == "new"  # type: ignore[arg-type]
    assert 0 < client.ttl(KEY) <= 60


def test_redis_holds_ids_and_nothing_else(opened: Open, redis_server: RedisServer, client: "redis.Redis") -> None:
    opened(redis_server.url).tell(Topic.START, "run-1")
    eventually(lambda: client.llen(KEY) and client.exists("optio:alive"))

    assert set(client.keys("*")) == {b"optio:runs", b"optio:alive"}
    fields = json.loads(client.lindex(KEY, 0))  # type: ignore[arg-type]
    assert (fields["args"], fields["kwargs"], fields["options"]) == (["run-1"], {}, {})


def test_several_waiting_runs_are_told_to_several_workers(
    opened: Open, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    """A START takes a worker's turn until it has looked."""
    taken: list[str] = []
    for number in range(3):
        opened(redis_server.url).subscribe(lambda topic, key, name=str(number): taken.append(name), (Topic.START,))  # type: ignore[misc]

    for number in range(5):
        opened(redis_server.url).tell(Topic.START, f"run-{number}")

    eventually(lambda: len(taken) == 3)
    time.sleep(0.3)
    assert sorted(taken) == ["0", "1", "2"]
    assert client.llen(KEY) == 2


# What becomes of Redis


def test_redis_may_come_later(opened: Open) -> None:
    server = RedisServer()
    began = time.monotonic()
    teller, worker = opened(server.url), Worker(opened(server.url))
    teller.tell(Topic.START, "x")
    teller.tell(Topic.QUEUE, "x")
    assert time.monotonic() - began < 1
    eventually(lambda: teller.problem() is not None and worker.broker.problem() is not None)

    with server:
        eventually(lambda: teller.problem() is None and worker.broker.problem() is None)
        works_again(teller, worker)


def works_again(teller: RedisBroker, worker: Worker) -> None:
    key = f"after {time.monotonic()}"
    for topic in (Topic.START, Topic.CANCEL):
        teller.tell(topic, key)
        worker.hears(topic, key)


@pytest.mark.parametrize("fault", ["refuse", "blackhole", "cut"])
def test_hints_are_quick_again_soon_after_redis_is_back_and_everyone_looks_once(
    opened: Open, redis_server: RedisServer, client: "redis.Redis", caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    with FaultProxy(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        teller, worker = opened(url), Worker(opened(url))
        listening(client)
        works_again(teller, worker)
        getattr(proxy, fault)()
        if fault != "cut":
            eventually(lambda: teller.problem() and worker.broker._troubles.has("listen"))
            began = time.monotonic()
            for number in range(20_000):
                teller.tell(Topic.RUN, str(number))
                teller.tell(Topic.START, str(number))
            assert time.monotonic() - began < 10  # none of 40,000 waits for anything
        proxy.pass_through()

        worker.hears(Topic.QUEUE, "", within=10)
        worker.hears(Topic.REGISTRY, "", within=10)
        eventually(lambda: teller.problem() is None and worker.broker.problem() is None)
        works_again(teller, worker)
        lines = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in lines if "cannot be used" in line]) == len([line for line in lines if "is back" in line])
    assert len(lines) <= 4


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_redis_that_takes_no_queue_is_a_problem_and_still_passes_on_what_is_published(opened: Open, fault: str) -> None:
    with RedisServer() as server:
        teller, worker = opened(server.url), Worker(opened(server.url))
        client = server.client()
        listening(client)
        if fault == "full":
            client.config_set("maxmemory", "1mb")
        else:
            client.replicaof("127.0.0.1", "1")
        eventually(lambda: teller.problem() is not None)

        for number in range(5):
            teller.tell(Topic.START, "x")
            teller.tell(Topic.CANCEL, str(number))
            worker.hears(Topic.CANCEL, str(number), within=2)
            assert teller.problem() is not None

        client.config_set("maxmemory", "0")
        client.replicaof("NO", "ONE")
        eventually(lambda: teller.problem() is None and worker.broker.problem() is None)
        works_again(teller, worker)


def test_a_slow_redis_is_slow_and_no_problem(
    opened: Open, redis_server: RedisServer, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio.broker.redis._SILENCE_S", 10.0)
    with FaultProxy(redis_server.port) as proxy:
        proxy.delay(0.05)  # each way
        url = f"redis://127.0.0.1:{proxy.port}/0"
        teller, worker = opened(url), Worker(opened(url))
        listening(client)

        teller.tell(Topic.START, "x")
        teller.tell(Topic.CANCEL, "x")
        worker.hears(Topic.START, "x")
        worker.hears(Topic.CANCEL, "x")

        assert (teller.problem(), worker.broker.problem()) == (None, None)


def test_a_process_that_stood_still_for_a_while_does_not_take_that_for_silence(
    worker: Worker, client: "redis.Redis", caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def later() -> float:
        looks.append(threading.current_thread().name)
        return time.monotonic() + 60

    monkeypatch.setattr("optio.broker.redis.time", SimpleNamespace(monotonic=later, time=time.time))
    eventually(lambda: looks.count("broker-listen") > 3, what="looks by the later clock")
    client.publish("optio:0:cancel", b"someone run-1")

    worker.hears(Topic.CANCEL, "run-1")
    assert (worker.heard, caplog.messages) == ([(Topic.CANCEL, "run-1")], [])


@pytest.mark.parametrize("room", [True, False])
def test_a_broker_closes_soon_when_redis_does_not_answer_and_leaves_no_thread(
    redis_server: RedisServer, client: "redis.Redis", room: bool
) -> None:
    before = set(threading.enumerate())
    broker = RedisBroker(redis_server.url)
    Worker(broker).broker.ready(room)
    listening(client)
    redis_server.signal(signal.SIGSTOP)
    try:
        time.sleep(0.1)
        broker.tell(Topic.QUEUE)
        began = time.monotonic()

        broker.close()

        assert time.monotonic() - began < 4
    finally:
        redis_server.signal(signal.SIGCONT)
    eventually(lambda: set(threading.enumerate()) <= before, what="every thread ending")


def test_brokers_that_are_closed_leave_no_threads_and_no_connections(redis_server: RedisServer, client: "redis.Redis") -> None:
    threads, connections = set(threading.enumerate()), len(client.client_list())
    for _ in range(5):
        worker = Worker(RedisBroker(redis_server.url))
        listening(client)
        worker.broker.tell(Topic.START, "x")
        worker.hears(Topic.START, "x")
        worker.broker.close()

    eventually(lambda: set(threading.enumerate()) <= threads and len(client.client_list()) <= connections)


# Who may reach it


def test_a_redis_with_tls_a_user_and_a_password_works(opened: Open, tls: tuple[RedisServer, str]) -> None:
    server, url = tls
    teller, worker = opened(url), Worker(opened(url))

    eventually(
        lambda: server.client().pubsub_numsub("optio:3:queue")[0][1], what=f"somebody listening, {worker.broker.problem()}"
    )
    works_again(teller, worker)
    assert (teller.problem(), worker.broker.problem()) == (None, None)


def test_a_wrong_password_is_a_problem_that_is_said_without_it(
    opened: Open, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker = opened(f"redis://somebody:pa55@127.0.0.1:{redis_server.port}/0")

    eventually(broker.problem)
    assert "pa55" not in f"{broker.problem()} {caplog.text}"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("redis://127.0.0.1:6379/0", None),
        ("redis://127.9.9.9:6379/0", None),
        ("redis://localhost:6379/0", None),
        ("redis://[::1]:6379/0", None),
        ("redis://:pw@cache:6379/0", None),
        ("redis://cache:6379/0", "cache"),
        ("redis://0.0.0.0:6379/0", "0.0.0.0"),
        ("redis://10.0.0.7:6379/0", "10.0.0.7"),
        ("redis://[fd00::1]:6379/0", "fd00::1"),
        ("rediss://cache:6379/0", "cache"),
    ],
)
def test_a_redis_that_anyone_may_write_to_is_warned_of(url: str, host: str | None) -> None:
    assert is_open_to_others(url) == host


def test_the_warning_is_in_the_log_of_each_process(
    opened: Open, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    opened(f"redis://0.0.0.0:{redis_server.port}/0")

    assert ["has no password" in line for line in caplog.messages] == [True]
