"""Wake-ups for files that grow: a thin layer over Linux's inotify."""

import contextlib
import ctypes
import os

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
_NONBLOCK = 0o4000
_CLOEXEC = 0o2000000
_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """A file descriptor that becomes readable when a watched directory changes; None when the kernel has none left."""

    def __init__(self) -> None:
        descriptor = _libc.inotify_init1(_NONBLOCK | _CLOEXEC)
        self.fd: int | None = descriptor if descriptor >= 0 else None

    def watch(self, directory: str) -> None:
        """Wake when a file in a directory is written or gets its name by a rename."""
        mask = IN_MODIFY | IN_MOVED_TO
        if self.fd is not None and _libc.inotify_add_watch(self.fd, os.fsencode(directory), mask) < 0:
            self.close()  # no watches left: half of the wake-ups is as good as none

    def drain(self) -> None:
        """Forget wake-ups; what is left over wakes again."""
        if self.fd is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, 65536)

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
