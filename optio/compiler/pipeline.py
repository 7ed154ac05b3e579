"""The five stages in their order: `compile_tree` is the compiler."""

import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from optio.compiler import checks
from optio.compiler.checks.across import check_across
from optio.compiler.diagnostics import Diagnostic, Severity, finding, ordered
from optio.compiler.document import parse
from optio.compiler.emit import emit
from optio.compiler.resolve import ResolvedTask, resolve
from optio.compiler.source import SourceFile
from optio.compiler.spec import read
from optio.compiler.tree import SourceTree, Unreadable
from optio.model.registry import CompiledTask, Registry

DEFAULTS = ("_defaults.yaml", "_defaults.yml")


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
        return not has_errors(self.diagnostics)


FileResult = tuple[str, ResolvedTask | None, list[Diagnostic]]


def compile_tree(tree: SourceTree) -> Compilation:
    """Never raises for what stands in a file."""
    return assemble((path, *compile_file(path, tree)) for path in tree.task_files())


def assemble(results: Iterable[FileResult], emit_task: Callable[[ResolvedTask], CompiledTask] = emit) -> Compilation:
    """The results of all files, checked across, as one compilation."""
    found: list[Diagnostic] = []
    resolved: list[ResolvedTask] = []
    broken: set[str] = set()
    files = 0
    for path, task, diagnostics in results:
        files += 1
        if diagnostics:
            found += diagnostics
            # An error in a prompt's own file breaks the task that uses it.
            if has_errors(diagnostics):
                broken.add(path)
        if task is not None:
            resolved.append(task)
    across = list(check_across(resolved))
    found += across
    broken.update(d.path for d in across if d.severity is Severity.ERROR)
    tasks: dict[str, CompiledTask] = {t.id: emit_task(t) for t in resolved if t.path not in broken}
    return Compilation(Registry.of(tasks), frozenset(broken), tuple(ordered(found)), files)


def compile_file(path: str, tree: SourceTree) -> tuple[ResolvedTask | None, list[Diagnostic]]:
    """Parse, shape, resolve and check one file. A task comes back with its errors when something can be said about it."""
    if posixpath.basename(path) in DEFAULTS:
        hint = "delete the file and write its values into each task"
        return None, [finding("OPT110", f"`{posixpath.basename(path)}` is not supported yet", path=path, hint=hint)]
    try:
        source = SourceFile(path, tree.read(path))
    except Unreadable as err:
        return None, [finding(err.code, err.message, path=path, hint=err.hint)]
    document, found = parse(source)
    if document is None:
        return None, found
    shape, more = read(document)
    if found:
        # A key that is no text, or indented by an odd blank, is unknown as well: say it once.
        spans = {d.span for d in found}
        more = [d for d in more if d.span not in spans]
    found += more
    if shape is None:
        return None, found
    task, more = resolve(document, shape, tree)
    found += more
    found += checks.run(task)
    if any(d.code == "OPT405" for d in found):
        # A webhook's secret in plain text has been told from other tokens already.
        known = {d.span.start.line for d in found if d.code == "OPT405"}
        found = [d for d in found if d.code != "OPT503" or d.span.start.line not in known]
    return task, found


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether any of them keeps a task from being served."""
    return any(d.severity is Severity.ERROR for d in diagnostics)
