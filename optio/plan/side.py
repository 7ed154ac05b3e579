"""One side of a plan: a compiled tree, its policy, and what is known of files that have errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.document import parse
from optio.compiler.layers import POLICY, Bases
from optio.compiler.pipeline import Policies, compile_file, compile_tree
from optio.compiler.source import SourceFile
from optio.compiler.tree import SourceTree, Unreadable
from optio.model.policy import PolicySpec
from optio.model.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Side:
    """`broken` are the paths of files with errors, and `broken_ids` the ids of tasks in them, as far as they can be read."""

    registry: Registry
    broken: frozenset[str] = frozenset()
    broken_ids: frozenset[str] = frozenset()
    errors: tuple[Diagnostic, ...] = ()
    policy: PolicySpec | None = None
    texts: Mapping[str, bytes] = field(default_factory=dict)


def side(tree: SourceTree) -> Side:
    """The whole tree, compiled."""
    compilation = compile_tree(tree)
    ids: set[str] = set()
    if compilation.broken:
        bases, policies = Bases(tree), Policies(tree)
        for path in sorted(compilation.broken):
            file = compile_file(path, tree, bases, policies)
            if file.task is not None and not file.base:
                ids.add(file.task.id)
    return Side(
        registry=compilation.registry,
        broken=compilation.broken,
        broken_ids=frozenset(ids - set(compilation.registry.tasks)),
        errors=tuple(each for each in compilation.diagnostics if each.severity is Severity.ERROR),
        policy=policy_of(tree),
        texts={path: _bytes(tree, path) for path in tree.task_files()},
    )


def policy_of(tree: SourceTree) -> PolicySpec | None:
    """The tree's policy; None when it has none that can be read."""
    try:
        document, _ = parse(SourceFile(POLICY, tree.read(POLICY)))
    except Unreadable:
        return None
    if document is None:
        return None
    from optio.compiler.policy import read_policy  # few trees have one

    return read_policy(document)[0]


def _bytes(tree: SourceTree, path: str) -> bytes:
    try:
        return tree.read(path)
    except Unreadable:
        return b""
