"""A task directory as the editor sees it: unsaved texts over saved files, compiled incrementally."""

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
    r"^(?:type:[ \t]*[\"']?(?:standalone|template|policy|connection)\b|agentRuntime:"
    r"|# yaml-language-server:[^\n]*\btask\.schema\.json)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class LspOptions:
    """The user's settings for the server. `tasks` is the name of the task directory in a workspace."""

    strict: bool = False
    verbose: bool = False
    tasks: str = TASKS

    @property
    def pedantic(self) -> bool:
        """Return whether rules run that suggest what a task could do without."""
        return self.strict or self.verbose


def root_of(path: Path, text: str, folders: Sequence[Path], tasks: str) -> Path | None:
    """Return the task directory of a file as `optio check` would: that of its workspace, else the nearest `tasks.d` above. None
    for a file outside of both that does not look like a task, for editors open many YAML files."""
    for folder in folders:
        if path.is_relative_to(folder / tasks):
            return folder / tasks
    inside = next((directory for directory in path.parents if directory.name == TASKS), None)
    if inside is not None:
        return inside
    return path.parent if path.name.endswith(SUFFIXES) and _LOOKS_LIKE_A_TASK.search(text) else None


class _OverlaidDirectory:
    """A source tree with unsaved texts over a directory; an unsaved file exists even if it was deleted on disk."""

    def __init__(self, directory: DirectoryTree, names: Sequence[str], typed: Mapping[str, "_UnsavedFile"]) -> None:
        self._directory, self._names, self._typed = directory, names, typed

    def task_files(self) -> Iterator[str]:
        return iter(self._names)

    def read(self, path: str) -> bytes:
        typed = self._typed.get(path)
        return typed.data if typed is not None else self._directory.read(path)


@dataclass(frozen=True, slots=True)
class _UnsavedFile:
    data: bytes
    sign: Stamp


class _TreeState:
    """The result of one scan of the disk."""

    def __init__(self, scan: TreeScan) -> None:
        self.paths = scan.walked
        self.stamps = {path: sign for path, sign in scan.stamps.items() if path not in scan.racy}
        self.racy = bool(scan.racy)
        self.names = scan.task_files


_EMPTY_STATE = _TreeState(TreeScan({}, frozenset(), frozenset()))


class TaskTree:
    """One task directory. Only `compile` runs in the other thread. A `loose` tree consists of the open files alone."""

    def __init__(self, root: Path, *, loose: bool = False) -> None:
        self.root, self.loose = root, loose
        self._compiler: IncrementalCompiler | None = None
        self._pedantic = False
        self._changed_paths: deque[str] = deque()
        # Replaced as a whole, never changed: the other thread may be reading them.
        self._typed: Mapping[str, _UnsavedFile] = {}
        self._state = _EMPTY_STATE
        self._tasks: Mapping[str, CompiledTask] = {}
        self._count = 0
        self._stale = True
        self.compiled = False

    def type(self, path: str, data: bytes) -> None:
        """Set the unsaved text of a file, which hides the one on disk."""
        self._count += 1
        self._typed = {**self._typed, path: _UnsavedFile(data, (-self._count,))}
        self._changed_paths.append(path)

    def forget(self, path: str) -> None:
        """Drop the unsaved text of a file; the disk counts again."""
        self._typed = {other_path: typed for other_path, typed in self._typed.items() if other_path != path}
        self._changed_paths.append(path)
        self._stale = True

    def stale(self) -> None:
        """Mark the tree for a new scan of the disk."""
        self._stale = True

    def holds(self, path: Path) -> bool:
        return path.is_relative_to(self.root)

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def compile(self, options: LspOptions) -> dict[str, tuple[Diagnostic, ...]]:
        """Compile what changed and return the findings by path. Runs in the worker's thread."""
        # In this order: text typed in between is compiled now, and again the next time.
        changed_paths: set[str] | None = self._take_changed()
        typed = self._typed
        if self._compiler is None or options.pedantic != self._pedantic:
            self._compiler, self._pedantic, changed_paths = (
                IncrementalCompiler(pedantic=options.pedantic),
                options.pedantic,
                None,
            )
        if self.loose:
            changed_paths = None
        elif self._stale:
            # Changes on disk from here on are seen the next time.
            self._stale, changed_paths = False, None
            try:
                self._state = _TreeState(scan_directory(self.root, self._compiler.known()))
            except MissingDirectory:
                self._state = _EMPTY_STATE
        state = self._state
        signs = {**state.stamps, **{path: unsaved.sign for path, unsaved in typed.items()}}
        compilation = self._compiler.compile(self._view(typed), signs, changed_paths=changed_paths)
        self._tasks = compilation.registry.tasks
        self._stale = self._stale or state.racy
        self.compiled = True
        return diagnostics_by_path(compilation.diagnostics, options)

    def _take_changed(self) -> set[str]:
        changed_paths: set[str] = set()
        while self._changed_paths:
            changed_paths.add(self._changed_paths.popleft())
        return changed_paths

    def alone(self, path: str, options: LspOptions, data: bytes | None = None) -> tuple[CompiledFile, list[Diagnostic]]:
        """Compile one file by itself, at once, and return it with its findings. `data` replaces its text."""
        typed = self._typed if data is None else {**self._typed, path: _UnsavedFile(data, ())}
        return _check_alone(path, self._view(typed), options)

    def file(self, path: str) -> CompiledFile:
        """Compile one file with the payloads of its tests, without findings."""
        view = self._view(self._typed)
        return compile_file(path, view, Bases(view), TreePolicy(view), samples=True)

    def only(self, path: str) -> SourceTree:
        """Return the tree as if this file were its only task."""
        return _OverlaidDirectory(DirectoryTree(self.root), [path], self._typed)

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, unsaved or from disk; None if it cannot be read."""
        try:
            return self._view(self._typed).read(path)
        except Unreadable:
            return None

    def users_of(self, path: str) -> list[str]:
        """Return the task files, as last compiled without errors, whose `promptFile` is this file."""
        return [
            task.origin.path
            for task in self._tasks.values()
            if task.spec.prompt_file is not None and resolve_path(task.origin.path, task.spec.prompt_file) == path
        ]

    def paths(self) -> list[str]:
        """Return all files that the last scan found, and the unsaved ones."""
        return sorted({*self._state.paths, *self._typed})

    def _view(self, typed: Mapping[str, _UnsavedFile]) -> _OverlaidDirectory:
        state = self._state
        new = {path for path in typed if path.endswith(SUFFIXES) and path not in state.paths and not _is_hidden(path)}
        return _OverlaidDirectory(DirectoryTree(self.root), sorted({*state.names, *new}) if new else state.names, typed)


def _check_alone(path: str, view: SourceTree, options: LspOptions) -> tuple[CompiledFile, list[Diagnostic]]:
    policy = TreePolicy(view)
    file = compile_file(path, view, Bases(view), policy, pedantic=options.pedantic)
    return file, list(assemble([file], levels=policy.levels, pedantic=options.pedantic).diagnostics)


def diagnostics_by_path(diagnostics: Sequence[Diagnostic], options: LspOptions) -> dict[str, tuple[Diagnostic, ...]]:
    """Group findings by path, with the severities that the options ask for; information only with `verbose`."""
    graded = apply_strict(diagnostics) if options.strict else diagnostics
    files: dict[str, list[Diagnostic]] = {}
    for diagnostic in graded:
        if options.verbose or diagnostic.severity is not Severity.INFO:
            files.setdefault(diagnostic.path, []).append(diagnostic)
    return {path: tuple(file_diagnostics) for path, file_diagnostics in files.items()}


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def tasks_directory_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return `$OPTIO_TASKS`, or `tasks.d`."""
    return environ.get("OPTIO_TASKS") or TASKS
