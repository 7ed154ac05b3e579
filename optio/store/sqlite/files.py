"""A watch on an SQLite database's three files: whether they are still the ones that were opened. `sqlite_store` asks around
each commit.

SQLite keeps writing into a file that was deleted, moved or covered by another mount, and every commit succeeds, but its rows
are never found again. A `stat` of each path, compared with device and inode at the opening, tells.
"""

import logging
import os
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path

log = logging.getLogger(__name__)
# Longer than two seconds, in which every worker and scheduler uses the database and so notices.
_OTHERS_WAIT_S = 3.0
_Identity = tuple[int, int] | None


class FileState(Enum):
    """The state of the three files, compared with when they were opened."""

    INTACT = "intact"
    GONE = "gone"
    """There is no database at its path."""
    REPLACED = "replaced"
    """Another file is at the database's path."""
    WAL_GONE = "wal_gone"
    """Only the write-ahead log was deleted: the open connection still has it."""
    INCOMPLETE = "incomplete"
    """The log was replaced, or the file of the locks (`-shm`) is another or gone."""


class DatabaseFiles:
    """The database at `path`, its log and its shared memory, as they were when `record` was called. For any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._paths = (str(path), f"{path}-wal", f"{path}-shm")
        self._recorded: tuple[_Identity, ...] = (None, None, None)

    def record(self) -> None:
        """Remember the files as they are now; a connection that has read must be open, so that all three exist."""
        self._recorded = tuple(_identity(path) for path in self._paths)

    def state(self) -> FileState:
        """Compare the files with those that were recorded; this takes some microseconds."""
        identities = tuple(map(_identity, self._paths))
        if identities == self._recorded:
            return FileState.INTACT
        (database, wal, shm), (first, first_wal, first_shm) = identities, self._recorded
        if database != first:
            return FileState.GONE if database is None else FileState.REPLACED
        if wal is None and first_wal is not None and shm == first_shm:
            return FileState.WAL_GONE
        return FileState.INCOMPLETE

    def explain(self, state: FileState) -> str:
        """Return what happened to the files, and what a person should do."""
        path = self._path
        return {
            FileState.INTACT: f"the database {path} is there",
            FileState.GONE: f"the database {path} cannot be used: it was deleted or moved while in use, or its volume is not "
            "mounted: put it back, or restart Optio to begin with an empty one",
            FileState.REPLACED: f"the database {path} was replaced while in use: start Optio again",
            FileState.WAL_GONE: f"the log {path}-wal was deleted while in use: stop every Optio process that uses {path}, "
            "then start them again",
            FileState.INCOMPLETE: f"{path}-wal or {path}-shm was deleted or replaced while in use: stop every Optio process "
            f"that uses {path}, then start them again",
        }[state]

    def set_aside(self) -> None:
        """Rename the log and the shared memory of a database that was replaced: the next process to open the new file would
        apply the old file's log to it."""
        for path, recorded in zip(self._paths[1:], self._recorded[1:], strict=True):
            if recorded is not None and _identity(path) == recorded:
                with suppress(OSError):
                    os.replace(path, f"{path}.replaced")
                    log.warning("%s belongs to the database that was replaced: it is now %s.replaced", path, path)

    def may_reopen(self) -> bool:
        """Return whether a deleted log is no longer in use by any process, for one that has closed it. The last to close it
        removes the `-shm` file, and the first to come back begins a new log."""
        database, wal, shm = (_identity(path) for path in self._paths)
        return database == self._recorded[0] and (wal is not None or shm is None)

    def await_others(self) -> None:
        """Wait up to three seconds, before the database is opened, while others may still have a deleted log open: they notice,
        save what it holds, and close it. A crash in the middle of a close leaves the same files."""
        limit = time.monotonic() + _OTHERS_WAIT_S
        while time.monotonic() < limit:
            database, wal, shm = (_identity(path) for path in self._paths)
            if database is None or shm is None or wal is not None:
                return
            time.sleep(0.05)


def _identity(path: str) -> _Identity:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
