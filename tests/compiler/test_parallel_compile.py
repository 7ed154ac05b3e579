"""Several processes compile and check many files as one process does."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.cli.shared import parallel_compile as module
from optio.cli.shared.parallel_compile import CheckOptions, CheckResult, check_in_parallel, compile_in_parallel
from optio.compiler.pipeline import CompiledFile, compile_file, compile_tree
from optio.compiler.source_tree import DirectoryTree
from tests.compiler.trees import POLICIES, TEMPLATES, TEXTS, check_plainly, fill, write
from tests.support import ROOT

THREE = CheckOptions(jobs=3, few=1)


@pytest.mark.parametrize("policy", [None, *POLICIES])
def test_several_processes_compile_what_one_does(tmp_path: Path, policy: str | None) -> None:
    fill(tmp_path, 60)
    write(tmp_path, "odd.yaml", 'name: Odd\nagentRuntime: claude-code\npromptTemplate: "half \\ud83d a letter"\n')
    if policy is not None:
        write(tmp_path, "_policy.yaml", policy.format(turns=2))
    tree = DirectoryTree(tmp_path)

    assert compile_in_parallel(tree, THREE) == compile_tree(tree)


def test_few_files_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise AssertionError("a process was started")

    fill(tmp_path, 60)
    monkeypatch.setattr(os, "fork", refused)

    assert compile_in_parallel(DirectoryTree(tmp_path)).files


def test_each_process_compiles_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 60)
    tree, mine = DirectoryTree(tmp_path), []

    def noted(path: str, *more: object, **options: object) -> CompiledFile:
        mine.append(path)
        return compile_file(path, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "compile_file", noted)
    compile_in_parallel(tree, THREE)

    assert mine == list(tree.task_files())[::3]


def test_what_a_killed_process_does_not_bring_is_compiled_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 60)
    tree, parent = DirectoryTree(tmp_path), os.getpid()

    def killed(path: str, *more: object, **options: object) -> CompiledFile:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return compile_file(path, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "compile_file", killed)

    assert compile_in_parallel(tree, THREE) == compile_tree(tree)


@settings(max_examples=15, deadline=None)
@given(
    texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=12),
    names=st.lists(st.sampled_from(["One", "Two", "Three"]), min_size=12, max_size=12),
    policy=st.sampled_from([None, *POLICIES]),
    jobs=st.integers(1, 4),
    pedantic=st.booleans(),
)
def test_several_processes_find_what_one_does(
    texts: list[str], names: list[str], policy: str | None, jobs: int, pedantic: bool
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write(root, "base.yaml", TEMPLATES[0].format(word="red"))
        if policy is not None:
            write(root, "_policy.yaml", policy.format(turns=2))
        for number, text in enumerate(texts):
            write(root, f"{number}.yaml", text.format(name=names[number], word="red"))

        assert check_in_parallel(root, options=CheckOptions(pedantic=pedantic, jobs=jobs, few=0)) == check_plainly(
            root, pedantic=pedantic
        )


def test_files_that_are_named_are_checked_alone(tmp_path: Path) -> None:
    fill(tmp_path, 30)
    only = ["t0/task-0000.yaml", "t2/task-0005.yaml", "t1/task-0007.yaml"]
    compilation = compile_tree(DirectoryTree(tmp_path, only), is_whole=False)

    found = check_in_parallel(tmp_path, only, THREE)

    assert found == CheckResult(tuple(sorted(only)), len(compilation.registry.tasks), compilation.diagnostics)


@pytest.mark.parametrize("path", ["t1/_defaults.yaml", "t0/task-0000.yaml", "t9/new.yaml"])
def test_an_unsaved_file_takes_the_place_of_the_saved_one(tmp_path: Path, path: str) -> None:
    fill(tmp_path, 30)
    typed = {path: b"maxTurns: 0\n"}

    assert check_in_parallel(tmp_path, None, THREE, typed=typed) == check_plainly(tmp_path, typed=typed)


def test_a_name_that_is_no_unicode_is_checked_by_every_process(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    for number in range(3):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/t0/\xff%d.yaml" % number)).write_text("name: [")

    assert check_in_parallel(tmp_path, options=CheckOptions(jobs=3, few=0)) == check_plainly(tmp_path)


def test_findings_do_not_depend_on_the_order_of_sets() -> None:
    command = [sys.executable, "-m", "optio", "check", "--format", "json", "--verbose", "--jobs", "1", "tests/cases"]
    printed = {
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False, env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in "12"
    }

    assert len(printed) == 1


@pytest.mark.parametrize(
    ("files", "wanted", "jobs"), [(99, 8, 1), (0, None, 1), (199, 8, 1), (200, 8, 2), (10_000, 3, 3), (10_000, 1, 1)]
)
def test_there_are_as_many_processes_as_are_worth_it(files: int, wanted: int | None, jobs: int) -> None:
    assert CheckOptions(jobs=wanted).jobs_for(files) == jobs
