"""Compile a tree again after a change, in the time of the change: the result of a file is reused while the bytes that it was
made from are the same. The server, the language server and `optio check --fix` keep one compiler each."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from optio.compiler.layers import POLICY, Bases
from optio.compiler.pipeline import Compilation, CompiledFile, TreePolicy, assemble, compile_file
from optio.compiler.source_tree import SourceTree, Unreadable
from optio.model.text import slug

Stamp = tuple[int, ...]
_Read = bytes | tuple[str, str]
_LABEL = re.compile(rb"^(id|name):[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _CachedFile:
    read: dict[str, _Read]
    stamps: dict[str, Stamp | None]
    around: tuple[str, ...]
    file: CompiledFile


class IncrementalCompiler:
    """A compiler that keeps the result of each file. Its result equals `compile_tree` for every tree."""

    def __init__(self, *, pedantic: bool = False) -> None:
        self._pedantic = pedantic
        self._kept: dict[str, _CachedFile] = {}
        # For every file that was read, the task files made from it; may include some that no longer are.
        self._users: dict[str, set[str]] | None = None

    def compile(
        self, tree: SourceTree, stamps: Mapping[str, Stamp] | None = None, *, changed_paths: Collection[str] | None = None
    ) -> Compilation:
        """Compile the tree. Mistakes in a file become findings and never exceptions.

        `stamps` maps paths to file stamps (size, times, inode). A file whose stamp is unchanged is not read again, so include
        only stamps that every change alters, taken before this call. A caller that knows every path that came, went or changed
        since the last call, such as an editor, passes them as `changed`; all other files are then taken as unchanged.
        """
        stamps = stamps or {}
        bases, policy = Bases(tree), TreePolicy(tree)
        around: dict[str, tuple[str, ...]] = {}
        touched = None if changed_paths is None else self._touched(changed_paths)
        cached_files: dict[str, _CachedFile] = {}
        for path in tree.task_files():
            directory = path.rpartition("/")[0]
            if directory not in around:
                around[directory] = (*bases.defaults(path), *((POLICY,) if policy.there else ()))
            before = self._kept.get(path)
            if before is not None and before.around == around[directory]:
                if touched is None:
                    before = _revalidate(before, tree, stamps)
                elif path in touched:
                    before = _compare_content(before, tree, stamps)
            else:
                before = None
            cached_files[path] = before or self._compile(path, tree, stamps, bases, policy, around[directory])
        self._kept = cached_files
        return assemble((k.file for k in cached_files.values()), levels=policy.levels, pedantic=self._pedantic)

    def _compile(
        self,
        path: str,
        tree: SourceTree,
        stamps: Mapping[str, Stamp],
        bases: Bases,
        policy: TreePolicy,
        around: tuple[str, ...],
    ) -> _CachedFile:
        recorder = _Recorder(tree)
        file = compile_file(path, recorder, bases, policy, pedantic=self._pedantic)
        if self._users is not None:
            _record_reader(self._users, path, recorder.seen)
        return _CachedFile(recorder.seen, {name: stamps.get(name) for name in recorder.seen}, around, file)

    def _touched(self, changed_paths: Collection[str]) -> set[str]:
        """Return the task files that were made from any of these paths."""
        if self._users is None:
            self._users = {}
            for path, cached in self._kept.items():
                _record_reader(self._users, path, cached.read)
        return {user for path in changed_paths for user in self._users.get(path, ())}

    def known(self) -> dict[str, bytes | None]:
        """Return every path that the last compilation read or tried to read, with its bytes (None where the read failed)."""
        return {
            path: data if isinstance(data, bytes) else None
            for cached in self._kept.values()
            for path, data in cached.read.items()
        }

    def unserved(self, compilation: Compilation) -> dict[str, str | None]:
        """Return the files of the last compilation that yielded no task, each with the id that it probably means."""
        paths = {task.origin.path for task in compilation.registry.tasks.values()}
        return {
            path: _guess_id(path, cached) for path, cached in self._kept.items() if path not in paths and not cached.file.base
        }


def _record_reader(users: dict[str, set[str]], path: str, paths: Iterable[str]) -> None:
    for name in paths:
        users.setdefault(name, set()).add(path)


def _revalidate(cached: _CachedFile, tree: SourceTree, stamps: Mapping[str, Stamp]) -> _CachedFile | None:
    """Return the cached file if everything that it was made from is unchanged, by its stamps or else by its content."""
    for path, stamp in cached.stamps.items():
        if stamp is None or stamps.get(path) != stamp:
            return _compare_content(cached, tree, stamps)
    return cached


def _compare_content(cached: _CachedFile, tree: SourceTree, stamps: Mapping[str, Stamp]) -> _CachedFile | None:
    current = {path: stamps.get(path) for path in cached.read}
    for path, stamp in current.items():
        if (stamp is None or stamp != cached.stamps[path]) and _read(tree, path) != cached.read[path]:
            return None
    return replace(cached, stamps=current)


def _read(tree: SourceTree, path: str) -> _Read:
    try:
        return tree.read(path)
    except Unreadable as err:
        return err.code, err.message


def _guess_id(path: str, cached: _CachedFile) -> str | None:
    """Return the id that a broken file probably means: from its decoded task, or else from a line `id:` or `name:`."""
    task = cached.file.task
    if task is not None:
        return task.id if task.is_known(("id",) if task.spec.id else ("name",)) else None
    data = cached.read.get(path)
    if not isinstance(data, bytes):
        return None
    labels = {label: value.strip(b"'\"").decode("utf-8", "replace") for label, value in _LABEL.findall(data)}
    return labels.get(b"id") or slug(labels.get(b"name", "")) or None


class _Recorder:
    """A tree that records which files are read through it, and their content."""

    def __init__(self, tree: SourceTree) -> None:
        self._tree = tree
        self.seen: dict[str, _Read] = {}

    def task_files(self) -> Iterator[str]:
        return self._tree.task_files()

    def read(self, path: str) -> bytes:
        try:
            data = self._tree.read(path)
        except Unreadable as err:
            self.seen[path] = (err.code, err.message)
            raise
        self.seen[path] = data
        return data
