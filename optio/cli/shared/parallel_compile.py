"""Compile or check a tree of many files in several processes: the result of `compile_tree`, sooner.

`optio check` and `optio compile` use it. A process that fails costs time and never results: the parent compiles its files.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.layers import Bases
from optio.compiler.pipeline import Compilation, CompiledFile, FileResult, TreePolicy, assemble, check_results, compile_file
from optio.compiler.source_tree import DirectoryTree, OverlayTree, SourceTree

# Compiling fewer files takes less time than starting a process.
MIN_FILES_TO_SHARE = 100
_MAX_JOBS = 16
_NO_UNSAVED_FILES: Mapping[str, bytes] = MappingProxyType({})

_File = TypeVar("_File", bound=FileResult)


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Options of one check. `executor` is where runs execute, if known; `jobs` is the maximum number of processes (None: one
    per CPU, up to 16); each process gets at least `few` files."""

    pedantic: bool = False
    executor: str | None = None
    jobs: int | None = None
    few: int = MIN_FILES_TO_SHARE

    def jobs_for(self, files: int) -> int:
        """Return how many processes are worth starting for this number of files: at least one, at most one per `few` files."""
        maximum = min(len(os.sched_getaffinity(0)), _MAX_JOBS) if self.jobs is None else self.jobs
        return max(1, min(maximum, files // max(self.few, 1)))


_DEFAULT_OPTIONS = CheckOptions()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The task files of a tree, the number of tasks that would be served, and all findings."""

    paths: tuple[str, ...]
    tasks: int
    diagnostics: tuple[Diagnostic, ...]


def check_in_parallel(
    root: Path,
    selection: list[str] | None = None,
    options: CheckOptions = _DEFAULT_OPTIONS,
    *,
    typed: Mapping[str, bytes] = _NO_UNSAVED_FILES,
) -> CheckResult:
    """Check a tree, or only the relative paths of a selection. `typed` maps paths to contents that are not on disk yet, such as
    an unsaved editor buffer. Never raises for the content of a file."""
    tree = OverlayTree(DirectoryTree(root, selection), typed)
    paths = tuple(tree.task_files())
    files, levels = _compile_files(tree, paths, options, _without_task)
    broken_paths, results = check_results(
        files, levels=levels, pedantic=options.pedantic, executor=options.executor, is_whole=selection is None
    )
    # A policy has facts but no id.
    tasks = {file.facts.id for file in files if file.facts is not None and file.facts.id and file.path not in broken_paths}
    return CheckResult(paths, len(tasks), results)


def compile_in_parallel(tree: SourceTree, options: CheckOptions = _DEFAULT_OPTIONS) -> Compilation:
    """Compile a tree, and return what would be served with all findings. Never raises for the content of a file."""
    files, levels = _compile_files(tree, tuple(tree.task_files()), options, _without_resolved)
    return assemble(files, levels=levels, pedantic=options.pedantic, executor=options.executor)


def _without_task(file: CompiledFile) -> FileResult:
    return FileResult(file.path, file.diagnostics, file.facts, file.comments)


def _without_resolved(file: CompiledFile) -> CompiledFile:
    """Leave out the resolved task, which nothing needs here and which can be as large as its file."""
    return replace(file, task=None)


def _compile_files(
    tree: SourceTree, paths: Sequence[str], options: CheckOptions, reduce: Callable[[CompiledFile], _File]
) -> tuple[list[_File], Mapping[str, str]]:
    """Return the reduced results in the order of the paths, and the severities that the policy sets by rule code."""
    bases, policy = Bases(tree), TreePolicy(tree)
    pedantic, executor = options.pedantic, options.executor

    def compile_share(share: Sequence[str]) -> list[_File]:
        return [reduce(compile_file(path, tree, bases, policy, pedantic=pedantic, executor=executor)) for path in share]

    jobs = options.jobs_for(len(paths))
    if jobs == 1:
        return compile_share(paths), policy.levels
    # Imported here: a check of few files starts no process, and need not load `pickle` and `signal`.
    from optio.cli.shared.process_pool import map_in_forks

    files = {file.path: file for share in map_in_forks(paths, jobs, compile_share) for file in share}
    return [files[path] for path in paths], policy.levels
