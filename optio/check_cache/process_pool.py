"""Work shared among processes: each gets every nth item, and sends back bytes through a pipe.

A fork shares what was read and loaded before it, so it costs a few milliseconds. What a process does not bring, because it was
killed or could not even be started, its parent does itself: a process more or less changes nothing but the time.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class _Child(NamedTuple):
    pid: int
    pipe: int
    share: Sequence[str]


def map_in_forks(
    items: Sequence[str],
    jobs: int,
    work: Callable[[Sequence[str]], T],
    send: Callable[[T], bytes],
    receive: Callable[[bytes], T],
) -> list[T]:
    """The results of all shares. `receive` raises ValueError for bytes that are not whole."""
    children: list[_Child] = []
    mine: list[Sequence[str]] = [items[0::jobs]]
    try:
        for number in range(1, jobs):
            share = items[number::jobs]
            try:
                with _sigint_blocked():  # no process is started that nobody knows of
                    children.append(_fork_child(share, work, send))
            except OSError:  # no more processes, or no more open files
                mine.append(share)
        done = [work(share) for share in mine]
        while children:
            child = children[0]
            data = _read_all(child.pipe)
            del children[0]
            _reap(child.pid)
            try:
                done.append(receive(data))
            except ValueError:
                done.append(work(child.share))
        return done
    finally:
        for child in children:  # somebody has lost patience
            with contextlib.suppress(OSError):
                os.kill(child.pid, signal.SIGKILL)
            _reap(child.pid)
            with contextlib.suppress(OSError):
                os.close(child.pipe)


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fork_child(share: Sequence[str], work: Callable[[Sequence[str]], T], send: Callable[[T], bytes]) -> _Child:
    ours, theirs = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(ours)
        os.close(theirs)
        raise
    if pid:
        os.close(theirs)
        return _Child(pid, ours, share)
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.close(ours)
        with os.fdopen(theirs, "wb") as pipe:
            pipe.write(send(work(share)))
    finally:
        os._exit(0)  # nothing of the parent's is ended or flushed here


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # whoever started us may ignore SIGCHLD: then nothing is left of it
        os.waitpid(pid, 0)


def _read_all(pipe: int) -> bytes:
    with os.fdopen(pipe, "rb") as file:
        return file.read()
