"""`compile_tree` for who only asks what is wrong: the same findings, sooner."""

from dataclasses import dataclass
from pathlib import Path

from optio.checking.how import How
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import compile_tree, judge
from optio.compiler.tree import DirectoryTree

_PLAIN = How()


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a tree: its task files, how many tasks they give, and every finding. `unkept` says why it takes as long the
    next time."""

    paths: tuple[str, ...]
    tasks: int
    diagnostics: tuple[Diagnostic, ...]
    unkept: str | None = None


def check(root: Path, only: list[str] | None = None, how: How = _PLAIN) -> Checked:
    """Never raises for what stands in a file. `only` limits the task files to the given relative paths."""
    paths = tuple(DirectoryTree(root, only).task_files())
    tree = DirectoryTree(root, list(paths))
    if len(paths) < how.few:
        compilation = compile_tree(tree, careful=how.careful)
        return Checked(paths, len(compilation.registry.tasks), compilation.diagnostics)
    from optio.checking.many import answers

    files, levels, unkept = answers(root, tree, paths, how, whole=only is None)
    broken, found = judge(files, levels=levels, careful=how.careful)
    # A policy has a claim, and no id.
    tasks = {file.claim.id for file in files if file.claim is not None and file.claim.id and file.path not in broken}
    return Checked(paths, len(tasks), found, unkept)
