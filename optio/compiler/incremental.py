"""Compile again what changed: a file's result is kept as long as the bytes it was made from are the same."""

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
    """Equal to `compile_tree` for every tree, in the time of what changed."""

    def __init__(self, *, careful: bool = False) -> None:
        self._careful = careful
        self._kept: dict[str, _CachedFile] = {}
        # Of every file that was read, the task files that were made from it, and perhaps some that no longer are.
        self._users: dict[str, set[str]] | None = None

    def compile(
        self, tree: SourceTree, signs: Mapping[str, Stamp] | None = None, *, changed: Collection[str] | None = None
    ) -> Compilation:
        """Never raises for what stands in a file. A file with the sign that it had last time is not read again: `signs`
        must hold those alone which no change leaves as they are, taken before this call.

        Who knows everything that came, went or changed since the last call, as an editor does, names it as `changed`: then
        nothing else is looked at, whatever its sign.
        """
        signs = signs or {}
        bases, policy = Bases(tree), TreePolicy(tree)
        around: dict[str, tuple[str, ...]] = {}
        touched = None if changed is None else self._touched(changed)
        kept: dict[str, _CachedFile] = {}
        for path in tree.task_files():
            directory = path.rpartition("/")[0]
            if directory not in around:
                around[directory] = (*bases.defaults(path), *((POLICY,) if policy.there else ()))
            before = self._kept.get(path)
            if before is not None and before.around == around[directory]:
                if touched is None:
                    before = _revalidate(before, tree, signs)
                elif path in touched:
                    before = _compare_content(before, tree, signs)
            else:
                before = None
            kept[path] = before or self._compile(path, tree, signs, bases, policy, around[directory])
        self._kept = kept
        return assemble((k.file for k in kept.values()), levels=policy.levels, careful=self._careful)

    def _compile(
        self, path: str, tree: SourceTree, signs: Mapping[str, Stamp], bases: Bases, policy: TreePolicy, around: tuple[str, ...]
    ) -> _CachedFile:
        recorder = _Recorder(tree)
        file = compile_file(path, recorder, bases, policy, careful=self._careful)
        if self._users is not None:
            _record_reader(self._users, path, recorder.seen)
        return _CachedFile(recorder.seen, {name: signs.get(name) for name in recorder.seen}, around, file)

    def _touched(self, changed: Collection[str]) -> set[str]:
        """The task files that were made from any of these."""
        if self._users is None:
            self._users = {}
            for path, kept in self._kept.items():
                _record_reader(self._users, path, kept.read)
        return {user for path in changed for user in self._users.get(path, ())}

    def known(self) -> dict[str, bytes | None]:
        """Every file that the last compilation read or tried to read, with its bytes."""
        return {
            path: data if isinstance(data, bytes) else None for kept in self._kept.values() for path, data in kept.read.items()
        }

    def unserved(self, compilation: Compilation) -> dict[str, str | None]:
        """The files of the last compilation that gave it no task, each with the id that it seems to mean."""
        served = {task.origin.path for task in compilation.registry.tasks.values()}
        return {path: _guess_id(path, kept) for path, kept in self._kept.items() if path not in served and not kept.file.base}


def _record_reader(users: dict[str, set[str]], path: str, read: Iterable[str]) -> None:
    for name in read:
        users.setdefault(name, set()).add(path)


def _revalidate(kept: _CachedFile, tree: SourceTree, signs: Mapping[str, Stamp]) -> _CachedFile | None:
    """What is kept, if all that it was made from is as it was: by its signs, or else by its content."""
    for path, sign in kept.stamps.items():
        if sign is None or signs.get(path) != sign:
            return _compare_content(kept, tree, signs)
    return kept


def _compare_content(kept: _CachedFile, tree: SourceTree, signs: Mapping[str, Stamp]) -> _CachedFile | None:
    current = {path: signs.get(path) for path in kept.read}
    for path, sign in current.items():
        if (sign is None or sign != kept.stamps[path]) and _read(tree, path) != kept.read[path]:
            return None
    return replace(kept, stamps=current)


def _read(tree: SourceTree, path: str) -> _Read:
    try:
        return tree.read(path)
    except Unreadable as err:
        return err.code, err.message


def _guess_id(path: str, kept: _CachedFile) -> str | None:
    """The id that a broken file would have: from what could be understood of it, else from a line that looks right."""
    task = kept.file.task
    if task is not None:
        return task.id if task.is_known(("id",) if task.spec.id else ("name",)) else None
    data = kept.read.get(path)
    if not isinstance(data, bytes):
        return None
    found = {label: value.strip(b"'\"").decode("utf-8", "replace") for label, value in _LABEL.findall(data)}
    return found.get(b"id") or slug(found.get(b"name", "")) or None


class _Recorder:
    """A tree that notes what is read from it."""

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
