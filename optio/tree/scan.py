"""Looks: what a directory holds, told by signs alone, without reading a file. Used by hot reload."""

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
    """A directory of the tree cannot be listed; nothing can be said about what it holds."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class TreeScan:
    """Signs by path: times of change, size, inode, device. Those in `racy` are so fresh that they could hide a change."""

    stamps: dict[str, Stamp]
    walked: frozenset[str]
    racy: frozenset[str]
    # Links to directories whose files are not below the tree.
    linked: frozenset[str] = frozenset()

    @property
    def task_files(self) -> list[str]:
        """What a `DirectoryTree` has for task files."""
        return sorted(path for path in self.walked if path.endswith(SUFFIXES) or path in self.linked)


def scan_directory(root: Path, known: Iterable[str] = ()) -> TreeScan:
    """All that is not hidden below `root`, and what of `known` exists besides. Raises Missing."""
    fresh = time.time_ns() - TICK_NS
    linked: set[str] = set()
    signs = dict(_walk(str(root), linked))
    walked = frozenset(signs)
    for path in known:
        if path not in walked and not path.startswith(_OUTSIDE):
            sign = _stamp_at(root / path)
            if sign is not None:
                signs[path] = sign
    return TreeScan(signs, walked, frozenset(path for path, sign in signs.items() if sign[1] > fresh), frozenset(linked))


def _walk(root: str, linked: set[str]) -> Iterable[tuple[str, Stamp]]:
    stack, real = [(root, "")], os.path.realpath(root)
    while stack:
        directory, prefix = stack.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError as err:
            if prefix and isinstance(err, _VANISHED):
                continue
            what = f"the directory `{prefix}`" if prefix else f"the task directory `{os.path.abspath(root)}`"
            why = "does not exist" if isinstance(err, _VANISHED) else f"cannot be listed: {err.strerror}"
            raise MissingDirectory(prefix or ".", f"{what} {why}") from err
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
    """Another one whenever the file is another or was changed, but for changes within one tick of the clock."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


def differences(before: Mapping[str, Stamp | None], now: Mapping[str, Stamp]) -> set[str]:
    """The paths that came, went or changed; an unknown sign (None) equals nothing."""
    return {path for path, sign in now.items() if before.get(path) != sign} | (before.keys() - now.keys())


def rescan(root: Path, before: TreeScan, paths: Iterable[str]) -> TreeScan:
    """The same look with these files looked at anew."""
    signs = dict(before.stamps)
    for path in paths:
        sign = _stamp_at(root / path)
        if sign is None:
            signs.pop(path, None)
        else:
            signs[path] = sign
    return TreeScan(signs, before.walked, before.racy, before.linked)


def is_unchanged(root: Path, before: TreeScan, paths: Iterable[str]) -> bool:
    """Whether these files still have the signs of that look."""
    return all(_stamp_at(root / path) == before.stamps.get(path) for path in paths)


def _stamp_at(path: Path) -> Stamp | None:
    """None where there is no file; a link that leads nowhere has a sign of its own."""
    if path.is_dir() and not path.is_symlink():
        return None
    for follow in (True, False):
        with contextlib.suppress(OSError, ValueError):
            return stamp_of(path.stat(follow_symlinks=follow))
    return None


def directory_identity(root: Path) -> tuple[str, int, int] | None:
    """Which directory the path leads to now: another one after a swap of links or directories; None when there is none."""
    try:
        status = os.stat(root)
        return os.path.realpath(root), status.st_ino, status.st_dev
    except OSError:
        return None


def is_open_for_writing(path: Path) -> bool:
    """Whether a process has the file open for writing: the kernel then refuses a read lease (fcntl(2), F_SETLEASE)."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Whoever opens the file while we hold the lease makes the kernel send a signal: SIGIO, which ends a process, unless
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
    """Whether git is changing the work tree around `root`: its index is locked, and not for longer than `within` seconds."""
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
