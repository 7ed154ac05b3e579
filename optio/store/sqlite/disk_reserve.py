"""A reserve of disk space with which a database works on while its disk is full; `sqlite_store` uses it.

A file beside the database holds the space. When a write finds no room, the file is cut by one step and the write is tried
again: runs can end, leases are renewed, a new start finds room for its log. It is cut in steps, because another program that
fills the disk takes whatever is free. New work is refused until the whole file could be allocated again with as much left free,
so the reserve is never spent on it. The file's size is the state that all processes on the database share, also across
restarts.
"""

import errno
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)
_MAX_SHARE = 16  # the reserve is at most 1/16 of the disk
STEPS = 64
_MIN_STEP_BYTES = 64 << 10
_RETRY_S = 0.5
# The pause between two looks at a disk that had space: if it fills in between, the write itself fails.
_PROBE_INTERVAL_S = 0.02
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class DiskReserve:
    """A reserve of `size` bytes in the file `path`, but at most a sixteenth of the disk; 0 for none. For any thread."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._directory = path.parent
        self._target_size = size
        self._size = -1
        self._usable = True
        self._next_try = 0.0
        self._was_low = False
        self._next_look = 0.0

    @property
    def size(self) -> int:
        """Return the bytes of the whole reserve; the directory must exist."""
        if self._size < 0:
            try:
                file_system = os.statvfs(self._directory)
            except OSError:
                return 0
            self._size = min(self._target_size, file_system.f_frsize * file_system.f_blocks // _MAX_SHARE)
        return self._size

    def held(self) -> int:
        """Return the bytes that the file holds now."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def free(self) -> int:
        """Return the bytes that are free on the disk beside the reserve."""
        try:
            file_system = os.statvfs(self._directory)
        except OSError:
            return 0
        return file_system.f_frsize * file_system.f_bavail

    def is_low(self) -> bool:
        """Return whether new work must be refused. The reserve is allocated again as soon as there is room for it."""
        now = time.monotonic()
        if self.size == 0 or now < self._next_look:
            return False
        low = self._is_low()
        self._next_look = 0.0 if low else now + _PROBE_INTERVAL_S
        if low != self._was_low:
            self._was_low = low
            if low:
                log.error(
                    "the disk of %s is full: new runs are refused until there is space, running ones go on", self._directory
                )
            else:
                log.warning("the disk of %s has space again: new runs are accepted", self._directory)
        return low

    def _is_low(self) -> bool:
        reserved, free = self.held(), self.free()
        missing = self.size - reserved
        if missing > 0 and self._usable:
            return free < missing + self.size or not self._allocate()
        return free < self.size

    def is_half_spent(self) -> bool:
        """Return whether the rest is for the ends of runs alone, and no longer for their output."""
        return self.held() < self.size // 2

    def release(self) -> bool:
        """Give one step back to the disk; return False if nothing was left to give."""
        reserved = self.held()
        self._next_look = 0.0
        if reserved == 0:
            return False
        with suppress(OSError):
            os.truncate(self._path, max(0, reserved - max(_MIN_STEP_BYTES, self.size // STEPS)))
            return True
        return False

    def make_room(self) -> None:
        """Give a step back if next to nothing is free, for the files that a process writes when it starts."""
        if self.size and self.free() < _MIN_STEP_BYTES:
            self.release()

    def _allocate(self) -> bool:
        if time.monotonic() < self._next_try:
            return False
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(file, 0, self.size)
            finally:
                os.close(file)
        except OSError as err:
            if err.errno in _NO_ROOM:  # a quota: the disk itself has room
                self._next_try = time.monotonic() + _RETRY_S
                return False
            # Allocation failed for another reason than space, so the free space alone decides.
            log.warning("no disk space can be reserved in %s: %s", self._directory, err.strerror)
            self._usable = False
        return True
