"""File stamps: can a file have changed since it was read? Answered with one `lstat`, without reading the file.

Times, size, inode and device differ whenever the content does, with one exception: two changes within one tick of the file
system's clock leave equal times. So, like git with its index ("racy git"), a stamp is used only when the last change was well
before the stamp was taken; every later change then has a later tick. Programs can reset the modification time, but not ctime.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from optio.compiler.incremental import Stamp
from optio.tree.scan import TICK_NS, stamp_of


class FileStamps:
    """The stamps of a directory's files, each taken once, when it is first asked for. Paths in `without` never get one."""

    def __init__(self, root: Path, clock: Callable[[], int] = time.time_ns, *, without: Iterable[str] = ()) -> None:
        self._root = os.path.realpath(root)
        self._fresh = clock() - TICK_NS
        self._known: dict[str, Stamp | None] = dict.fromkeys(without)
        self._places: dict[str, str | None] = {}

    def of(self, path: str) -> Stamp | None:
        """Return the stamp of a file, or None when it proves nothing: not a regular file, behind a symbolic link, or changed
        just now."""
        if path not in self._known:
            self._known[path] = self._take(path)
        return self._known[path]

    def _take(self, path: str) -> Stamp | None:
        directory, _, name = path.rpartition("/")
        if directory not in self._places:
            full = os.path.join(self._root, directory) if directory else self._root
            # None behind a link, whose target may change while the file does not.
            self._places[directory] = full if os.path.realpath(full) == full else None
        place = self._places[directory]
        try:
            status = None if place is None else os.lstat(f"{place}/{name}")
        except (OSError, ValueError):
            return None
        if status is None or not stat.S_ISREG(status.st_mode) or max(status.st_mtime_ns, status.st_ctime_ns) > self._fresh:
            return None
        return stamp_of(status)
