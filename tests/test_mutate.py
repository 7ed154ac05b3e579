"""The mutation sample: what it changes, what it leaves alone, and that it tells a killed mutant from a survivor."""

from pathlib import Path

import pytest

from tests import mutate

SOURCE = '''"""A head."""

LIMIT: int = 3


def is_open(count: int) -> bool:
    """True below the limit."""
    log.info("asked %d", 1)
    return count < LIMIT and True
'''


def changes(source: str) -> set[str]:
    return {mutate.mutant(source, site).change for site in mutate.sites(source)}


def test_operators_constants_and_conditions_change_and_texts_for_people_do_not() -> None:
    assert changes(SOURCE) == {
        "`3` -> `4`",
        "`count < LIMIT` -> `count <= LIMIT`",
        "`count < LIMIT and True` -> `count < LIMIT or True`",
        "`True` -> `False`",
        "`return count < LIMIT and True` -> `return None`",
    }


def test_each_mutant_is_a_module_that_differs_in_one_place() -> None:
    for site in mutate.sites(SOURCE):
        broken = mutate.mutant(SOURCE, site)
        compile(broken.text, "broken.py", "exec")


def test_the_flags_of_a_data_class_the_size_of_a_cache_and_imports_for_types_stay() -> None:
    source = """
if TYPE_CHECKING:
    check(1)

@dataclass(frozen=True)
class A:
    size: int = 3

@lru_cache(maxsize=9)
def f(): ...

@limited(7)
def g(): ...
"""

    assert changes(source) == {"`3` -> `4`", "`7` -> `8`"}


@pytest.mark.parametrize(("test", "killed"), [("assert twice(2) == 4", True), ("assert twice(0) == 0", False)])
def test_a_mutant_is_killed_by_a_test_that_fails(test: str, killed: bool, tmp_path: Path) -> None:
    source = "def twice(n):\n    return n * 2\n"
    (site,) = [each for each in mutate.sites(source) if "n // 2" in mutate.mutant(source, each).change and each.kind == 0][:1]
    (tmp_path / "code.py").write_text(mutate.mutant(source, site).text)
    (tmp_path / "test_code.py").write_text(f"from code import twice\n\ndef test_it():\n    {test}\n")

    assert mutate.is_killed(tmp_path, ["test_code.py"]) is killed


def test_held_by_a_file_are_those_that_import_it() -> None:
    assert "tests/model/test_text.py" in mutate.held_by("optio/model/text.py")


def test_the_files_and_held_by_the_table_are_there() -> None:
    for file, tests in mutate.TESTS.items():
        assert all((mutate.ROOT / path).exists() for path in (file, *tests)), file
