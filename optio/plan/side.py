"""One side of a plan: a compiled tree, its policy, and what is known of files that have errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.document import parse
from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.layers import POLICY
from optio.compiler.source import SourceFile
from optio.compiler.tree import SourceTree, Unreadable
from optio.model.policy import PolicySpec
from optio.model.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Side:
    """`broken` are the paths of files with errors, and `broken_ids` the ids of tasks in them, as far as they can be read,
    with the paths."""

    registry: Registry
    broken: frozenset[str] = frozenset()
    broken_ids: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[Diagnostic, ...] = ()
    policy: PolicySpec | None = None
    texts: Mapping[str, bytes | None] = field(default_factory=dict)


def side(tree: SourceTree, compiler: IncrementalCompiler | None = None) -> Side:
    """The whole tree, compiled; by the compiler of the other side what both have in common is compiled once."""
    compiler = compiler or IncrementalCompiler()
    compilation = compiler.compile(tree)
    return Side(
        registry=compilation.registry,
        broken=compilation.broken,
        broken_ids={meant: path for path, meant in compiler.unserved(compilation).items() if meant is not None},
        errors=tuple(each for each in compilation.diagnostics if each.severity is Severity.ERROR),
        policy=policy_of(tree),
        texts=compiler.known(),
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
