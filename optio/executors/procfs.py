"""The processes below another one, and the time since boot."""

import os
import time
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return the pids of everything below a process, without zombies."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] not in (b"Z", b"X"):
            parents.setdefault(int(fields[1]), []).append(int(entry))
    found = list(parents.get(pid, ()))
    for each in found:
        found.extend(parents.get(each, ()))
    return found


def uptime() -> float:
    """Return seconds since boot, including sleep, by a clock that nobody sets and that is the same for every process of this
    machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
