"""Share work among forked processes: each gets every nth item and sends its result through a pipe.

A fork shares everything read and loaded before it, so it costs a few milliseconds. If a child is killed or cannot be started,
the parent does its share: a missing process costs time, never results.
"""

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class _Child(NamedTuple):
    pid: int
    pipe: int
    share: Sequence[str]


def map_in_forks(items: Sequence[str], jobs: int, work: Callable[[Sequence[str]], T]) -> list[T]:
    """Return the results of all shares, in no particular order."""
    children: list[_Child] = []
    shares: list[Sequence[str]] = [items[0::jobs]]
    try:
        for number in range(1, jobs):
            share = items[number::jobs]
            try:
                with _sigint_blocked():  # a signal between fork and append would leave a child that no one reaps
                    children.append(_fork_child(share, work))
            except OSError:  # no more processes, or no more open files
                shares.append(share)
        results = [work(share) for share in shares]
        while children:
            child = children[0]
            data = _read_all(child.pipe)
            del children[0]
            _reap(child.pid)
            try:
                results.append(pickle.loads(data))  # noqa: S301 - from a fork of this process
            except (pickle.UnpicklingError, EOFError):  # cut off
                results.append(work(child.share))
        return results
    finally:
        for child in children:  # interrupted: the children are not needed any more
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


def _fork_child(share: Sequence[str], work: Callable[[Sequence[str]], object]) -> _Child:
    read_end, write_end = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(read_end)
        os.close(write_end)
        raise
    if pid:
        os.close(write_end)
        return _Child(pid, read_end, share)
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.close(read_end)
        with os.fdopen(write_end, "wb") as pipe:
            pickle.dump(work(share), pipe, pickle.HIGHEST_PROTOCOL)
    finally:
        os._exit(0)  # the child must not run the parent's exit handlers or flush its buffers


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # with SIGCHLD ignored the kernel reaps it
        os.waitpid(pid, 0)


def _read_all(pipe: int) -> bytes:
    with os.fdopen(pipe, "rb") as file:
        return file.read()
