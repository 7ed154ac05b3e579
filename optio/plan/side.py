"""One side of a plan: a compiled tree with its policy, and what is known about files with errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.pipeline import TreePolicy, repeats_policy_error
from optio.compiler.source_tree import SourceTree
from optio.model.policy import PolicySpec
from optio.model.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Side:
    """A compiled tree. `broken` are paths of files with errors; `broken_ids` maps the ids readable in them to the paths;
    `errors` omits those that every task repeats because the policy is unreadable; `texts` are the bytes of every file read."""

    registry: Registry
    broken: frozenset[str] = frozenset()
    broken_ids: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[Diagnostic, ...] = ()
    policy: PolicySpec | None = None
    policy_unreadable: bool = False
    texts: Mapping[str, bytes | None] = field(default_factory=dict)


def compile_side(tree: SourceTree, compiler: IncrementalCompiler | None = None) -> Side:
    """Compile a whole tree. Pass the compiler of the other side, and files that both have in common are compiled once."""
    compiler = compiler or IncrementalCompiler()
    compilation, policies = compiler.compile(tree), TreePolicy(tree)
    return Side(
        registry=compilation.registry,
        broken=compilation.broken,
        broken_ids={task_id: path for path, task_id in compiler.unserved(compilation).items() if task_id is not None},
        errors=tuple(
            diagnostic
            for diagnostic in compilation.diagnostics
            if diagnostic.severity is Severity.ERROR and not repeats_policy_error(diagnostic)
        ),
        policy=policies.spec,
        policy_unreadable=policies.unreadable,
        texts=compiler.known(),
    )
