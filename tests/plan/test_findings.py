"""A plan as findings: which rule, at which place."""

import pytest

from optio.compiler.report import render_concise
from optio.compiler.rules import changes
from optio.compiler.source_tree import DirectoryTree, MemoryTree
from optio.model.effect import EffectKind, EffectWeight
from optio.plan.findings import plan_diagnostics
from tests.plan.test_changes import CHANGES, NAMES, planned

FOUND = {
    "a-webhook-moved": ["report.yaml:30:13 OPT801"],
    "a-webhook-taken-away": ["report.yaml:26:3 OPT801"],
    "another-secret-for-a-webhook": ["report.yaml:31:15 OPT801"],
    "a-secret-rotated": [],
    "a-bound-tightened": ["report.yaml:11:37 OPT802"],
    "a-bound-loosened": [],
    "all-tasks-removed": ["a.yaml:1:1 OPT804", *(f"{name}.yaml:1:1 OPT810" for name in "abcde")],
    "a-few-of-many-removed": ["k.yaml:1:1 OPT810", "l.yaml:1:1 OPT810"],
    "a-task-removed": ["hello.yaml:1:1 OPT810"],
    "a-filter-turned-round": ["report.yaml:33:13 OPT805"],
    "a-filter-that-takes-less": [],
    "a-policy-loosened": [*["_policy.yaml:1:1 OPT811"] * 2, "_policy.yaml:2:23 OPT811", "_policy.yaml:3:18 OPT811"],
    "a-policy-that-cannot-be-read": [],
    "a-secret-more": ["report.yaml:23:32 OPT805"],
    "an-image-from-elsewhere": ["report.yaml:21:10 OPT805"],
    "another-tag": ["report.yaml:21:10 OPT807"],
    "a-webhook-without-a-signature": ["report.yaml:31:17 OPT805"],
    "a-budget-doubled": ["report.yaml:16:12 OPT806"],
    "a-budget-lowered": [],
    "another-model": ["report.yaml:4:8 OPT807", "report.yaml:16:12 OPT806"],
    "another-hour": ["report.yaml:27:30 OPT808"],
    "the-other-half-of-the-year": ["report.yaml:27:30 OPT808"],
    "catch-up": [],
    "comments-and-blanks": ["report.yaml:1:1 OPT809"],
    "a-file-moved": ["team/weekly.yaml:1:1 OPT809"],
    "values-moved-into-a-template": ["report.yaml:1:1 OPT809"],
    "a-variable": [],
    "words-of-strangers": ["report.yaml:32:28 OPT805"],
}


@pytest.mark.parametrize("name", FOUND)
def test_a_change_is_found_where_it_is_made(name: str) -> None:
    found = plan_diagnostics(planned(name), DirectoryTree(CHANGES / name / "after"))

    assert [f"{each.path}:{each.span.start.line}:{each.span.start.column} {each.code}" for each in found] == FOUND[name]


def test_every_rule_of_changes_is_found_and_not_found() -> None:
    # OPT803 needs a server's word.
    found = {line.split()[-1] for lines in FOUND.values() for line in lines} | {"OPT803"}

    assert found == {rule.code for rule in changes.RULES}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("a-parameter-required", "give it a `default`, or tell everyone who starts the task"),
        ("a-parameter-gone", "keep accepting the old parameters, or tell everyone who starts the task"),
        ("a-bound-tightened", "keep accepting the old parameters, or tell everyone who starts the task"),
        ("a-type-narrowed", "keep accepting the old parameters, or tell everyone who starts the task"),
        ("values-instead-of-any-text", "keep accepting the old parameters, or tell everyone who starts the task"),
    ],
)
def test_what_breaks_callers_names_a_cure_that_fits(name: str, hint: str) -> None:
    found = plan_diagnostics(planned(name), DirectoryTree(CHANGES / name / "after"))

    assert {each.hint for each in found if each.code == "OPT802"} == {hint}


def test_a_rename_is_what_breaks_callers() -> None:
    assert [each.weight for each in planned("a-task-renamed").effects if each.kind is EffectKind.TASK_RENAMED] == [
        EffectWeight.DANGER
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_finding_names_a_cure_on_one_line(name: str) -> None:
    for line in render_concise(plan_diagnostics(planned(name), DirectoryTree(CHANGES / name / "after"))):
        assert line.endswith(")")
        assert "\n" not in line


def test_a_removed_task_in_use_is_told_by_who_knows_of_its_runs() -> None:
    plan = planned("a-task-removed")

    (found,) = plan_diagnostics(plan, MemoryTree({}), busy={"hello": 3, "report": 9})

    assert (found.code, found.path) == ("OPT803", "hello.yaml")
    assert found.message == "`hello` is removed: 3 runs began in the last 30 days"
    assert [each.code for each in plan_diagnostics(plan, MemoryTree({}), busy={"hello": 0})] == ["OPT810"]


def test_so_many_removals_may_be_meant() -> None:
    found = plan_diagnostics(planned("all-tasks-removed"), MemoryTree({}), allow_prune=True)

    assert {each.code for each in found} == {"OPT810"}
