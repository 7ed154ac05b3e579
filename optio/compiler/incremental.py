"""Compile again what changed: a file's result is kept as long as the bytes it was made from are the same."""

from collections.abc import Iterator
from dataclasses import dataclass

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.emit import emit
from optio.compiler.pipeline import Compilation, assemble, compile_file
from optio.compiler.resolve import ResolvedTask
from optio.compiler.tree import SourceTree, Unreadable
from optio.model.registry import CompiledTask

_Read = bytes | tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    read: dict[str, _Read]
    task: ResolvedTask | None
    compiled: CompiledTask | None
    diagnostics: list[Diagnostic]


class IncrementalCompiler:
    """Equal to `compile_tree` for every tree, in the time of what changed."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def compile(self, tree: SourceTree) -> Compilation:
        """Never raises for what stands in a file."""
        kept: dict[str, _Kept] = {}
        for path in tree.task_files():
            before = self._kept.get(path)
            kept[path] = before if before is not None and _same(before, tree) else _compile(path, tree)
        self._kept = kept
        compiled = {path: k.compiled for path, k in kept.items() if k.compiled is not None}
        return assemble(((path, k.task, k.diagnostics) for path, k in kept.items()), lambda task: compiled[task.path])


def _compile(path: str, tree: SourceTree) -> _Kept:
    recorder = _Recorder(tree)
    task, diagnostics = compile_file(path, recorder)
    return _Kept(recorder.seen, task, None if task is None else emit(task), diagnostics)


def _same(kept: _Kept, tree: SourceTree) -> bool:
    return all(_read(tree, path) == data for path, data in kept.read.items())


def _read(tree: SourceTree, path: str) -> _Read:
    try:
        return tree.read(path)
    except Unreadable as err:
        return err.code, err.message


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
