"""Trees of files that an agent made, which may be as deep and as closed as it likes. Standard library only: the fork server
loads this module too. Used to count, to give away and to delete what an attempt has left.

A tree is walked with one open directory and `..`, because paths of a deep one are longer than the kernel takes, and a
descriptor for each level would run out. An agent that moves a directory meanwhile ends the walk there, and leads it nowhere.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY_BITS, _FORMAT_BITS = 0o040000, 0o170000


def is_directory(status: os.stat_result) -> bool:
    """Return whether this is a directory itself, and no link to one."""
    return status.st_mode & _FORMAT_BITS == _DIRECTORY_BITS


def walk(top: str) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield everything below a directory as (descriptor of its parent, name, stat), a directory after its content. No link is
    followed. A directory that is closed to its owner is opened first."""
    try:
        place = os.open(top, _DIRECTORY)
    except OSError:
        return
    # Of each directory on the way: its name above, its stat, and the names in it that are still to be seen.
    way = [("", os.fstat(place), _names(place))]
    try:
        while way:
            name, own_name, names = way[-1]
            if names:
                child = names.pop()
                try:
                    status = os.stat(child, dir_fd=place, follow_symlinks=False)
                except OSError:
                    continue  # removed meanwhile
                inner = _open(child, place) if is_directory(status) else None
                if inner is None:
                    yield place, child, status
                    continue
                os.close(place)
                place = inner
                way.append((child, os.fstat(place), _names(place)))
                continue
            way.pop()
            if not way:
                return
            parent = os.open("..", _DIRECTORY, dir_fd=place)
            os.close(place)
            place = parent
            if not os.path.samestat(os.fstat(place), way[-1][1]):
                return
            yield place, name, own_name
    except OSError:
        return
    finally:
        os.close(place)


def delete_tree(top: str) -> None:
    """Delete a directory with everything below it. Never raises."""
    for place, name, status in walk(top):
        try:
            (os.rmdir if is_directory(status) else os.unlink)(name, dir_fd=place)
        except OSError:
            continue
    try:
        os.rmdir(top)
    except OSError:
        return


def _names(place: int) -> list[str]:
    try:
        return os.listdir(place)
    except OSError:
        return []


def _open(name: str, place: int) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=place)
    except PermissionError:
        pass
    except OSError:
        return None
    try:
        closed = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        try:
            os.chmod(f"/proc/self/fd/{closed}", 0o700)
        finally:
            os.close(closed)
        return os.open(name, _DIRECTORY, dir_fd=place)
    except OSError:
        return None
