"""Processes of this machine, told apart by pid and start time: a pid alone belongs to another one day."""

from pathlib import Path


def start_time(pid: int) -> int | None:
    """Clock ticks since boot when a process began; None when there is none with this pid (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
