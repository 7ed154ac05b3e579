"""`compile_tree` for who only asks what is wrong: the same findings, sooner."""

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
    """What came of a tree: its task files, how many tasks they give, and every finding. `unkept` says why it takes as long the
    next time."""

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
    """Never raises for what stands in a file. `only` limits the task files to the given relative paths; `typed` are contents
    that no file has yet."""
    paths = tuple(OverlayTree(DirectoryTree(root, only), typed).task_files())
    tree: SourceTree = OverlayTree(DirectoryTree(root, list(paths)), typed)
    if len(paths) < how.few:
        compilation = compile_tree(tree, pedantic=how.pedantic, executor=how.executor, whole=only is None)
        return CheckResult(paths, len(compilation.registry.tasks), compilation.diagnostics)
    from optio.check_cache.incremental_check import check_changed

    files, levels, unkept = check_changed(root, tree, paths, how, whole=only is None, typed=frozenset(typed))
    broken, found = check_results(files, levels=levels, pedantic=how.pedantic, executor=how.executor, whole=only is None)
    # A policy has facts, and no id.
    tasks = {file.facts.id for file in files if file.facts is not None and file.facts.id and file.path not in broken}
    return CheckResult(paths, len(tasks), found, unkept)
