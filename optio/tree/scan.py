"""Scans of a directory by file stamps alone, without reading a file. Used by hot reload, the writer and the language server."""

import contextlib
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from optio.compiler.incremental import Stamp
from optio.compiler.source_tree import SUFFIXES, leads_to_other_files

# Two changes within one tick of a file system's clock leave the same time stamp; the coarsest clocks tick every 2 s.
TICK_NS = 2_000_000_000
_VANISHED = (FileNotFoundError, NotADirectoryError)
_OUTSIDE = ("/", "~", "..")


class MissingDirectory(Exception):
    """Raised when a directory of the tree cannot be listed, so that nothing is known about its content."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class TreeScan:
    """The file stamps of a directory by path: times, size, inode, device. Files in `racy` changed so recently that a further
    change could leave the same stamp, as in git's index."""

    stamps: dict[str, Stamp]
    walked: frozenset[str]
    racy: frozenset[str]
    # Links to directories whose files are not below the tree.
    linked: frozenset[str] = frozenset()

    @property
    def task_files(self) -> list[str]:
        """Return the paths that a `DirectoryTree` takes for task files, in order."""
        return sorted(path for path in self.walked if path.endswith(SUFFIXES) or path in self.linked)


def scan_directory(root: Path, known_paths: Iterable[str] = ()) -> TreeScan:
    """Scan all files below `root` that are not hidden, and those of `known` that exist besides. Raises MissingDirectory."""
    fresh = time.time_ns() - TICK_NS
    linked: set[str] = set()
    stamps = dict(_walk(str(root), linked))
    walked = frozenset(stamps)
    for path in known_paths:
        if path not in walked and not path.startswith(_OUTSIDE):
            stamp = _stamp_at(root / path)
            if stamp is not None:
                stamps[path] = stamp
    return TreeScan(stamps, walked, frozenset(path for path, stamp in stamps.items() if stamp[1] > fresh), frozenset(linked))


def _walk(root: str, linked: set[str]) -> Iterable[tuple[str, Stamp]]:
    stack, real = [(root, "")], os.path.realpath(root)
    while stack:
        directory, prefix = stack.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError as err:
            if prefix and isinstance(err, _VANISHED):
                continue
            subject = f"the directory `{prefix}`" if prefix else f"the task directory `{os.path.abspath(root)}`"
            problem = "does not exist" if isinstance(err, _VANISHED) else f"cannot be listed: {err.strerror}"
            raise MissingDirectory(prefix or ".", f"{subject} {problem}") from err
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    stack.append((entry.path, f"{prefix}{entry.name}/"))
                    continue
                if entry.is_symlink() and leads_to_other_files(real, entry.path):
                    linked.add(prefix + entry.name)
                status = entry.stat()
            except OSError:
                # A link that leads nowhere is still there: the compiler says what is wrong with it.
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
            yield prefix + entry.name, stamp_of(status)


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file. It differs whenever the file was replaced or changed, except within one tick of the clock."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


def differences(before: Mapping[str, Stamp | None], now: Mapping[str, Stamp]) -> set[str]:
    """Return the paths that were added, removed or changed. An unknown stamp (None) equals no other."""
    return {path for path, stamp in now.items() if before.get(path) != stamp} | (before.keys() - now.keys())


def rescan(root: Path, before: TreeScan, paths: Iterable[str]) -> TreeScan:
    """Return the same scan with new stamps of these files."""
    stamps = dict(before.stamps)
    for path in paths:
        stamp = _stamp_at(root / path)
        if stamp is None:
            stamps.pop(path, None)
        else:
            stamps[path] = stamp
    return TreeScan(stamps, before.walked, before.racy, before.linked)


def is_unchanged(root: Path, before: TreeScan, paths: Iterable[str]) -> bool:
    """Return whether these files still have the stamps of that scan."""
    return all(_stamp_at(root / path) == before.stamps.get(path) for path in paths)


def _stamp_at(path: Path) -> Stamp | None:
    """Return the stamp of a file, or None if there is none. A dangling link has a stamp of its own."""
    if path.is_dir() and not path.is_symlink():
        return None
    for follow in (True, False):
        with contextlib.suppress(OSError, ValueError):
            return stamp_of(path.stat(follow_symlinks=follow))
    return None


def directory_identity(root: Path) -> tuple[str, int, int] | None:
    """Return the identity of the directory at this path, which changes when a link or directory is swapped; None if there is
    none."""
    try:
        status = os.stat(root)
        return os.path.realpath(root), status.st_ino, status.st_dev
    except OSError:
        return None


def is_open_for_writing(path: Path) -> bool:
    """Return whether a process has the file open for writing: the kernel then refuses a read lease (fcntl(2), F_SETLEASE)."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # If a process opens the file while the lease is held, the kernel sends a signal: SIGIO, which ends this process, unless
        # another is chosen. SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # not a file system (or not an owner) that knows leases
    finally:
        os.close(descriptor)
    return False


def is_git_running(root: Path, *, within: float) -> bool:
    """Return whether git is changing the work tree around `root`: its index has been locked, but for less than `within`
    seconds."""
    for directory in (root, *root.absolute().parents):
        place = directory / ".git"
        try:
            if place.is_file():  # a linked work tree
                place = directory / place.read_text().removeprefix("gitdir:").strip()
            elif not place.is_dir():
                continue
            return time.time() - (place / "index.lock").stat().st_mtime < within
        except (OSError, ValueError):
            return False
    return False
