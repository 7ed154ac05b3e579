"""Compile again what changed: a file's result is kept as long as the bytes it was made from are the same."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from optio.compiler.emit import emit
from optio.compiler.layers import POLICY, Bases
from optio.compiler.pipeline import Compilation, CompiledFile, Policies, assemble, compile_file
from optio.compiler.tree import SourceTree, Unreadable
from optio.model.registry import CompiledTask
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
    compiled: CompiledTask | None


class IncrementalCompiler:
    """Equal to `compile_tree` for every tree, in the time of what changed."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def compile(self, tree: SourceTree, signs: Mapping[str, Sign] | None = None) -> Compilation:
        """Never raises for what stands in a file. A file with the sign that it had last time is not read again: `signs`
        must hold those alone which no change leaves as they are, taken before this call."""
        signs = signs or {}
        kept: dict[str, _Kept] = {}
        bases, policy = Bases(tree), Policies(tree)
        for path in tree.task_files():
            before = self._kept.get(path)
            kept[path] = (before and _still(before, tree, signs, _around(path, bases, policy))) or _compile(
                path, tree, signs, bases, policy
            )
        self._kept = kept
        compiled = {path: k.compiled for path, k in kept.items() if k.compiled is not None}
        return assemble((k.file for k in kept.values()), lambda task: compiled[task.path], levels=policy.levels)

    def known(self) -> dict[str, bytes | None]:
        """Every file that the last compilation read or tried to read, with its bytes."""
        return {
            path: data if isinstance(data, bytes) else None for kept in self._kept.values() for path, data in kept.read.items()
        }

    def unserved(self, compilation: Compilation) -> dict[str, str | None]:
        """The files of the last compilation that gave it no task, each with the id that it seems to mean."""
        served = {task.origin.path for task in compilation.registry.tasks.values()}
        return {path: _meant_id(path, kept) for path, kept in self._kept.items() if path not in served and not kept.file.base}


def _compile(path: str, tree: SourceTree, signs: Mapping[str, Sign], bases: Bases, policy: Policies) -> _Kept:
    recorder = _Recorder(tree)
    file = compile_file(path, recorder, bases, policy)
    compiled = None if file.task is None else emit(file.task)
    return _Kept(recorder.seen, {name: signs.get(name) for name in recorder.seen}, _around(path, bases, policy), file, compiled)


def _around(path: str, bases: Bases, policy: Policies) -> tuple[str, ...]:
    """What holds for a file without being named in it."""
    return (*bases.defaults(path), *((POLICY,) if policy.there else ()))


def _still(kept: _Kept, tree: SourceTree, signs: Mapping[str, Sign], around: tuple[str, ...]) -> _Kept | None:
    """What is kept, if all that it was made from is as it was."""
    if kept.around != around:
        return None
    if all(sign is not None and signs.get(path) == sign for path, sign in kept.signs.items()):
        return kept
    current = {path: signs.get(path) for path in kept.read}
    for path, sign in current.items():
        if (sign is None or sign != kept.signs[path]) and _read(tree, path) != kept.read[path]:
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
