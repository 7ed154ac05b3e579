"""The density of the product: how many branches a block has, how many methods a class, and how many names say nothing."""

from pathlib import Path

import pytest
from radon.visitors import ComplexityVisitor

from tests.odd_names import count_names
from tests.support import ROOT

FILES = sorted((ROOT / "optio").rglob("*.py"))
MAX_COMPLEXITY, MAX_METHODS = 20, 25
# The share of assigned names that are a pronoun, a participle or an adverb alone.
MAX_ODD_SHARE = 0.025


def dense_blocks(text: str) -> list[str]:
    """Functions and methods with more than `MAX_COMPLEXITY` paths, and how many those are."""
    visitor = ComplexityVisitor.from_code(text)
    blocks = [*visitor.functions, *(method for kind in visitor.classes for method in kind.methods)]
    return [f"{block.fullname}: {block.complexity}" for block in blocks if block.complexity > MAX_COMPLEXITY]


def large_classes(text: str) -> list[str]:
    return [
        f"{kind.name}: {len(kind.methods)}"
        for kind in ComplexityVisitor.from_code(text).classes
        if len(kind.methods) > MAX_METHODS
    ]


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_block_has_more_paths_than_the_limit() -> None:
    assert [f"{place(path)}: {block}" for path in FILES for block in dense_blocks(path.read_text())] == []


def test_a_class_has_a_bounded_number_of_methods() -> None:
    assert [f"{place(path)}: {name}" for path in FILES for name in large_classes(path.read_text())] == []


def test_names_say_what_they_name() -> None:
    odd, total = count_names(FILES)

    assert odd.total() / total <= MAX_ODD_SHARE, odd.most_common(20)


@pytest.mark.parametrize(("branches", "dense"), [(19, False), (20, True)])
def test_a_block_is_dense_from_one_path_more_than_the_limit_on(branches: int, dense: bool) -> None:
    text = "def f(x):\n" + "".join(f"    if x == {number}:\n        return {number}\n" for number in range(branches))

    assert bool(dense_blocks(text)) is dense
