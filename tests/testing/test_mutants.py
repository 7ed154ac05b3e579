"""The tests of our own tasks are worth their name: each slip in what they say of a task makes one of them fail."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source_tree import DirectoryTree, OverlayTree
from optio.compiler.yaml.emit import dump
from optio.model.spec import to_json
from optio.testing.run import run_task_tests, run_tests
from tests.support import ROOT
from tests.testing.mutants import Mutant, mutants

TREES = [ROOT / "tasks.d", *sorted(ROOT.glob("examples/*/tasks.d"))]
TASKS = [(tree, each.task) for tree in TREES for each in run_tests(DirectoryTree(tree)).tested]


def survivors(tree: Path, found: list[Mutant]) -> list[str]:
    files = DirectoryTree(tree)
    return [name for name, task in found if all(result.passed for result in run_task_tests(task, files).results)]


@pytest.mark.parametrize(("tree", "task"), TASKS, ids=[task.id for _, task in TASKS])
def test_every_mutant_of_a_task_is_killed_by_its_own_tests(tree: Path, task: ResolvedTask) -> None:
    found = list(mutants(task))

    alive = survivors(tree, found)

    assert not alive, f"{len(alive)} of {len(found)} survive:\n" + "\n".join(alive)


@pytest.mark.parametrize(("tree", "task"), TASKS, ids=[task.id for _, task in TASKS])
def test_a_mutant_that_is_written_into_its_file_fails_the_tests_of_its_tree(tree: Path, task: ResolvedTask) -> None:
    alive = []
    for name, mutant in mutants(task):
        document = to_json(mutant.spec, defaults=False)
        text = dump({**document, "promptTemplate": mutant.prompt})
        report = run_tests(OverlayTree(DirectoryTree(tree), {task.path: text.encode()}))
        if report.compilation.ok and all(result.passed for result in report.results):
            alive.append(name)

    assert alive == []


def test_a_task_that_is_written_anew_passes_its_tests() -> None:
    for tree, task in TASKS:
        document = to_json(task.spec, defaults=False)
        report = run_tests(OverlayTree(DirectoryTree(tree), {task.path: dump(document).encode()}))
        assert all(result.passed for result in report.results), task.id


def test_without_tests_every_mutant_survives() -> None:
    tree, task = next((tree, task) for tree, task in TASKS if task.id == "push-review")
    found = [mutant._replace(task=replace(mutant.task, spec=mutant.task.spec.replace(tests=[]))) for mutant in mutants(task)]

    assert survivors(tree, found) == [mutant.name for mutant in found]


def test_there_are_mutants_of_every_task_and_of_every_kind() -> None:
    kinds = Counter(mutant.name.split(": ", 1)[1].split(" ")[0] for _, task in TASKS for mutant in mutants(task))

    assert {task.id for _, task in TASKS if not list(mutants(task))} == set()
    assert set(kinds) >= {"webhook", "schedule", "default", "when", "event", "events", "secret", "cron", "timezone", "prompt"}
