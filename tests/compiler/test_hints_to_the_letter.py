"""Hints followed to the letter by a program: a cure is a text to write, not a form, and leads to no further error."""

from collections import Counter
from pathlib import Path

import pytest

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.pipeline import compile_tree
from optio.compiler.rules.codes import RULES
from optio.compiler.source_tree import MemoryTree
from tests.compiler.letters import Files, followed, says_text
from tests.compiler.test_cases import CASES, INPUTS, findings

# What a person has to do by hand, or to think of: no text could stand there.
WITHOUT_TEXT = {
    "OPT001": "indentation, escapes and templates: the lines stay, their layout changes",
    "OPT002": "the encoding of a file",
    "OPT006": "a whole file that is one number",
    "OPT008": "values to be written out",
    "OPT009": "a value to be written out",
    "OPT013": "a document to be moved to a file of its own",
    "OPT014": "a file to be split",
    "OPT101": "keys of another system that hold the steps of a pipeline, or all of a task",
    "OPT105": "a number of thousands of digits",
    "OPT106": "the text of a prompt",
    "OPT107": "a name with a line break in it",
    "OPT110": "a document of another kind",
    "OPT115": "a file to be written",
    "OPT121": "the policy has its own finding, with its cure",
    "OPT207": "a schema through a reference",
    "OPT208": "a value whose type contradicts the whole list",
    "OPT214": "a schema to be written out",
    "OPT218": "a prompt to be shortened",
    "OPT309": "a schema of several, of which each refuses the value",
    "OPT407": "the steps between, which only the sender's payload shows",
    "OPT424": "a sample or a mapping, one of which is old",
    "OPT540": "an address, a secret or tools that the author alone knows",
    "OPT541": "a file to be written, or to be corrected by its own finding",
    "OPT542": "tools, of which the author alone knows which are needed",
    "OPT703": "a circle of templates, which can be cut anywhere",
}
# Of the errors of all cases: what a program can do by their hints, and what leads to no other error. Where a value is not
# certain, the hint names the key alone.
LEAST_FOLLOWED = 0.72


def errors(case: Path) -> list[Diagnostic]:
    """Of the case's own rule; none where more are found than are shown, for then each cure brings another to light."""
    code = case.relative_to(CASES).parts[0].partition("-")[0]
    found = findings(case)
    return [d for d in found if d.code == code and d.severity is Severity.ERROR] if not any(d.more for d in found) else []


def files_of(case: Path) -> Files:
    found = [case] if case.is_file() else [p for p in case.rglob("*") if p.is_file()]
    base = case.parent if case.is_file() else case
    return {p.relative_to(base).as_posix(): p.read_bytes() for p in found}


def counted(found: tuple[Diagnostic, ...]) -> Counter[tuple[str, str, str]]:
    return Counter((d.path, d.code, d.message) for d in found if d.severity is Severity.ERROR)


@pytest.mark.parametrize("code", sorted(code for code in RULES if code not in WITHOUT_TEXT))
def test_the_hint_of_an_error_says_what_to_write_or_to_delete(code: str) -> None:
    cases = [case for case in INPUTS if case.parent.name.startswith(code)]

    assert [(case.name, d.hint) for case in cases for d in errors(case) if not d.fix and not says_text(d.hint)] == []


def test_hints_that_are_followed_to_the_letter_end_their_error_and_bring_no_other() -> None:
    done, left = 0, []
    for case in INPUTS:
        files, found = files_of(case), errors(case)
        if not found:
            continue
        rule = RULES[found[0].code]
        executor = "process" if rule.by_executor else None
        before = counted(findings(case))
        for each in found:
            name = (each.path, each.code, each.message)
            for new in followed(files, each):
                after = counted(compile_tree(MemoryTree(new), pedantic=rule.pedantic, executor=executor).diagnostics)
                if after[name] < before[name] and not after - before:
                    done += 1
                    break
            else:
                left.append(f"{case.parent.name}/{case.name}: {each.message} ({each.hint})")

    assert done / (done + len(left)) >= LEAST_FOLLOWED, f"{done} of {done + len(left)}; left are:\n" + "\n".join(left)
