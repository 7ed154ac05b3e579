"""`optio check` without the registry: the same findings as `compile_tree`, from the cache where the files have not changed.
Trees of fewer files than `CheckOptions.few` are compiled directly, which is faster than reading an index."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from optio.check_cache.options import CheckOptions
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import check_results, compile_tree
from optio.compiler.source_tree import DirectoryTree, OverlayTree, SourceTree

_DEFAULT_OPTIONS = CheckOptions()
_NO_UNSAVED_FILES: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The task files of a tree, the number of tasks they define, and all findings. `unkept` is the reason why nothing was
    cached, so that the next check takes as long as this one."""

    paths: tuple[str, ...]
    tasks: int
    diagnostics: tuple[Diagnostic, ...]
    unkept: str | None = None


def check(
    root: Path,
    only: list[str] | None = None,
    how: CheckOptions = _DEFAULT_OPTIONS,
    *,
    typed: Mapping[str, bytes] = _NO_UNSAVED_FILES,
) -> CheckResult:
    """Check a tree, or only the relative paths in `only`. `typed` maps paths to contents that are not on disk yet, such as an
    unsaved editor buffer. Never raises for the content of a file."""
    paths = tuple(OverlayTree(DirectoryTree(root, only), typed).task_files())
    tree: SourceTree = OverlayTree(DirectoryTree(root, list(paths)), typed)
    if len(paths) < how.few:
        compilation = compile_tree(tree, pedantic=how.pedantic, executor=how.executor, whole=only is None)
        return CheckResult(paths, len(compilation.registry.tasks), compilation.diagnostics)
    from optio.check_cache.incremental_check import check_changed

    files, levels, unkept = check_changed(root, tree, paths, how, whole=only is None, typed=frozenset(typed))
    broken, found = check_results(files, levels=levels, pedantic=how.pedantic, executor=how.executor, whole=only is None)
    # A policy has facts but no id.
    tasks = {file.facts.id for file in files if file.facts is not None and file.facts.id and file.path not in broken}
    return CheckResult(paths, len(tasks), found, unkept)
