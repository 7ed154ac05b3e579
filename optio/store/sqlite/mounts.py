"""Detection of network file systems: several processes on one SQLite file there lose data, so `optio doctor` and `open_store`
warn."""

import re
from collections.abc import Iterable
from pathlib import Path

_SHARED = ("nfs", "cifs", "smb", "fuse.sshfs", "fuse.glusterfs", "ceph", "lustre", "gpfs", "beegfs", "afs", "ocfs2", "gfs2")
_OCTAL = re.compile(r"\\([0-7]{3})")
_MOUNTS = Path("/proc/self/mountinfo")


def shared_mount_type(path: Path) -> str | None:
    """Return the type of the network file system that holds `path`; None for a local one, and where the system does not say."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    kind = type_of(path.resolve(), lines)
    return kind if kind is not None and kind.startswith(_SHARED) else None


def type_of(path: Path, mountinfo: Iterable[str]) -> str | None:
    """Return the type of the file system of an absolute path, from lines as in proc(5); later mounts cover earlier ones."""
    best, kind = -1, None
    for line in mountinfo:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        # Blanks and the like in a mount point are written in octal: `\040`.
        place = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        depth = len(place.parts)
        if depth >= best and path.is_relative_to(place):
            best, kind = depth, after.split(" ")[0]
    return kind
