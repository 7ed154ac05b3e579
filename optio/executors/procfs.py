"""Processes of this machine, told apart by pid and start time: a pid alone belongs to another one day."""

import os
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Clock ticks since boot when a process began; None when there is none with this pid (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def machine() -> tuple[str, str]:
    """This boot and this namespace of process ids: both hold for as long as a process id means what it means now. Raises
    OSError where there is no /proc."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot.replace("-", "")[:12], os.readlink("/proc/self/ns/pid").strip("pid:[]")
