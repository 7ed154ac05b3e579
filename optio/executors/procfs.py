"""Processes of this machine, identified by pid and start time, because a pid alone will belong to another process one day."""

import os
import time
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None if there is no process with this pid, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


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


def machine() -> tuple[str, str]:
    """Return this boot and this pid namespace: a process id keeps its meaning as long as both stay the same. Raises OSError
    without /proc."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot.replace("-", "")[:12], os.readlink("/proc/self/ns/pid").strip("pid:[]")
