"""Files that only the user who runs Optio may read (the database, secrets, tokens), and who else can read a file.

A mode given to `open` applies to new files only, so the mode of an existing file is set as well. Files of other users are left
as they are. Used by the SQLite driver, the secrets directory, `optio dev` and `optio doctor`.
"""

import grp
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o600
_OTHER_USERS_BITS = stat.S_IRWXG | stat.S_IRWXO


def write(path: Path, data: bytes) -> None:
    """Replace the file by one of mode 0600, atomically; raise OSError. A symbolic link is replaced, not followed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def create(path: Path) -> None:
    """Make an empty file of mode 0600 where there is none; raise OSError."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))


def narrow(path: Path) -> bool:
    """Remove the rights of others from a regular file of this user; return False if others still have some.

    The file is not opened: closing a descriptor would release the locks that SQLite has on it in this process.
    """
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or not found.st_mode & _OTHER_USERS_BITS:
            return True
        if found.st_uid != os.geteuid():
            return False
        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHER_USERS_BITS)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def readers(path: Path) -> str | None:
    """Return who besides its owner can read a file, or use a directory: `every user`, `the group NAME`, or None.

    None also for files of other users and on read-only mounts, such as a mounted Kubernetes secret: whoever mounted it decides
    who reads it. Directories above count: a readable file in a closed directory is read by nobody.
    """
    try:
        real = Path(os.path.realpath(path))
        found = real.stat()
        if found.st_uid != os.geteuid() or os.statvfs(real).f_flag & os.ST_RDONLY:
            return None
        above = [parent.stat() for parent in real.parents]
    except OSError:
        return None
    read, of_group = stat.S_IROTH, stat.S_IRGRP
    if stat.S_ISDIR(found.st_mode):
        read, of_group = stat.S_IRWXO, stat.S_IRWXG
    if found.st_mode & read and all(each.st_mode & stat.S_IXOTH for each in above):
        return "every user"
    if not found.st_mode & of_group or not _has_others(found.st_gid, found.st_uid):
        return None
    if all(each.st_mode & (stat.S_IXGRP if each.st_gid == found.st_gid else stat.S_IXOTH) for each in above):
        return f"the group {_group(found.st_gid)}"
    return None


def _has_others(group: int, user: int) -> bool:
    """Return whether a group has another member. By default Debian and Fedora give each user a group of his own, which has
    none."""
    try:
        members = {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(group).gr_mem}
    except KeyError:
        members = set()
    members |= {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == group}
    return bool(members - {user})


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
