"""Proofs of fixes: each was compiled in its file before it is shown."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from optio.compiler.diagnostics import Diagnostic, Edit, Fix, Severity
from optio.compiler.edits import proofs
from optio.compiler.edits.proofs import Check, prove_fixes
from optio.compiler.edits.text_edits import apply_edits, compatible_fixes
from optio.compiler.layers import Bases
from optio.compiler.pipeline import TreePolicy, compile_file, compile_tree
from optio.compiler.rules.codes import RULES
from optio.compiler.source import Position, Span
from optio.compiler.source_tree import MemoryTree, OverlayTree
from tests.compiler.test_cases import CASES, INPUTS, findings
from tests.compiler.test_hints_to_the_letter import files_of

HEAD = "name: Example\nagentRuntime: claude-code\npromptTemplate: Say hello\n"
# Rules of files that cannot be read: whatever else is wrong in them comes to light with the cure.
OF_FILES = "OPT0"


def found_in(text: str) -> tuple[Diagnostic, ...]:
    return compile_tree(MemoryTree({"a.yaml": text.encode()})).diagnostics


def counted(found: list[Diagnostic]) -> Counter[tuple[str, str, str]]:
    return Counter(map(_identity, found))


def _identity(found: Diagnostic) -> tuple[str, str, str]:
    return found.path, found.code, found.message


def checked(tree: MemoryTree | OverlayTree, path: str, pedantic: bool) -> list[Diagnostic]:
    return compile_file(path, tree, Bases(tree), TreePolicy(tree), pedantic=pedantic).diagnostics


def unproved(case: Path) -> Iterator[str]:
    """Yield what is left or new after the fixes of a file, for each that fails alone and with the others of its file."""
    rule = RULES[case.relative_to(CASES).parts[0].partition("-")[0]]
    files = files_of(case)
    tree = MemoryTree(files)
    for path in tree.task_files():
        before = checked(tree, path, rule.pedantic)
        fixed = [each for each in before if each.fix is not None and each.path == path]
        together = compatible_fixes(fixed, unsafe=True)
        for each in fixed:
            trials = [[each], together] if each in together else [[each]]
            faults = [faults_after(files, path, before, trial, rule.pedantic) for trial in trials]
            if all(faults):
                yield f"{case.parent.name}/{case.name}: {each.message} ({each.hint}): {faults[0]}"


def faults_after(
    files: dict[str, bytes], path: str, before: list[Diagnostic], fixed: list[Diagnostic], pedantic: bool
) -> list[str]:
    edits = [edit for each in fixed for edit in each.fix.edits]  # type: ignore[union-attr]
    tree = OverlayTree(MemoryTree(files), {path: apply_edits(files[path], edits)})
    after = checked(tree, path, pedantic)
    more = counted(after) - counted(before)
    ended = counted(before) - counted(after)
    left = [each.message for each in fixed if not ended[_identity(each)]]
    is_hidden = any(each.severity is Severity.ERROR for each in fixed)
    new = [
        each.message
        for each in after
        if more[_identity(each)]
        and (each.severity is Severity.ERROR or (each.severity is Severity.WARNING and not is_hidden))
        and not any(one.code == "OPT321" and each.route[:2] == one.route[:2] for one in fixed)
    ]
    return left if any(each.code.startswith(OF_FILES) for each in fixed) else left + new


@pytest.mark.parametrize("rule", sorted({case.parent.name for case in INPUTS}))
def test_every_fix_of_the_golden_cases_ends_its_finding_and_brings_no_other(rule: str) -> None:
    assert [fault for case in INPUTS if case.parent.name == rule for fault in unproved(case)] == []


def test_every_fix_of_the_golden_cases_was_checked() -> None:
    unchecked = {each.code for case in INPUTS for each in findings(case) if each.fix is not None and not each.fix.checked}

    assert unchecked == set()


def test_a_fix_that_leads_to_another_error_is_dropped_and_its_hint_names_the_key() -> None:
    (found,) = found_in(HEAD + "args: [--fast]\n")

    assert (found.code, found.fix) == ("OPT101", None)
    hint = "the nearest key is `command`: write it if you mean that; it is the program of a task with `agentRuntime: command`"
    assert found.hint == f"{hint}, with its arguments"


def test_a_fix_in_a_template_is_tried_on_the_task_that_extends_it() -> None:
    base = b"type: template\nagentRuntime: claude-code\nbudgetUsd: 2.50\n"
    task = b"name: Example\npromptTemplate: Say hello\nextends: templates/base.yaml\n"

    (found,) = compile_tree(MemoryTree({"a.yaml": task, "templates/base.yaml": base})).diagnostics

    assert (found.path, found.fix and found.fix.checked) == ("templates/base.yaml", True)


def test_what_an_error_hid_is_no_fault_of_its_fix() -> None:
    text = HEAD + "triggers: [{type: webhok, config: {path: a, secrt: {name: S}}}]\n"

    found = {each.code: each for each in found_in(text)}

    assert found["OPT321"].fix == Fix.write("webhook", found["OPT321"].span, safe=False)._replace(checked=True)


def test_a_fix_that_writes_a_wrong_value_is_dropped() -> None:
    found = {each.route: each for each in found_in(HEAD + "dedupe: '{{REPO}}'\n")}

    assert found["dedupe",].fix is None


def finding(line: int, text: str, *, safe: bool = True) -> Diagnostic:
    span = Span(Position(line, 1), Position(line, 2))
    return Diagnostic(code="OPT103", message=f"wrong {line}", path="a.yaml", span=span, fix=Fix.write(text, span, safe=safe))


def test_one_bad_fix_of_many_costs_few_trials() -> None:
    found = [finding(line, "b" if line == 7 else "g") for line in range(1, 65)]
    trials = []

    def recheck(changed: dict[str, bytes]) -> Check:
        trials.append(changed)
        lines = changed["a.yaml"].decode().split("\n")
        return Check([each for each in found if lines[each.span.start.line - 1] != "g"], True)

    proved = prove_fixes(Check(found, True), {"a.yaml": b"x\n" * 64}, recheck)

    assert [each.span.start.line for each in proved if each.fix is None] == [7]
    assert len(trials) <= 14


def test_beyond_the_bound_a_safe_fix_is_unchecked_and_a_guess_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "MAX_TRIALS", 1)
    found = [finding(1, "b"), finding(2, "g", safe=False)]

    proved = prove_fixes(Check(found, True), {"a.yaml": b"x\nx\n"}, lambda changed: Check(found, True))

    assert [each.fix and each.fix.checked for each in proved] == [False, None]


def test_fixes_that_overlap_are_tried_one_by_one() -> None:
    one = finding(1, "g")
    span = Span(Position(1, 1), Position(2, 1))
    other = Diagnostic(code="OPT104", message="bad", path="a.yaml", fix=Fix((Edit(span, "g\n"),)))
    trials = []

    def recheck(changed: dict[str, bytes]) -> Check:
        trials.append(changed)
        return Check([], True)

    proved = prove_fixes(Check([one, other], True), {"a.yaml": b"x\nx\n"}, recheck)

    assert [each.fix is not None and each.fix.checked for each in proved] == [True, True]
    assert len(trials) == 2
