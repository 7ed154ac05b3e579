"""Compile again what changed: a file's result is kept as long as the bytes it was made from are the same."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from optio.compiler.layers import POLICY, Bases
from optio.compiler.pipeline import Compilation, CompiledFile, Policies, assemble, compile_file
from optio.compiler.tree import SourceTree, Unreadable
from optio.model.text import slug

Sign = tuple[int, ...]
_Read = bytes | tuple[str, str]
_LABEL = re.compile(rb"^(id|name):[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Kept:
    read: dict[str, _Read]
    signs: dict[str, Sign | None]
    around: tuple[str, ...]
    file: CompiledFile


class IncrementalCompiler:
    """Equal to `compile_tree` for every tree, in the time of what changed."""

    def __init__(self, *, careful: bool = False) -> None:
        self._careful = careful
        self._kept: dict[str, _Kept] = {}

    def compile(
        self, tree: SourceTree, signs: Mapping[str, Sign] | None = None, *, changed: Collection[str] | None = None
    ) -> Compilation:
        """Never raises for what stands in a file. A file with the sign that it had last time is not read again: `signs`
        must hold those alone which no change leaves as they are, taken before this call.

        Who knows everything that came, went or changed since the last call, as an editor does, names it as `changed`: then
        nothing else is looked at, whatever its sign.
        """
        signs = signs or {}
        bases, policy = Bases(tree), Policies(tree)
        around: dict[str, tuple[str, ...]] = {}
        same = _Same(tree, signs, None if changed is None else frozenset(changed))
        kept: dict[str, _Kept] = {}
        for path in tree.task_files():
            directory = path.rpartition("/")[0]
            if directory not in around:
                around[directory] = (*bases.defaults(path), *((POLICY,) if policy.there else ()))
            before = self._kept.get(path)
            kept[path] = (before and same.still(before, around[directory])) or self._compile(
                path, tree, signs, bases, policy, around[directory]
            )
        self._kept = kept
        return assemble((k.file for k in kept.values()), levels=policy.levels, careful=self._careful)

    def _compile(
        self, path: str, tree: SourceTree, signs: Mapping[str, Sign], bases: Bases, policy: Policies, around: tuple[str, ...]
    ) -> _Kept:
        recorder = _Recorder(tree)
        file = compile_file(path, recorder, bases, policy, careful=self._careful)
        return _Kept(recorder.seen, {name: signs.get(name) for name in recorder.seen}, around, file)

    def known(self) -> dict[str, bytes | None]:
        """Every file that the last compilation read or tried to read, with its bytes."""
        return {
            path: data if isinstance(data, bytes) else None for kept in self._kept.values() for path, data in kept.read.items()
        }

    def unserved(self, compilation: Compilation) -> dict[str, str | None]:
        """The files of the last compilation that gave it no task, each with the id that it seems to mean."""
        served = {task.origin.path for task in compilation.registry.tasks.values()}
        return {path: _meant_id(path, kept) for path, kept in self._kept.items() if path not in served and not kept.file.base}


class _Same:
    """Tells whether all that a result was made from is as it was."""

    def __init__(self, tree: SourceTree, signs: Mapping[str, Sign], changed: frozenset[str] | None) -> None:
        self._tree, self._signs, self._changed = tree, signs, changed

    def still(self, kept: _Kept, around: tuple[str, ...]) -> _Kept | None:
        """What is kept, if it still holds. `around` is what holds for the file without being named in it."""
        if kept.around != around:
            return None
        if self._changed is not None:
            return kept if self._changed.isdisjoint(kept.signs) else self._compared(kept)
        for path, sign in kept.signs.items():
            if sign is None or self._signs.get(path) != sign:
                return self._compared(kept)
        return kept

    def _compared(self, kept: _Kept) -> _Kept | None:
        current = {path: self._signs.get(path) for path in kept.read}
        for path, sign in current.items():
            if (sign is None or sign != kept.signs[path]) and _read(self._tree, path) != kept.read[path]:
                return None
        return replace(kept, signs=current)


def _read(tree: SourceTree, path: str) -> _Read:
    try:
        return tree.read(path)
    except Unreadable as err:
        return err.code, err.message


def _meant_id(path: str, kept: _Kept) -> str | None:
    """The id that a broken file would have: from what could be understood of it, else from a line that looks right."""
    task = kept.file.task
    if task is not None:
        return task.id if task.knows(("id",) if task.spec.id else ("name",)) else None
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
