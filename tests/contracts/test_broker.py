"""What every broker must do: hints reach everyone once, never raise, never block. Today there is one: local sockets."""

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optio.broker.base import Broker, Topic
from optio.broker.local import LocalBroker
from tests.support import ROOT, eventually

Opener = Callable[[], Broker]


@pytest.fixture(params=["local"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens brokers of one installation: each is another process's."""
    opened: list[Broker] = []

    def make() -> Broker:
        opened.append({"local": LocalBroker}[request.param](tmp_path / "bus"))
        return opened[-1]

    yield make
    for broker in opened:
        broker.close()


class Heard(list[tuple[Topic, str]]):
    """A listener that remembers."""

    def __call__(self, topic: Topic, key: str) -> None:
        self.append((topic, key))


def test_a_hint_reaches_listeners_here_and_in_every_other_process_once(another: Opener) -> None:
    here, there, elsewhere = another(), another(), another()
    heard = [Heard() for _ in range(4)]
    for broker, listener in zip((here, here, there, elsewhere), heard, strict=True):
        broker.subscribe(listener, Topic)

    here.tell(Topic.RUN, "run-1")
    here.tell(Topic.QUEUE)

    eventually(lambda: all(len(each) == 2 for each in heard))
    assert heard == [[(Topic.RUN, "run-1"), (Topic.QUEUE, "")]] * 4


def test_a_process_that_comes_later_hears_what_is_told_then(another: Opener) -> None:
    first = another()
    first.tell(Topic.QUEUE, "before")
    second, heard = another(), Heard()
    second.subscribe(heard, Topic)

    first.tell(Topic.QUEUE, "after")

    eventually(lambda: heard)
    assert heard == [(Topic.QUEUE, "after")]


def test_whoever_has_unsubscribed_hears_nothing_more(another: Opener) -> None:
    broker, heard, other = another(), Heard(), Heard()
    unsubscribe = broker.subscribe(heard, Topic)
    broker.subscribe(other, Topic)

    unsubscribe()
    unsubscribe()
    broker.tell(Topic.QUEUE)

    assert (heard, other) == ([], [(Topic.QUEUE, "")])


def test_a_listener_that_fails_harms_no_other_and_not_the_sender(another: Opener) -> None:
    here, there = another(), another()
    heard = [Heard(), Heard()]

    def broken(topic: Topic, key: str) -> None:
        raise RuntimeError("a mistake")

    for broker, listener in zip((here, there), heard, strict=True):
        broker.subscribe(broken, Topic)
        broker.subscribe(listener, Topic)

    here.tell(Topic.CANCEL, "x")
    here.tell(Topic.CANCEL, "y")

    eventually(lambda: len(heard[1]) == 2)
    assert heard == [[(Topic.CANCEL, "x"), (Topic.CANCEL, "y")]] * 2


def test_a_listener_that_is_slow_holds_up_nobody_in_another_process(another: Opener) -> None:
    here, there = another(), another()
    free = threading.Event()
    there.subscribe(lambda topic, key: free.wait(20) and None, Topic)

    for number in range(5000):
        here.tell(Topic.RUN, str(number))
    free.set()


def test_telling_many_from_many_threads_loses_nothing_here_and_repeats_nothing_there(another: Opener) -> None:
    here, there = another(), another()
    heard, other = Heard(), Heard()
    here.subscribe(heard, Topic)
    there.subscribe(other, Topic)
    threads = [
        threading.Thread(target=lambda n=n: [here.tell(Topic.RUN, f"{n}-{i}") for i in range(50)])  # type: ignore[misc]
        for n in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(heard)) == len(heard) == 400
    assert max(Counter(other).values(), default=1) == 1


def test_after_close_telling_and_closing_again_are_harmless(another: Opener) -> None:
    broker, other, heard = another(), another(), Heard()
    other.subscribe(heard, Topic)

    broker.close()
    broker.close()
    broker.tell(Topic.QUEUE)
    other.tell(Topic.RUN, "x")

    assert heard == [(Topic.RUN, "x")]


# The local broker


def test_sockets_of_processes_that_were_killed_are_cleared_away(tmp_path: Path) -> None:
    source = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from optio.broker.local import LocalBroker
broker = LocalBroker(Path({str(tmp_path / "bus")!r}))
print("up", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait()
    process.stdout.close()
    broker = LocalBroker(tmp_path / "bus")
    before = len(os.listdir(tmp_path / "bus"))

    broker.tell(Topic.QUEUE)
    after = len(os.listdir(tmp_path / "bus"))
    broker.close()

    assert (before, after, os.listdir(tmp_path / "bus")) == (2, 1, [])


@pytest.mark.parametrize("message", [b"", b"nonsense", b"queue", b"\xff\xfe \0", b"x" * 4096, b"run " + b"k" * 4000])
def test_a_forged_message_ends_nothing(tmp_path: Path, message: bytes) -> None:
    broker, heard = LocalBroker(tmp_path / "bus"), Heard()
    broker.subscribe(heard, Topic)
    (name,) = os.listdir(tmp_path / "bus")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, str(tmp_path / "bus" / name))
        sender.sendto(b"run real", str(tmp_path / "bus" / name))

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
