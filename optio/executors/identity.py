"""The user of an attempt: one of a pool, if the worker is root. Standard library only: the fork server loads this module.

No two running attempts have the same one, whatever installation of this machine they belong to: whoever has a user holds a lock
on a file with its number. The kernel releases it when the supervisor and the attempt's first process are gone.
"""

from __future__ import annotations

import ctypes
import errno
import os

from optio.executors.trees import is_directory, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# One directory for all installations of a machine. It need not outlive a restart.
LOCKS = "/run/optio-users"
_LOCK_EX, _LOCK_NB = 2, 4
# The group may pass, and see nothing.
_PASSAGE = 0o710
# Found by its name once, not in each supervisor.
_flock = ctypes.CDLL(None, use_errno=True).flock


def take_user(first: int, last: int) -> int:
    """Return a number from the pool that nobody else has until this process and its forks are gone. The first belongs to no
    user: it is the group of all. Raises OSError."""
    count = last - first
    for step in range(count):
        user = first + 1 + (os.getpid() + step) % count
        lock = _open_lock(f"{LOCKS}/{user}")
        if _flock(lock, _LOCK_EX | _LOCK_NB) == 0:
            return user  # the descriptor stays open, and with it the lock
        os.close(lock)
    raise BlockingIOError(errno.EAGAIN, "every user of OPTIO_SANDBOX_UIDS runs an attempt")


def _open_lock(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(LOCKS, 0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def give(launch: dict[str, Any], first: int, last: int) -> None:
    """Make the directories of an attempt, with what the worker and earlier users of the pool have put there, its user's own.
    Whatever belongs to another one is left alone: a hard link would give away the file of somebody else. The way to them is
    opened to the pool. Raises OSError."""
    user = launch["user"]
    # The worker links these, to read on whatever becomes of their names. It has just written them, and followed no link.
    files = [os.lstat(path) for path in launch["files"]]
    for directory in launch["own"]:
        for place, name, found in walk(directory):
            ours = is_directory(found) or found.st_nlink == 1 or any(os.path.samestat(found, each) for each in files)
            if found.st_uid != user and (first <= found.st_uid <= last or (found.st_uid == 0 and ours)):
                os.chown(name, user, user, dir_fd=place, follow_symlinks=False)
        os.chown(directory, user, user, follow_symlinks=False)
    for directory in launch["way"]:
        os.chown(directory, 0, first, follow_symlinks=False)
        os.chmod(directory, _PASSAGE)
    for directory in launch["roots"] if launch["way"] else ():
        os.chown(directory, 0, user, follow_symlinks=False)
        os.chmod(directory, _PASSAGE)


def close_way(launch: dict[str, Any]) -> None:
    """Close the directories of an attempt that has ended: the next one with its number is somebody else. Raises OSError."""
    for directory in launch["roots"] if launch["way"] else ():
        os.chmod(directory, 0o700)


def become(user: int, first: int) -> None:
    """Give this process, which is root's, to a user, with no group but the pool's and no capability. Raises OSError."""
    os.setgroups([first])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def become_words(user: int) -> list[str]:
    """Return the words that do the same before a program, where bubblewrap starts it."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all", "--"]
