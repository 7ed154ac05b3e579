"""Names that are a pronoun, a participle or an adverb alone, and so do not say what they name.

`python -m tests.odd_names optio/store` prints them for a directory or a file, the most frequent first, with the share of all
assigned names: locals, attributes, arguments and functions."""

import ast
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

PRONOUNS = (
    "each one other others mine ours theirs own whole all both some any none what which who same more most own such it this "
)
PARTICIPLES = (
    "found known meant wanted shown named given made done kept written left began begun said seen ended asked used "
    "listed told held gone taken changed lost refused chosen folded quoted opened moved served timed sent marked "
    "tried looked waited heard noted caught counted parted worded sorted merged drawn cut put set_aside got born "
    "grown broken stopped started read added removed allowed dropped wished claimed declared followed expected "
    "needed called returned reached spent "
)
ADVERBS = (
    "there here where then thus when why how once again ahead below above beside alone only apart together still "
    "already yet else anew away late early twice meanwhile nearly nowhere elsewhere "
)
ODD = frozenset(f"{PRONOUNS} {PARTICIPLES} {ADVERBS}".split())


def assigned_names(tree: ast.AST) -> Iterable[str]:
    """The names that a module assigns, each as often as it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.arg) and node.arg not in ("self", "cls"):
            yield node.arg


def count_names(paths: Iterable[Path]) -> tuple[Counter[str], int]:
    """How often each odd name is assigned in the files, and how many names are."""
    names = [name.strip("_") for path in paths for name in assigned_names(ast.parse(path.read_text()))]
    return Counter(name for name in names if name in ODD), len(names)


def main() -> None:
    root = Path(sys.argv[1] if sys.argv[1:] else "optio")
    odd, total = count_names([root] if root.is_file() else root.rglob("*.py"))
    print(f"{odd.total()} of {total}: {100 * odd.total() / max(total, 1):.1f} %")
    print(", ".join(f"{name} {count}" for name, count in odd.most_common()))


if __name__ == "__main__":
    main()
