"""The limits of an attempt on what it uses: bytes and files on the disk, and processes. Standard library only: the fork server
loads this module, and each supervisor asks it whether a limit is exceeded.

All that an agent wrote is counted: directories that it closed, and files that have no name any more but are open or mapped in
one of its processes. Where these cannot be seen, all that its processes have ever written counts. To count takes a while, so it
is rare; but when the disk has lost as much as the attempt may still take, it is done at once. While the disk is nearly full, an
attempt that filled it, or whose use cannot be counted, is ended.
"""

from __future__ import annotations

import os
import time

from optio.executors.trees import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Seconds between two looks at an attempt and between two counts, and the shares of the time that counting may take: usually,
# while the free space falls, and while the disk is nearly full.
LOOK_EVERY_S, COUNT_EVERY_S, COUNT_SHARE, FALL_SHARE, FULL_SHARE = 0.5, 10.0, 0.02, 0.1, 0.4
# The floor of a disk is a sixteenth of it, at most this.
FLOOR_BYTES, FLOOR_FILES = 256 << 20, 1 << 14
_FORMAT_BITS, _REGULAR_BITS = 0o170000, 0o100000


class UsageLimits:
    """The limits of one attempt."""

    def __init__(self, launch: dict[str, Any]) -> None:
        self._roots: list[str] = launch["roots"]
        self._bytes: int = launch["disk"]
        self._files: int = launch["disk_files"]
        self._processes: int = launch["processes"]
        self._refusals: str | None = launch["pids"]
        now = time.monotonic()
        self._next, self._counted_at, self._took = now + LOOK_EVERY_S, now, 0.0
        self._used_bytes = 0
        self._free: int | None = None

    def left(self) -> float:
        """Return the seconds until it is worth asking again."""
        return self._next - time.monotonic()

    def reached(self, pids: list[int]) -> str | None:
        """Return the limit that an attempt with these processes exceeds, if any: `processes`, `disk_quota`, `disk_files` or
        `disk_full`."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + LOOK_EVERY_S
        if sum(map(_threads, pids)) > self._processes or _has_refusals(self._refusals):
            return "processes"
        disk = os.statvfs(self._roots[0])
        free = disk.f_bavail * disk.f_frsize
        floor = min(FLOOR_BYTES, disk.f_blocks * disk.f_frsize // 16)
        file_floor = min(FLOOR_FILES, disk.f_files // 16)
        is_full = free < floor or disk.f_favail < file_floor
        self._free = free if self._free is None else self._free
        has_fallen = self._free - free >= self._bytes - self._used_bytes
        share = FULL_SHARE if is_full else FALL_SHARE if has_fallen else COUNT_SHARE
        rest = 0.0 if is_full or has_fallen else COUNT_EVERY_S
        if now - self._counted_at < max(rest, self._took / share):
            return None
        self._used_bytes, files, is_known = _count(self._roots, pids)
        self._free, self._counted_at = free, time.monotonic()
        self._took = self._counted_at - now
        if self._used_bytes > self._bytes:
            return "disk_quota"
        if files > self._files:
            return "disk_files"
        filled = (
            not is_known or (free < floor and self._used_bytes >= floor) or (disk.f_favail < file_floor and files >= file_floor)
        )
        return "disk_full" if is_full and filled else None

    def reached_at_end(self) -> str | None:
        """Return the limit that an attempt without processes has reached: the kernel lets no file grow beyond it."""
        used_bytes, files, _ = _count(self._roots, [])
        return "disk_quota" if used_bytes >= self._bytes else "disk_files" if files > self._files else None


def _has_refusals(path: str | None) -> bool:
    """Return whether the kernel has refused a process to a cgroup."""
    try:
        return path is not None and int(_read(path).split()[1]) > 0
    except OSError:
        return False


def _threads(pid: int) -> int:
    try:
        return int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[17])
    except (OSError, IndexError):
        return 0


def _count(roots: list[str], pids: list[int]) -> tuple[int, int, bool]:
    """Return the bytes and the number of files that an attempt takes on its disk, and whether that can be all."""
    total = files = 0
    for root in roots:
        for _, _, status in walk(root):
            total += status.st_blocks * 512
            files += 1
    nameless: dict[int, int] = {}
    device = os.stat(roots[0]).st_dev
    is_known = True
    for pid in pids:
        try:
            nameless.update(_open_nameless(pid, device))
            is_known = is_known and _maps_only(pid, device, nameless) and not _sends_files(pid)
        except PermissionError:
            is_known = False
        except OSError:
            continue  # gone
    total += sum(nameless.values())
    return total if is_known else max(total, _written(pids)), files + len(nameless), is_known


def _open_nameless(pid: int, device: int) -> dict[int, int]:
    """Return the bytes of files without a name that a process has open or, if this user may look, mapped, by inode. Raises
    OSError."""
    paths = [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
    paths += [f"/proc/{pid}/map_files/{span}" for span, _ in _mapped_nameless(pid, device)]
    files = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if status.st_nlink == 0 and status.st_dev == device and status.st_mode & _FORMAT_BITS == _REGULAR_BITS:
            files[status.st_ino] = status.st_blocks * 512
    return files


def _mapped_nameless(pid: int, device: int) -> list[tuple[str, int]]:
    lines = [line.split(None, 5) for line in _read(f"/proc/{pid}/maps").splitlines() if line.endswith(b" (deleted)")]
    device_text = b"%02x:%02x" % (os.major(device), os.minor(device))
    return [(span.decode(), int(inode)) for span, _, _, place, inode, _ in lines if place == device_text]


def _maps_only(pid: int, device: int, sizes: dict[int, int]) -> bool:
    return all(inode in sizes for _, inode in _mapped_nameless(pid, device))


def _written(pids: list[int]) -> int:
    """Return the bytes that these processes, and those that this one has reaped, have ever written to disks."""
    total = 0
    for pid in (os.getpid(), *pids):
        try:
            facts = dict(line.split(b": ") for line in _read(f"/proc/{pid}/io").splitlines())
        except OSError:
            continue
        total += int(facts[b"write_bytes"]) - int(facts[b"cancelled_write_bytes"])
    return total


def _sends_files(pid: int) -> bool:
    """Return whether open files are on their way through a socket of a process, where nobody can count them. Raises OSError."""
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        for line in _read(f"/proc/{pid}/fdinfo/{name}").splitlines():
            if line.startswith(b"scm_fds:") and int(line[8:]):
                return True
    return False


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
