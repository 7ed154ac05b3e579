"""Source trees: named files that the compiler reads. `DirectoryTree` is the only place where it touches a disk, and it never
reads outside the root: no link that leads out, no `..`, no device, and no pipe that would block."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

SUFFIXES = (".yaml", ".yml")
MAX_FILE_BYTES = 1 << 20
MAX_DIRECTORIES = 64
# A pipe or a device must not block the compiler, and a link is never followed unseen.
FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
ESCAPES = "is a link that leads out of the task tree"
HIDDEN_HINT = "name a file that is not hidden: hidden ones, such as the data directory with its secrets, are never read"


class Unreadable(Exception):
    """A file of the tree cannot be read. `code` is the rule of the finding that it becomes, and `message` continues a sentence
    about the file."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        self.code, self.message, self.hint = code, message, hint
        super().__init__(message)


class MissingFile(Unreadable):
    """A file of the tree does not exist."""

    def __init__(self) -> None:
        super().__init__("OPT115", "does not exist", "write the file; its path is relative to this one")


class SourceTree(Protocol):
    """A tree of named files. Paths are POSIX and relative to the root."""

    def task_files(self) -> Iterator[str]:
        """Yield the path of every YAML file, sorted. Each is compiled as a task, a base or the policy."""
        ...

    def read(self, path: str) -> bytes:
        """Return the file's bytes. Raises Unreadable with the rule and the reason."""
        ...


class MemoryTree:
    """A tree in memory, for tests and for files that a client sends. Texts are encoded as UTF-8."""

    def __init__(self, files: Mapping[str, bytes | str]) -> None:
        self._files = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}

    def task_files(self) -> Iterator[str]:
        yield from sorted(path for path in self._files if path.endswith(SUFFIXES))

    def read(self, path: str) -> bytes:
        try:
            return self._files[os.path.normpath(path)]
        except KeyError:
            raise MissingFile from None


class OverlayTree:
    """A tree with some files replaced, or removed where the change is None: the tree as it would be after an edit."""

    def __init__(self, below: SourceTree, changes: Mapping[str, bytes | None]) -> None:
        self._below, self._changes = below, changes

    def task_files(self) -> Iterator[str]:
        names = set(self._below.task_files()) | {p for p in self._changes if p.endswith(SUFFIXES)}
        yield from sorted(name for name in names if self._changes.get(name, b"") is not None)

    def read(self, path: str) -> bytes:
        if path in self._changes:
            data = self._changes[path]
            if data is None:
                raise MissingFile
            return data
        return self._below.read(path)


class ReadOnceTree:
    """A tree in which each file is read at most once, so that the content that was checked is the content that is fixed."""

    def __init__(self, below: SourceTree) -> None:
        self._below = below
        self._paths: tuple[str, ...] | None = None
        self._read: dict[str, bytes | Unreadable] = {}

    def task_files(self) -> Iterator[str]:
        if self._paths is None:
            self._paths = tuple(self._below.task_files())
        yield from self._paths

    def read(self, path: str) -> bytes:
        if path not in self._read:
            try:
                self._read[path] = self._below.read(path)
            except Unreadable as err:
                self._read[path] = err
        found = self._read[path]
        if isinstance(found, Unreadable):
            raise found
        return found


class DirectoryTree:
    """The files below a directory. `only` limits the task files to these relative paths."""

    def __init__(self, root: Path, only: list[str] | None = None) -> None:
        self.root = root
        self._real = os.path.realpath(root)
        self._only = only
        self._good_directories: set[str] = set()

    def task_files(self) -> Iterator[str]:
        """Yield the YAML files, sorted, without hidden files and directories. A directory that cannot be listed, and a link to
        a directory elsewhere, are yielded themselves; reading them raises the reason."""
        if self._only is not None:
            yield from self._only
            return
        yield from sorted(self._walk(str(self.root), ""))

    def _walk(self, directory: str, prefix: str) -> Iterator[str]:
        try:
            entries = list(os.scandir(directory))
        except (FileNotFoundError, NotADirectoryError):  # it vanished during the scan
            return
        except OSError:
            yield prefix.rstrip("/") or "."
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if prefix.count("/") < MAX_DIRECTORIES:
                    yield from self._walk(entry.path, f"{prefix}{entry.name}/")
                else:
                    yield prefix + entry.name
            elif entry.name.endswith(SUFFIXES) or (entry.is_symlink() and leads_to_other_files(self._real, entry.path)):
                yield prefix + entry.name

    def read(self, path: str) -> bytes:
        """Return the file's bytes, at most 1 MiB. Raises Unreadable for links out of the tree, hidden targets, devices and
        pipes."""
        if path.startswith(("/", "~")) or ".." in path.split("/"):
            raise Unreadable("OPT115", "leads out of the task tree", "give a path below the task file")
        if path.count("/") >= MAX_DIRECTORIES:
            raise Unreadable("OPT014", f"is deeper than {MAX_DIRECTORIES} directories", "move it up")
        try:
            descriptor = self._open(os.path.join(str(self.root), path))
        except (FileNotFoundError, NotADirectoryError, ValueError):  # no file name holds a NUL or a lone surrogate
            raise MissingFile from None
        except OSError as err:
            raise Unreadable("OPT706", f"cannot be read: {err.strerror}", "check its permissions") from err
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("OPT706", "is not a regular file", "only regular files are read")
            if status.st_size > MAX_FILE_BYTES:
                raise Unreadable("OPT014", f"is larger than {MAX_FILE_BYTES >> 20} MiB", "split it")
            return _read_all(descriptor, status.st_size)
        except OSError as err:
            raise Unreadable("OPT706", f"cannot be read: {err.strerror}", "check the disk") from err
        finally:
            os.close(descriptor)

    def _open(self, full: str) -> int:
        """Open a regular file in a directory that is really below the root. A link is opened by the path that it leads to."""
        directory = os.path.dirname(full)
        if directory not in self._good_directories:
            self._refuse(os.path.realpath(directory), directory)
            self._good_directories.add(directory)
        try:
            return os.open(full, FLAGS)
        except OSError as err:
            if err.errno != errno.ELOOP:
                raise
        real = os.path.realpath(full)
        if os.path.isdir(real):
            raise Unreadable("OPT706", "is a link to a directory, whose files are not read", "replace it by a copy")
        self._refuse(real, full)
        return os.open(real, FLAGS)

    def _refuse(self, real: str, path: str) -> None:
        """Raise Unreadable if a link leads out of the tree, or from `path` to a hidden file inside it."""
        top = self._real.rstrip(os.sep)
        if real != self._real and not real.startswith(top + os.sep):
            raise Unreadable("OPT706", ESCAPES, "copy the file into the tree")
        hidden = {part for part in real[len(top) :].split(os.sep) if is_hidden(part) and not part.startswith("..")}
        # Kubernetes mounts files as links through `..data`. A hidden directory named by the user is allowed.
        if hidden and not hidden <= set(os.path.relpath(path, str(self.root)).split(os.sep)):
            raise Unreadable("OPT706", "is a link to a hidden file", HIDDEN_HINT)


def is_hidden(part: str) -> bool:
    """Return True if one part of a path is the name of a hidden file or directory."""
    return part.startswith(".") and part not in (".", "..")


def leads_to_other_files(root: str, link: str) -> bool:
    """Return True if a link leads to a directory that a walk through `root` (a real path) does not visit."""
    real = os.path.realpath(link)
    inside = real == root or real.startswith(root.rstrip(os.sep) + os.sep)
    hidden = inside and any(part.startswith(".") for part in real[len(root) :].split(os.sep))
    return (not inside or hidden) and os.path.isdir(real)


def _read_all(descriptor: int, size: int) -> bytes:
    """Read the file, including what is appended meanwhile; the next stage refuses a file that has become too large."""
    parts = []
    while part := os.read(descriptor, size + 1):
        parts.append(part)
        if sum(map(len, parts)) > MAX_FILE_BYTES:
            break
    return b"".join(parts)
