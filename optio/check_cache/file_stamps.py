"""Signs: whether a file can have changed, told without reading it.

The times of change, size, inode and device of a file are another whenever its content is, with one exception: two changes
within one tick of the file system's clock leave the same times. So a sign is relied on only where the last change was well
before the sign was taken, as git does it with its index ("racy git"): every later change then has a later tick. A program can
set the time of modification back, but not the time of change (ctime).
"""

import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from optio.compiler.incremental import Stamp
from optio.tree.scan import TICK_NS, stamp_of


class FileStamps:
    """The signs of a directory's files, each taken once: when it is first asked for. Those `without` have none."""

    def __init__(self, root: Path, clock: Callable[[], int] = time.time_ns, *, without: Iterable[str] = ()) -> None:
        self._root = os.path.realpath(root)
        self._fresh = clock() - TICK_NS
        self._known: dict[str, Stamp | None] = dict.fromkeys(without)
        self._directories: dict[str, str | None] = {}

    def of(self, path: str) -> Stamp | None:
        """None where there is nothing to rely on: for what is no plain file, stands behind a link, or has just changed."""
        try:
            return self._known[path]
        except KeyError:
            sign = self._known[path] = self._taken(path)
            return sign

    def _taken(self, path: str) -> Stamp | None:
        directory, _, name = path.rpartition("/")
        try:
            place = self._directories[directory]
        except KeyError:
            place = self._directories[directory] = self._plain(directory)
        if place is None:
            return None
        try:
            status = os.lstat(place + name)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode) or max(status.st_mtime_ns, status.st_ctime_ns) > self._fresh:
            return None
        return stamp_of(status)

    def _plain(self, directory: str) -> str | None:
        """The prefix of its files' names; None behind a link: where that leads may change while the file does not."""
        full = os.path.join(self._root, directory) if directory else self._root
        return full.rstrip("/") + "/" if os.path.realpath(full) == full else None
