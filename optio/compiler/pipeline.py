"""The five stages in their order: `compile_tree` is the compiler."""

from collections.abc import Iterable
from dataclasses import dataclass

from optio.compiler.checks import CHECKS
from optio.compiler.checks.across import check_across
from optio.compiler.diagnostics import Diagnostic, Severity, finding, ordered
from optio.compiler.document import parse
from optio.compiler.emit import emit
from optio.compiler.resolve import ResolvedTask, resolve
from optio.compiler.source import SourceFile
from optio.compiler.spec import read
from optio.compiler.tree import SourceTree, Unreadable
from optio.model.registry import CompiledTask, Registry


@dataclass(frozen=True)
class Compilation:
    """What came of a tree: the tasks without errors, the paths of files with errors, and every finding."""

    registry: Registry
    broken: frozenset[str]
    diagnostics: tuple[Diagnostic, ...]
    files: int

    @property
    def ok(self) -> bool:
        """No error anywhere."""
        return not any(d.severity is Severity.ERROR for d in self.diagnostics)


def compile_tree(tree: SourceTree) -> Compilation:
    """Never raises for what stands in a file."""
    found: list[Diagnostic] = []
    resolved: list[ResolvedTask] = []
    files = 0
    for path in tree.task_files():
        files += 1
        task, diagnostics = compile_file(path, tree)
        found.extend(diagnostics)
        if task is not None:
            resolved.append(task)
    found.extend(check_across(resolved))
    broken = frozenset(d.path for d in found if d.severity is Severity.ERROR)
    tasks: dict[str, CompiledTask] = {t.id: emit(t) for t in resolved if t.path not in broken}
    return Compilation(Registry.of(tasks), broken, tuple(ordered(found)), files)


def compile_file(path: str, tree: SourceTree) -> tuple[ResolvedTask | None, list[Diagnostic]]:
    """Parse, shape, resolve and check one file."""
    try:
        source = SourceFile(path, tree.read(path))
    except Unreadable as err:
        return None, [finding(err.code, err.message, path=path, hint=err.hint)]
    document, found = parse(source)
    if document is None:
        return None, found
    spec, more = read(document)
    found += more
    if spec is None:
        return None, found
    task, more = resolve(document, spec, tree)
    found += more
    if task is None:
        return None, found
    return task, found + [d for check in CHECKS for d in check(task)]


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether any of them keeps a task from being served."""
    return any(d.severity is Severity.ERROR for d in diagnostics)
