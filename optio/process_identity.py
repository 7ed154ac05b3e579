"""The identity of a process of this machine: its pid with its start time, because a pid alone will belong to another process
one day. With host, boot and pid namespace before it, the name of a process is unique, and only its own machine can tell whether
it still exists. Used by the executors, which follow agents, and by the store, which keeps a row for each part."""

import contextlib
import os
import socket
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None if there is no process with this pid, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def machine() -> tuple[str, str]:
    """Return this boot and this pid namespace: a process id keeps its meaning as long as both stay the same. Raises OSError
    without /proc."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot.replace("-", "")[:12], os.readlink("/proc/self/ns/pid").strip("pid:[]")


def process_name() -> str:
    """Return the name of this process: `host/boot/namespace:pid:start`."""
    return f"{_machine()}:{os.getpid()}:{start_time(os.getpid())}"


def is_gone(name: str) -> bool:
    """Return whether this is the name of a process of this machine that has ended. Of another machine nothing is known."""
    place, _, began = name.rpartition(":")
    where, _, pid = place.rpartition(":")
    return where == _machine() and pid.isdigit() and str(start_time(int(pid))) != began


def _machine() -> str:
    with contextlib.suppress(OSError):
        return "/".join((socket.gethostname(), *machine()))
    return socket.gethostname()
