"""Work among processes: what one does not bring is done by its parent, and none of them outlives it."""

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from optio.cli.shared.process_pool import map_in_forks

ITEMS = [f"{n}" for n in range(11)]


def flat(parts: list[list[str]]) -> list[str]:
    return sorted((item for part in parts for item in part), key=int)


@pytest.mark.parametrize("jobs", [1, 2, 3, 11, 20])
def test_every_item_is_done_once(jobs: int) -> None:
    assert flat(map_in_forks(ITEMS, jobs, list)) == ITEMS


def test_shares_are_done_by_other_processes() -> None:
    pids = map_in_forks(ITEMS, 3, lambda share: [str(os.getpid())])

    assert len({pid for (pid,) in pids}) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_share_of_a_killed_process_is_done_by_its_parent(number: int) -> None:
    parent = os.getpid()

    def work(share: Sequence[str]) -> list[str]:
        if os.getpid() != parent:
            os.kill(os.getpid(), number)
        return list(share)

    assert flat(map_in_forks(ITEMS, 3, work)) == ITEMS


def test_a_mistake_in_another_process_is_one_of_the_parent() -> None:
    def work(share: Sequence[str]) -> list[str]:
        if "4" in share:
            raise ZeroDivisionError
        return list(share)

    with pytest.raises(ZeroDivisionError):
        map_in_forks(ITEMS, 3, work)


def test_where_no_process_can_be_started_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fork", refused)

    assert flat(map_in_forks(ITEMS, 4, list)) == ITEMS
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_goes_on_when_somebody_has_lost_patience(tmp_path: Path) -> None:
    parent = os.getpid()
    started, said = os.pipe()

    def work(share: Sequence[str]) -> list[str]:
        if os.getpid() != parent:
            os.write(said, b"%9d" % os.getpid())
            signal.pause()
        pids.extend(int(os.read(started, 9)) for _ in range(2))
        raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        map_in_forks(ITEMS, 3, work)

    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_that_is_being_started_is_ended_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []
    fork = os.fork

    def interrupted() -> int:
        pid = fork()
        if pid:
            pids.append(pid)
            # Of this thread: the command line has no other, and one that waits would take the signal of a process.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return pid

    def work(share: Sequence[str]) -> list[str]:
        signal.pause()
        return list(share)

    monkeypatch.setattr(os, "fork", interrupted)
    with pytest.raises(KeyboardInterrupt):
        map_in_forks(ITEMS, 3, work)

    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_who_ignores_the_end_of_children_gets_their_results() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert flat(map_in_forks(ITEMS, 3, list)) == ITEMS
    finally:
        signal.signal(signal.SIGCHLD, before)
