"""Many files are compiled by several processes to what one process makes of them."""

import os
import signal
from pathlib import Path

import pytest

from optio.check_cache import parallel_compile as module
from optio.check_cache.options import CheckOptions
from optio.check_cache.parallel_compile import compile_in_parallel
from optio.compiler.pipeline import CompiledFile, compile_file, compile_tree
from optio.compiler.source_tree import DirectoryTree
from tests.check_cache.trees import POLICIES, fill, write

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

    def noted(path: str, *more: object) -> CompiledFile:
        mine.append(path)
        return compile_file(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "compile_file", noted)
    compile_in_parallel(tree, THREE)

    assert mine == list(tree.task_files())[::3]


def test_what_a_killed_process_does_not_bring_is_compiled_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 60)
    tree, parent = DirectoryTree(tmp_path), os.getpid()

    def killed(path: str, *more: object) -> CompiledFile:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return compile_file(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "compile_file", killed)

    assert compile_in_parallel(tree, THREE) == compile_tree(tree)
