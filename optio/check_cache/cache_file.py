"""The cache on disk: one index file per task tree, replaced as a whole. The file carries a digest of its own content; one that
does not match, is too large, or could have been written by another user is ignored, and the tree is checked from scratch."""

import os
import stat
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from optio.check_cache.entries import CacheEntry, pack_entries, unpack_entries

_MAGIC = b"optio checking 1\n"
_SUFFIX, _UNFINISHED = ".index", ".unfinished"
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_INDEX_BYTES = 512 << 20
# Limits on the indexes of all trees together; the newest are kept.
_MAX_FILES, _MAX_TOTAL_BYTES = 64, 512 << 20
_MAX_AGE_S, _MAX_UNFINISHED_AGE_S = 30 * 86_400, 3_600
_TOUCH_AFTER_S = 86_400


class CacheDirectory:
    """The index files of one directory. `cache_key` is part of each file's name: after an upgrade of Optio or of a library the
    old files are simply not found, and `_tidy` deletes them later."""

    def __init__(self, directory: Path, made_with: bytes) -> None:
        self._directory, self._made_with = directory, made_with

    def load(self, root: Path) -> dict[str, CacheEntry]:
        """Return the entries of a tree's files by relative path, or nothing when the index is missing, damaged or unsafe to
        read."""
        path = self._path(root)
        try:
            data = _read(path)
            head = len(_MAGIC) + sha256().digest_size
            if data is None or data[:head] != _MAGIC + sha256(memoryview(data)[head:]).digest():
                return {}
            kept = unpack_entries(data[head:])
        except (OSError, ValueError):
            return {}
        return kept

    def save(self, root: Path, kept: Mapping[str, CacheEntry]) -> str | None:
        """Replace the index of a tree. Returns None, or the reason when it cannot be written; then the next command starts from
        scratch."""
        data = pack_entries(kept)
        path = self._path(root)
        unfinished = path.with_name(f".{path.name}.{os.urandom(6).hex()}{_UNFINISHED}")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _write(unfinished, _MAGIC + sha256(data).digest() + data)
                os.replace(unfinished, path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            self._tidy(path)
        except OSError as err:
            return err.strerror or str(err)
        return None

    def _path(self, root: Path) -> Path:
        name = sha256(self._made_with + b"\n" + os.fsencode(os.path.realpath(root))).hexdigest()
        return self._directory / f"{name[:40]}{_SUFFIX}"

    def _tidy(self, newest: Path) -> None:
        now, files, size = time.time(), 0, 0
        found = []
        for entry in os.scandir(self._directory):
            if entry.name.endswith((_SUFFIX, _UNFINISHED)) and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found.append((entry.path != str(newest), -status.st_mtime, entry.path, status.st_size))
        for _, negative, path, length in sorted(found):
            age, unfinished = now + negative, path.endswith(_UNFINISHED)
            if not unfinished:
                files, size = files + 1, size + length
            too_old = age > (_MAX_UNFINISHED_AGE_S if unfinished else _MAX_AGE_S)
            if path != str(newest) and (too_old or files > _MAX_FILES or size > _MAX_TOTAL_BYTES):
                Path(path).unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    """Read a file that no other user can have written, else return None. Touches it once a day, so that `_tidy` sees it is in
    use."""
    descriptor = os.open(path, _FLAGS)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return None
        if status.st_size > _MAX_INDEX_BYTES:
            return None
        if time.time() - status.st_mtime > _TOUCH_AFTER_S:
            os.utime(descriptor)
        return file.read()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
