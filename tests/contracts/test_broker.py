"""What every broker must do: hints reach everyone once, never raise, never block; START reaches somebody who has room."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optio.broker.base import Broker, Topic, announce_queued
from optio.broker.local import LocalBroker
from optio.broker.redis import RedisBroker
from tests.servers import RedisServer
from tests.support import ROOT, eventually


class Installation:
    """Brokers of one installation, each as if it were another process's."""

    def __init__(self, make: Callable[[], Broker], listening: Callable[[], int] | None) -> None:
        self._make = make
        self._listening = listening
        self.opened: list[Broker] = []

    def __call__(self) -> Broker:
        self.opened.append(self._make())
        return self.opened[-1]

    def settle(self, count: int) -> None:
        """Wait until so many of them listen: with some drivers that takes a moment."""
        if self._listening is not None:
            listening = self._listening
            eventually(lambda: listening() >= count, what="everyone listening")


@pytest.fixture(params=["local", "redis"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """Opens brokers of one installation."""
    if request.param == "local":
        made = Installation(lambda: LocalBroker(tmp_path / "bus"), None)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        client = server.client()
        client.flushall()
        made = Installation(lambda: RedisBroker(server.url), lambda: client.pubsub_numsub("optio:0:run")[0][1])
    yield made
    for broker in made.opened:
        broker.close()


class Heard(list[tuple[Topic, str]]):
    """A listener that remembers."""

    def __call__(self, topic: Topic, key: str) -> None:
        self.append((topic, key))

    def wait(self, count: int) -> None:
        eventually(lambda: len(self) >= count, what=f"hint {count}")


def test_a_hint_reaches_listeners_here_and_in_every_other_process_once(another: Installation) -> None:
    here, there, elsewhere = another(), another(), another()
    heard = [Heard() for _ in range(4)]
    for broker, listener in zip((here, here, there, elsewhere), heard, strict=True):
        broker.subscribe(listener, Topic)
    another.settle(3)

    here.tell(Topic.RUN, "run-1")
    here.tell(Topic.QUEUE)

    eventually(lambda: all(len(each) == 2 for each in heard))
    assert heard == [[(Topic.RUN, "run-1"), (Topic.QUEUE, "")]] * 4


def test_a_process_that_comes_later_hears_what_is_told_then(another: Installation) -> None:
    first, witness = another(), Heard()
    another().subscribe(witness, Topic)
    another.settle(1)
    first.tell(Topic.QUEUE, "before")
    witness.wait(1)
    second, heard = another(), Heard()
    second.subscribe(heard, Topic)
    another.settle(2)

    first.tell(Topic.QUEUE, "after")

    eventually(lambda: heard)
    assert heard == [(Topic.QUEUE, "after")]


def test_a_process_that_comes_later_is_found_though_the_sockets_were_listed_long_ago(tmp_path: Path) -> None:
    made = Installation(lambda: LocalBroker(tmp_path), None)
    first, early, late = made(), Heard(), Heard()
    made().subscribe(early, Topic)
    os.utime(tmp_path, (1, 1))
    first.tell(Topic.QUEUE, "before")
    early.wait(1)

    made().subscribe(late, Topic)
    first.tell(Topic.QUEUE, "after")

    late.wait(1)
    assert late == [(Topic.QUEUE, "after")]
    for broker in made.opened:
        broker.close()


def test_whoever_has_unsubscribed_hears_nothing_more(another: Installation) -> None:
    broker, heard, other = another(), Heard(), Heard()
    unsubscribe = broker.subscribe(heard, Topic)
    broker.subscribe(other, Topic)

    unsubscribe()
    unsubscribe()
    broker.tell(Topic.QUEUE)

    assert (heard, other) == ([], [(Topic.QUEUE, "")])


def test_a_listener_that_fails_harms_no_other_and_not_the_sender(another: Installation) -> None:
    here, there = another(), another()
    heard = [Heard(), Heard()]

    def broken(topic: Topic, key: str) -> None:
        raise RuntimeError("a mistake")

    for broker, listener in zip((here, there), heard, strict=True):
        broker.subscribe(broken, Topic)
        broker.subscribe(listener, Topic)
    another.settle(2)

    here.tell(Topic.CANCEL, "x")
    here.tell(Topic.CANCEL, "y")

    eventually(lambda: len(heard[1]) == 2)
    assert heard == [[(Topic.CANCEL, "x"), (Topic.CANCEL, "y")]] * 2


def test_a_listener_that_is_slow_holds_up_nobody_in_another_process(another: Installation) -> None:
    here, there = another(), another()
    free = threading.Event()
    there.subscribe(lambda topic, key: free.wait(20) and None, Topic)
    another.settle(1)

    for number in range(5000):
        here.tell(Topic.RUN, str(number))
    free.set()


def test_telling_many_from_many_threads_loses_nothing_here_and_repeats_nothing_there(another: Installation) -> None:
    here, there = another(), another()
    heard, other = Heard(), Heard()
    here.subscribe(heard, Topic)
    there.subscribe(other, Topic)
    another.settle(2)
    threads = [
        threading.Thread(target=lambda n=n: [here.tell(Topic.RUN, f"{n}-{i}") for i in range(50)])  # type: ignore[misc]
        for n in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(heard)) == len(heard) == 400
    eventually(lambda: other)
    assert max(Counter(other).values()) == 1


def test_after_close_telling_and_closing_again_are_harmless(another: Installation) -> None:
    broker, other, heard = another(), another(), Heard()
    other.subscribe(heard, Topic)
    another.settle(1)

    broker.close()
    broker.close()
    broker.tell(Topic.QUEUE)
    other.tell(Topic.RUN, "x")

    assert heard == [(Topic.RUN, "x")]


def test_a_process_that_has_closed_tells_what_it_was_told_before(another: Installation) -> None:
    leaving, other, heard = another(), another(), Heard()
    other.subscribe(heard, Topic)
    another.settle(1)

    leaving.tell(Topic.QUEUE, "the last word")
    leaving.close()

    eventually(lambda: heard)
    assert heard == [(Topic.QUEUE, "the last word")]


def test_a_waiting_run_is_told_to_somebody_who_listens(another: Installation) -> None:
    server, scheduler, worker, heard = another(), another(), another(), Heard()
    worker.subscribe(heard, (Topic.START, Topic.QUEUE))

    for number, broker in enumerate((server, scheduler, worker), 1):
        broker.tell(Topic.START, f"run-{number}")
        heard.wait(number)
        worker.ready(True)

    assert heard == [(Topic.START, f"run-{n}") for n in (1, 2, 3)]


def test_a_waiting_run_is_told_to_a_worker_that_has_room_though_another_has_none(another: Installation) -> None:
    server, full, free, heard = another(), another(), another(), Heard()
    full.subscribe(Heard(), (Topic.START,))
    full.ready(False)
    free.subscribe(heard, (Topic.START,))
    free.ready(True)

    for number in range(20):
        server.tell(Topic.START, f"run-{number}")
        heard.wait(number + 1)
        free.ready(True)


def test_a_worker_that_leaves_takes_no_waiting_run_with_it(another: Installation) -> None:
    server, leaving, staying, heard = another(), another(), another(), Heard()
    leave = leaving.subscribe(Heard(), (Topic.START,))
    staying.subscribe(heard, (Topic.START,))

    leave()
    leaving.ready(True)
    for number in range(10):
        server.tell(Topic.START, f"run-{number}")
        heard.wait(number + 1)
        staying.ready(True)


# The local broker


@pytest.fixture
def bus() -> Iterator[Path]:
    """A directory with a name that is short enough for sockets, whatever that of the tests' own is."""
    with tempfile.TemporaryDirectory(prefix="bus-") as path:
        yield Path(path)


def test_sockets_of_processes_that_were_killed_are_cleared_away(bus: Path) -> None:
    source = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from optio.broker.local import LocalBroker
broker = LocalBroker(Path({str(bus)!r}))
print("up", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait()
    process.stdout.close()
    broker = LocalBroker(bus)
    before = len(os.listdir(bus))

    broker.tell(Topic.QUEUE)
    after = len(os.listdir(bus))
    broker.close()

    assert (before, after, os.listdir(bus)) == (2, 1, [])


@pytest.mark.parametrize("message", [b"", b"nonsense", b"queue", b"\xff\xfe \0", b"x" * 4096, b"run " + b"k" * 4000])
def test_a_forged_message_ends_nothing(bus: Path, message: bytes) -> None:
    broker, heard = LocalBroker(bus), Heard()
    broker.subscribe(heard, Topic)
    (name,) = os.listdir(bus)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, str(bus / name))
        sender.sendto(b"run real", str(bus / name))

    eventually(lambda: (Topic.RUN, "real") in heard)
    broker.close()


def test_a_directory_that_is_too_deep_for_a_socket_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["directory"] * 20)
    here, there, heard = LocalBroker(deep), LocalBroker(deep), Heard()
    there.subscribe(heard, Topic)

    here.tell(Topic.QUEUE, "deep")

    eventually(lambda: heard)
    for broker in (here, there):
        broker.close()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files, with a short name."""
    with tempfile.TemporaryDirectory(prefix="bus-") as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)


def test_the_stand_in_for_a_deep_directory_leaves_with_the_last_who_uses_it(tmp_path: Path, temporary: Path) -> None:
    deep = tmp_path.joinpath(*["directory"] * 20)
    first, here, there, heard = LocalBroker(deep), LocalBroker(deep), LocalBroker(deep), Heard()
    there.subscribe(heard, Topic)
    (stand_in,) = temporary.iterdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(stand_in / "killed.sock"))

    first.close()
    here.tell(Topic.RUN, "still heard")
    eventually(lambda: (Topic.RUN, "still heard") in heard)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(stand_in / "killed-later.sock"))
    here.close()
    there.close()

    assert os.listdir(temporary) == []


def test_a_stand_in_that_is_taken_away_at_the_wrong_moment_is_made_again(tmp_path: Path, temporary: Path) -> None:
    deep, failed = tmp_path.joinpath(*["directory"] * 20), []

    def come_and_go() -> None:
        try:
            for _ in range(100):
                LocalBroker(deep).close()
        except Exception as err:
            failed.append(err)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (failed, os.listdir(temporary)) == ([], [])


def test_runs_that_wait_wake_one_worker_or_all_of_their_namespace(another: Installation) -> None:
    here, heard = another(), Heard()
    here.subscribe(heard, (Topic.QUEUE,))

    announce_queued(here, [("run-1", "runs-a"), ("run-2", "runs-b"), ("run-3", "runs-a")])
    announce_queued(here, [])
    announce_queued(here, [("run-4", None)])

    assert heard == [(Topic.QUEUE, "runs-a"), (Topic.QUEUE, "runs-b")]
