"""The golden cases: `tests/cases/<CODE>-<rule>/<name>.yaml`, or a directory of files, beside what `--format concise` prints.

`REWRITE_CASES=1 pytest tests/compiler/test_cases.py` writes the expected texts anew; read the difference before you
commit it.
"""

import os
from functools import cache
from pathlib import Path

import pytest

from optio.compiler import report
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import compile_tree
from optio.compiler.rules import changes
from optio.compiler.rules.codes import RULES
from optio.compiler.source_tree import MemoryTree

CASES = Path(__file__).parents[1] / "cases"
INPUTS = sorted(p for p in CASES.glob("*/*") if p.suffix != ".out")
# A link out of the tree cannot be committed (`test_tree.py`), nor can paths that differ by case (`test_across.py`). A file of
# another suffix is read only where it is named (`test_across.py`). A change has two trees: `tests/plan` has those.
WITHOUT_CASES = {"OPT702", "OPT705", "OPT706", *(rule.code for rule in changes.RULES)}


@cache
def findings(case: Path) -> tuple[Diagnostic, ...]:
    files = [case] if case.is_file() else sorted(p for p in case.rglob("*") if p.is_file())
    base = case.parent if case.is_file() else case
    directory = case.relative_to(CASES).parts[0]
    rule = RULES[directory.partition("-")[0]]
    tree = MemoryTree({p.relative_to(base).as_posix(): p.read_bytes() for p in files})
    return compile_tree(tree, pedantic=rule.pedantic, executor="process" if rule.by_executor else None).diagnostics


@pytest.mark.parametrize("rule", sorted({case.parent.name for case in INPUTS}))
def test_a_case_reports_what_stands_beside_it(rule: str) -> None:
    wrong = {}
    for case in INPUTS:
        if case.parent.name == rule:
            expected = case.with_name(case.name.removesuffix(".yaml") + ".out")
            found = "".join(line + "\n" for line in report.render_concise(findings(case)))
            if os.environ.get("REWRITE_CASES"):
                expected.write_text(found, encoding="utf-8")
            if found != (text := expected.read_text(encoding="utf-8")):
                wrong[case.name] = {"found": found, "expected": text}

    assert wrong == {}


@pytest.mark.parametrize("code", sorted(set(RULES) - WITHOUT_CASES))
def test_a_rule_has_a_case_that_fails_and_one_that_passes(code: str) -> None:
    cases = [p for p in INPUTS if p.parent.name == f"{code}-{RULES[code].name}"]

    reporting = [code in {d.code for d in findings(case)} for case in cases]

    assert True in reporting
    assert False in reporting


def test_every_case_stands_in_the_directory_of_a_rule() -> None:
    assert {p.parent.name for p in INPUTS} <= {f"{rule.code}-{rule.name}" for rule in RULES.values()}
