"""Clean files have no finding; a file with one mistake has one, at the character where the mistake is."""

from collections import Counter

import pytest

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.pipeline import compile_tree
from optio.compiler.rules.codes import RULES
from optio.compiler.source_tree import MemoryTree
from tests.corpus.corpus import HERE, Mistake, clean_files, companions, mistakes

# Why a rule has no mistake in the corpus.
WITHOUT = {
    "OPT218": "takes a prompt of 256 KiB",
    "OPT523": "depends on the executor; `tests/cli/test_isolation.py` has them",
    "OPT524": "depends on the executor; `tests/cli/test_isolation.py` has them",
    "OPT702": "takes a file that is named on the command line",
    "OPT706": "takes a link or a pipe on a disk",
}
CLEAN = clean_files()
MISTAKES = list(mistakes())


def found(files: dict[str, bytes], code: str) -> tuple[Diagnostic, ...]:
    return compile_tree(
        MemoryTree(files), pedantic=RULES[code].pedantic, executor="process" if RULES[code].by_executor else None
    ).diagnostics


@pytest.mark.parametrize("family", sorted({mistake.code[:4] for mistake in MISTAKES}))
def test_a_mistake_has_one_finding_at_its_place(family: str) -> None:
    each = [mistake for mistake in MISTAKES if mistake.code.startswith(family)]

    assert {f"{m.code} {m.name}": shown for m in each if (shown := not_as_expected(m))} == {}


def not_as_expected(mistake: Mistake) -> list[str]:
    """The findings of a mistake, if they are not the one at its place."""
    before = companions(CLEAN) | {path: CLEAN[path] for path in mistake.changed if path in CLEAN}
    known = Counter((d.path, d.code) for d in found(before, mistake.code))

    new = []
    for each in found(dict(mistake.files), mistake.code):
        if known[each.path, each.code]:
            known[each.path, each.code] -= 1
        else:
            new.append(each)

    shown = [f"{d.path}:{d.span.start.line}:{d.span.start.column} {d.code} {d.message}" for d in new]
    expected = f"{mistake.path}:{mistake.start.line}:{mistake.start.column} {mistake.code}"
    is_right = [line.split(" ")[:2] for line in shown] == [expected.split(" ")]
    is_right = is_right and (mistake.end is None or new[0].span.end == mistake.end)
    return [] if is_right else [f"not at {expected}", *shown]


def test_every_rule_has_a_mistake() -> None:
    of_changes = {code for code in RULES if code.startswith("OPT8")}

    assert set(RULES) - {mistake.code for mistake in MISTAKES} == set(WITHOUT) | of_changes


def test_clean_files_have_no_finding() -> None:
    compilation = compile_tree(MemoryTree(CLEAN))

    assert [d for d in compilation.diagnostics if d.severity is not Severity.INFO] == []
    assert len(compilation.registry.tasks) >= 100


def test_a_task_as_the_first_page_of_the_manual_has_it_is_served_without_a_warning() -> None:
    compilation = compile_tree(MemoryTree({"first-example.yaml": (HERE / "first-example.yaml").read_bytes()}))

    assert list(compilation.registry.tasks) == ["weekly-security-report"]
    assert [d.code for d in compilation.diagnostics if d.severity is Severity.WARNING] == []
