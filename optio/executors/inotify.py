"""Notifications about growing files: a thin layer over Linux's inotify, which the standard library lacks. Used by
`executors.attempt`."""

import contextlib
import ctypes
import os

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
_DONT_FOLLOW = 0x02000000
_NONBLOCK = 0o4000
_CLOEXEC = 0o2000000
_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """A file descriptor that becomes readable when a watched file or directory changes; `fd` is None if the kernel has no
    watches left."""

    def __init__(self) -> None:
        descriptor = _libc.inotify_init1(_NONBLOCK | _CLOEXEC)
        self.fd: int | None = descriptor if descriptor >= 0 else None

    def watch(self, path: str) -> None:
        """Watch a file, or a directory for files that are written or get their name by a rename. A link is not followed."""
        mask = IN_MODIFY | IN_MOVED_TO | _DONT_FOLLOW
        if self.fd is not None and _libc.inotify_add_watch(self.fd, os.fsencode(path), mask) < 0:
            self.close()  # no watches left: half of the notifications would be as bad as none

    def drain(self) -> None:
        """Discard pending events; those that do not fit make the descriptor readable again."""
        if self.fd is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, 65536)

    def close(self) -> None:
        """Close the descriptor, if it is open."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
