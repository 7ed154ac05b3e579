"""Trees: a task directory as an editor has it: what is typed, over what is saved."""

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optio.compiler.diagnostics import Diagnostic, Severity, apply_strict
from optio.compiler.incremental import IncrementalCompiler, Stamp
from optio.compiler.layers import Bases, resolve_path
from optio.compiler.pipeline import CompiledFile, TreePolicy, assemble, compile_file
from optio.compiler.source_tree import SUFFIXES, DirectoryTree, SourceTree, Unreadable
from optio.model.registry import CompiledTask
from optio.tree.scan import MissingDirectory, TreeScan, scan_directory

TASKS = "tasks.d"
_LOOKS_LIKE_A_TASK = re.compile(
    r"^(?:type:[ \t]*[\"']?(?:standalone|template|policy)\b|agentRuntime:|# yaml-language-server:[^\n]*\btask\.schema\.json)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class LspOptions:
    """What somebody may set for the whole server. `tasks` names the task directory of a workspace."""

    strict: bool = False
    verbose: bool = False
    tasks: str = TASKS

    @property
    def pedantic(self) -> bool:
        """Whether rules are asked that look for what a task could do without."""
        return self.strict or self.verbose


def root_of(path: Path, text: str, folders: Sequence[Path], tasks: str) -> Path | None:
    """The task directory of a file, as `optio check` sees it: that of its workspace, else the nearest `tasks.d` above it. None
    for a file that is in none and does not look like a task: editors have many YAML files."""
    for folder in folders:
        if path.is_relative_to(folder / tasks):
            return folder / tasks
    inside = next((each for each in path.parents if each.name == TASKS), None)
    if inside is not None:
        return inside
    return path.parent if path.name.endswith(SUFFIXES) and _LOOKS_LIKE_A_TASK.search(text) else None


class _OverlaidDirectory:
    """A directory with what is typed over it. A file that is typed is there also when the disk has lost it."""

    def __init__(self, below: DirectoryTree, names: Sequence[str], typed: Mapping[str, "_UnsavedFile"]) -> None:
        self._below, self._names, self._typed = below, names, typed

    def task_files(self) -> Iterator[str]:
        return iter(self._names)

    def read(self, path: str) -> bytes:
        typed = self._typed.get(path)
        return typed.data if typed is not None else self._below.read(path)


@dataclass(frozen=True, slots=True)
class _UnsavedFile:
    data: bytes
    sign: Stamp


class _TreeState:
    """What a look at the disk has shown."""

    def __init__(self, found: TreeScan) -> None:
        self.paths = found.walked
        self.stamps = {path: sign for path, sign in found.stamps.items() if path not in found.racy}
        self.racy = bool(found.racy)
        self.names = found.task_files


_EMPTY_STATE = _TreeState(TreeScan({}, frozenset(), frozenset()))


class TaskTree:
    """One task directory. `compile` is for one thread, everything else for another. A `loose` tree has those files alone that
    somebody has opened."""

    def __init__(self, root: Path, *, loose: bool = False) -> None:
        self.root, self.loose = root, loose
        self._compiler: IncrementalCompiler | None = None
        self._pedantic = False
        self._changed: deque[str] = deque()
        # Replaced as a whole, never changed: the other thread may be reading them.
        self._typed: Mapping[str, _UnsavedFile] = {}
        self._seen = _EMPTY_STATE
        self._tasks: Mapping[str, CompiledTask] = {}
        self._count = 0
        self._stale = True
        self.compiled = False

    def type(self, path: str, data: bytes) -> None:
        """The file holds this, whatever the disk says."""
        self._count += 1
        self._typed = {**self._typed, path: _UnsavedFile(data, (-self._count,))}
        self._changed.append(path)

    def forget(self, path: str) -> None:
        """The file holds what the disk says."""
        self._typed = {each: typed for each, typed in self._typed.items() if each != path}
        self._changed.append(path)
        self._stale = True

    def stale(self) -> None:
        """Something may have changed on the disk."""
        self._stale = True

    def holds(self, path: Path) -> bool:
        """Whether it is a file of this tree."""
        return path.is_relative_to(self.root)

    def relative(self, path: Path) -> str:
        """The file's name in the tree."""
        return path.relative_to(self.root).as_posix()

    def compile(self, options: LspOptions) -> dict[str, tuple[Diagnostic, ...]]:
        """The findings of every file that has any."""
        # In this order: what is typed in between is compiled now, and again the next time.
        changed: set[str] | None = self._take_changed()
        typed = self._typed
        if self._compiler is None or options.pedantic != self._pedantic:
            self._compiler, self._pedantic, changed = IncrementalCompiler(pedantic=options.pedantic), options.pedantic, None
        if self.loose:
            changed = None
        elif self._stale:
            # What changes from here on is seen the next time.
            self._stale, changed = False, None
            try:
                self._seen = _TreeState(scan_directory(self.root, self._compiler.known()))
            except MissingDirectory:
                self._seen = _EMPTY_STATE
        seen = self._seen
        signs = {**seen.stamps, **{path: each.sign for path, each in typed.items()}}
        compilation = self._compiler.compile(self._view(typed), signs, changed=changed)
        self._tasks = compilation.registry.tasks
        self._stale = self._stale or seen.racy
        self.compiled = True
        return diagnostics_by_path(compilation.diagnostics, options)

    def _take_changed(self) -> set[str]:
        """The files that were typed or forgotten since the last time."""
        changed: set[str] = set()
        while self._changed:
            changed.add(self._changed.popleft())
        return changed

    def alone(self, path: str, options: LspOptions, data: bytes | None = None) -> tuple[CompiledFile, list[Diagnostic]]:
        """What one file says by itself, at once; `data` is what it could hold instead."""
        typed = self._typed if data is None else {**self._typed, path: _UnsavedFile(data, ())}
        return _check_alone(path, self._view(typed), options)

    def file(self, path: str) -> CompiledFile:
        """What can be understood of one file now."""
        view = self._view(self._typed)
        return compile_file(path, view, Bases(view), TreePolicy(view), samples=True)

    def only(self, path: str) -> SourceTree:
        """The tree as if this were its only task."""
        return _OverlaidDirectory(DirectoryTree(self.root), [path], self._typed)

    def read(self, path: str) -> bytes | None:
        """What a file holds; None for one that cannot be read."""
        try:
            return self._view(self._typed).read(path)
        except Unreadable:
            return None

    def users_of(self, path: str) -> list[str]:
        """The task files whose prompt stands in this file, of those that are without errors."""
        return [
            task.origin.path
            for task in self._tasks.values()
            if task.spec.prompt_file is not None and resolve_path(task.origin.path, task.spec.prompt_file) == path
        ]

    def paths(self) -> list[str]:
        """All files that it was seen to have."""
        return sorted({*self._seen.paths, *self._typed})

    def _view(self, typed: Mapping[str, _UnsavedFile]) -> _OverlaidDirectory:
        seen = self._seen
        new = {path for path in typed if path.endswith(SUFFIXES) and path not in seen.paths and not _is_hidden(path)}
        return _OverlaidDirectory(DirectoryTree(self.root), sorted({*seen.names, *new}) if new else seen.names, typed)


def _check_alone(path: str, view: SourceTree, options: LspOptions) -> tuple[CompiledFile, list[Diagnostic]]:
    policy = TreePolicy(view)
    file = compile_file(path, view, Bases(view), policy, pedantic=options.pedantic)
    return file, list(assemble([file], levels=policy.levels, pedantic=options.pedantic).diagnostics)


def diagnostics_by_path(found: Sequence[Diagnostic], options: LspOptions) -> dict[str, tuple[Diagnostic, ...]]:
    """With the severities that are asked for; information only where it is."""
    graded = apply_strict(found) if options.strict else found
    files: dict[str, list[Diagnostic]] = {}
    for each in graded:
        if options.verbose or each.severity is not Severity.INFO:
            files.setdefault(each.path, []).append(each)
    return {path: tuple(mine) for path, mine in files.items()}


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def tasks_directory_name(environ: Mapping[str, str] = os.environ) -> str:
    """The name of the task directory where nobody says another."""
    return environ.get("OPTIO_TASKS") or TASKS
