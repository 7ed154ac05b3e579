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
    r"^(?:type:[ \t]*[\"']?(?:standalone|template|policy)\b|agentRuntime:|# yaml-language-server:[^\n]*\btask\.schema\.json)",
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
    inside = next((each for each in path.parents if each.name == TASKS), None)
    if inside is not None:
        return inside
    return path.parent if path.name.endswith(SUFFIXES) and _LOOKS_LIKE_A_TASK.search(text) else None


class _OverlaidDirectory:
    """A source tree with unsaved texts over a directory; an unsaved file exists even if it was deleted on disk."""

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
    """The result of one scan of the disk."""

    def __init__(self, found: TreeScan) -> None:
        self.paths = found.walked
        self.stamps = {path: sign for path, sign in found.stamps.items() if path not in found.racy}
        self.racy = bool(found.racy)
        self.names = found.task_files


_EMPTY_STATE = _TreeState(TreeScan({}, frozenset(), frozenset()))


class TaskTree:
    """One task directory. Only `compile` runs in the other thread. A `loose` tree consists of the open files alone."""

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
        """Set the unsaved text of a file, which hides the one on disk."""
        self._count += 1
        self._typed = {**self._typed, path: _UnsavedFile(data, (-self._count,))}
        self._changed.append(path)

    def forget(self, path: str) -> None:
        """Drop the unsaved text of a file; the disk counts again."""
        self._typed = {each: typed for each, typed in self._typed.items() if each != path}
        self._changed.append(path)
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
        changed: set[str] | None = self._take_changed()
        typed = self._typed
        if self._compiler is None or options.pedantic != self._pedantic:
            self._compiler, self._pedantic, changed = IncrementalCompiler(pedantic=options.pedantic), options.pedantic, None
        if self.loose:
            changed = None
        elif self._stale:
            # Changes on disk from here on are seen the next time.
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
        changed: set[str] = set()
        while self._changed:
            changed.add(self._changed.popleft())
        return changed

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
    """Group findings by path, with the severities that the options ask for; information only with `verbose`."""
    graded = apply_strict(found) if options.strict else found
    files: dict[str, list[Diagnostic]] = {}
    for each in graded:
        if options.verbose or each.severity is not Severity.INFO:
            files.setdefault(each.path, []).append(each)
    return {path: tuple(mine) for path, mine in files.items()}


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def tasks_directory_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return `$OPTIO_TASKS`, or `tasks.d`."""
    return environ.get("OPTIO_TASKS") or TASKS
