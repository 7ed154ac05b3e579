"""Crash blame: which run is failed because its output kills the workers that read it. Used by `runs.execute`.

A dead worker proves nothing about the runs that it followed: an operator, the kernel or another run may have killed it, and a
run that prints nothing for hours would be there each time. So presence never counts. A run is blamed only for deaths that
happened while its output was being read: before a worker reads what an adopted attempt has printed, it stores a crash count
that is one higher, and restores the count when that part is read and kept. A worker that dies in between leaves the higher
count to the next owner. An attempt without unread output is never counted, however often its workers are killed.

After the first counted death the run is a suspect. Each worker reads one suspect at a time (`Turn`), so that of several
suspects only the one that kills is counted again. A suspect starts to read after a random pause: a kill loop in step with the
adoptions would hit the same moment each time. After `MAX_READ_CRASHES` deaths in a row the next owner fails the run: an output
that kills every reader would go on to take every other run's worker with it.

Not covered: an agent that kills workers by other means than its output, such as signals. Its time limit ends it.
"""

import threading
import time
from collections.abc import Callable, Mapping

MAX_READ_CRASHES = 5
MAX_START_PAUSE_S = 1.0
# A reader that hangs must not keep the other suspects waiting for ever.
MAX_TURN_WAIT_S = 30.0
_POLL_S = 0.2
# Stored beside the offsets of an attempt. Versions before this one count in `deaths`, by presence: that is not read.
_KEY, _KEY_BEFORE = "readCrashes", "deaths"


class ReadTrial:
    """The reading of an adopted attempt's output, until a line is kept or all that was there has been read.

    `count` is what the store must hold at that moment: the deaths in a row, plus one while the output is being read.
    """

    def __init__(self, offsets: Mapping[str, int], *, adopted: bool) -> None:
        self._crashes = self._stored = self.count = offsets.get(_KEY, 0)
        self.is_open = adopted

    @property
    def is_suspect(self) -> bool:
        """Return whether the last reader died; such a run is read in turn."""
        return self.is_open and self._crashes > 0

    @property
    def is_to_blame(self) -> bool:
        """Return whether the run is failed in place of being read once more."""
        return self.is_open and self._crashes >= MAX_READ_CRASHES

    @property
    def is_changed(self) -> bool:
        """Return whether the store still holds another count than `count`."""
        return self.count != self._stored

    def entry(self) -> dict[str, int]:
        """Return the count to store beside the offsets, and regard it as stored: the caller must store it."""
        self._stored = self.count
        return {_KEY: self.count} if self.count else {}

    def start_part(self) -> None:
        """Raise the count before a part is read, so that a death from now on counts."""
        self.count = self._crashes + 1

    def end_part(self) -> None:
        """Note that a part was read and more is to come. Only a suspect pays for a write after every part."""
        if self._crashes:
            self.count = self._crashes

    def withdraw(self) -> None:
        """Restore the count: the worker lets go of the run in good order."""
        if self.is_open:
            self.count = self._crashes

    def acquit(self) -> None:
        """End the trial: the output was read and the worker lives."""
        self.count, self.is_open = 0, False


class Turn:
    """An execution's claim to the lock that lets one suspect at a time be read in each worker."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._held = False

    def take(self, is_leaving: Callable[[], bool]) -> None:
        """Wait for the lock, unless the worker lets go of the run meanwhile or the wait takes too long."""
        limit = time.monotonic() + MAX_TURN_WAIT_S
        while not self._held and not is_leaving() and time.monotonic() < limit:
            self._held = self._lock.acquire(timeout=_POLL_S)

    def end(self) -> None:
        """Release the lock, if it is held, so that the next suspect is read."""
        if self._held:
            self._held = False
            self._lock.release()


def without_counts(offsets: Mapping[str, int]) -> dict[str, int]:
    """Return the offsets of the streams alone, without the crash counts that are stored beside them."""
    return {name: value for name, value in offsets.items() if name not in (_KEY, _KEY_BEFORE)}
