"""Processes of this machine, told apart by pid and start time: a pid alone belongs to another one day."""

import os
import time
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Clock ticks since boot when a process began; None when there is none with this pid (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def descendants(pid: int) -> list[int]:
    """Everything below a process, zombies left out."""
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
    """Seconds since boot, asleep or not: a clock that nobody sets, and the same for every process of this machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def machine() -> tuple[str, str]:
    """This boot and this namespace of process ids: both hold for as long as a process id means what it means now. Raises
    OSError where there is no /proc."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot.replace("-", "")[:12], os.readlink("/proc/self/ns/pid").strip("pid:[]")
