"""The five stages in their order: `compile_tree` is the compiler."""

import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from optio.compiler import checks, surface
from optio.compiler.checks.across import check_across
from optio.compiler.diagnostics import Diagnostic, Severity, finding, ordered
from optio.compiler.document import Document, parse
from optio.compiler.emit import emit
from optio.compiler.ignores import Ignore, ignores, without_ignored
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


@dataclass(frozen=True, slots=True)
class CompiledFile:
    """What one file says by itself. A task comes with its errors when something can be said about it; what `ignores` speak of
    is still among the findings, for those of all files together come to them."""

    path: str
    task: ResolvedTask | None
    diagnostics: list[Diagnostic]
    ignores: tuple[Ignore, ...] = ()


def compile_tree(tree: SourceTree, *, careful: bool = False) -> Compilation:
    """Never raises for what stands in a file. With `careful` a task is also asked for what it could do without."""
    return assemble((compile_file(path, tree, careful=careful) for path in tree.task_files()), careful=careful)


def assemble(
    files: Iterable[CompiledFile], emit_task: Callable[[ResolvedTask], CompiledTask] = emit, *, careful: bool = False
) -> Compilation:
    """All files, checked across, as one compilation."""
    compiled = list(files)
    across: dict[str, list[Diagnostic]] = {}
    resolved = [file.task for file in compiled if file.task is not None]
    for each in check_across(resolved):
        across.setdefault(each.path, []).append(each)
    found: list[Diagnostic] = []
    broken: set[str] = set()
    for file in compiled:
        mine = file.diagnostics + across.get(file.path, [])
        if not mine and not file.ignores:
            continue
        mine = without_ignored(file.path, mine, file.ignores, careful=careful)
        found += mine
        # An error in a prompt's own file breaks the task that uses it.
        if has_errors(mine):
            broken.add(file.path)
    tasks: dict[str, CompiledTask] = {t.id: emit_task(t) for t in resolved if t.path not in broken}
    return Compilation(Registry.of(tasks), frozenset(broken), tuple(ordered(found)), len(compiled))


def compile_file(path: str, tree: SourceTree, *, careful: bool = False) -> CompiledFile:
    """Parse, shape, resolve and check one file."""
    document, task, found = _compiled(path, tree, careful)
    return CompiledFile(path, task, found, () if document is None else ignores(document))


def _compiled(path: str, tree: SourceTree, careful: bool) -> tuple[Document | None, ResolvedTask | None, list[Diagnostic]]:
    if posixpath.basename(path) in DEFAULTS:
        hint = "delete the file and write its values into each task"
        return None, None, [finding("OPT110", f"`{posixpath.basename(path)}` is not supported yet", path=path, hint=hint)]
    try:
        source = SourceFile(path, tree.read(path))
    except Unreadable as err:
        return None, None, [finding(err.code, err.message, path=path, hint=err.hint)]
    document, found = parse(source)
    if document is None:
        return None, None, found
    shape, more = read(document)
    if found:
        # A key that is no text, or indented by an odd blank, is unknown as well: say it once.
        spans = {d.span for d in found}
        more = [d for d in more if d.span not in spans]
    found += more
    places = {d.route for d in found}
    found += [d for d in surface.check(source, document) if not d.route or d.route not in places]
    if shape is None:
        return document, None, found
    task, more = resolve(document, shape, tree)
    found += more
    found += checks.run(task, careful=careful)
    if any(d.code == "OPT405" for d in found):
        # A webhook's secret in plain text has been told from other tokens already.
        known = {d.span.start.line for d in found if d.code == "OPT405"}
        found = [d for d in found if d.code != "OPT503" or d.span.start.line not in known]
    return document, task, found


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether any of them keeps a task from being served."""
    return any(d.severity is Severity.ERROR for d in diagnostics)
