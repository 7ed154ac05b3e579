"""The catalogue keeps what it says: its examples are compiled, and its texts follow one form."""

import re
from pathlib import Path

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.pipeline import compile_tree
from optio.compiler.rules import changes
from optio.compiler.rules.codes import RETIRED, RULES
from optio.compiler.rules.rule import ERROR, INFO, SUSPECTS, Rule
from optio.compiler.source_tree import MemoryTree
from tests.examples_of_rules import example_files

WITH_EXAMPLES = [rule for rule in RULES.values() if rule.wrong]
CASES = Path(__file__).parents[1] / "cases"


def found(rule: Rule, example: str) -> tuple[Diagnostic, ...]:
    return compile_tree(
        MemoryTree(example_files(example)), pedantic=rule.pedantic, executor="process" if rule.by_executor else None
    ).diagnostics


def test_each_wrong_example_breaks_its_rule_and_no_other() -> None:
    broken = {rule.code: {(d.code, d.severity) for d in found(rule, rule.wrong)} for rule in WITH_EXAMPLES}

    assert {code: d for code, d in broken.items() if d != {(code, RULES[code].severity)}} == {}


def test_no_right_example_breaks_a_rule() -> None:
    broken = {rule.code: found(rule, rule.right) for rule in WITH_EXAMPLES}

    assert {code: d for code, d in broken.items() if d} == {}


def test_every_finding_names_a_cure() -> None:
    assert [d for rule in WITH_EXAMPLES for d in found(rule, rule.wrong) if not d.hint] == []


def test_only_named_files_links_out_of_the_tree_and_what_a_plan_finds_have_no_example() -> None:
    assert set(RULES) - {rule.code for rule in WITH_EXAMPLES} == {"OPT702", "OPT706", *(rule.code for rule in changes.RULES)}


def test_codes_and_names_are_unique_and_well_formed() -> None:
    names = [rule.name for rule in RULES.values()]

    assert len(set(names)) == len(names)
    for code, rule in RULES.items():
        assert re.fullmatch(r"OPT\d{3}", code)
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
        assert rule.severity in ("error", "warning", "info")
        assert rule.why.endswith(".")
        assert not rule.title.endswith(".")


def test_a_suspicion_is_information_and_with_strict_a_warning_at_most() -> None:
    suspicions = [rule for rule in RULES.values() if rule.certainty is SUSPECTS]

    assert [rule.code for rule in suspicions if rule.severity != INFO or rule.strict == ERROR] == []


def test_no_finding_of_a_suspicion_is_raised_above_information() -> None:
    raised = {
        line
        for out in CASES.glob("*/*.out")
        for line in out.read_text(encoding="utf-8").splitlines()
        if (reported := re.search(r": (error|warning): .*\[(OPT\d{3}) ", line)) and RULES[reported[2]].certainty is SUSPECTS
    }

    assert raised == set()


def test_no_rule_has_the_code_or_name_of_a_retired_one() -> None:
    assert RETIRED.keys().isdisjoint(RULES)
    assert set(RETIRED.values()).isdisjoint(rule.name for rule in RULES.values())


def test_comments_and_policies_may_name_retired_rules() -> None:
    task = "name: A\nagentRuntime: command\ncommand: [make]\npriority: 5 # optio: ignore[OPT618] the highest starts first\n"
    policy = "type: policy\nrules: {OPT433: 'off', OPT617: error}\n"

    assert compile_tree(MemoryTree({"a.yaml": task.encode(), "_policy.yaml": policy.encode()}), pedantic=True).ok
    assert compile_tree(MemoryTree({"a.yaml": task.encode()})).diagnostics == ()


def test_messages_are_one_line_without_a_full_stop() -> None:
    for out in CASES.glob("*/*.out"):
        for line in out.read_text(encoding="utf-8").splitlines():
            message = re.fullmatch(r"\S+:\d+:\d+: (?:error|warning|info): (.+) \[OPT\d{3} [a-z-]+\] \((.+)\)", line)
            assert message, line
            assert not message[1].endswith("."), line
            assert not message[1][0].isupper() or message[1].startswith(("U+", "UTF-16", "UTF-32")), line
