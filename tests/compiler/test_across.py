"""Across files: what only several of them, or their names, can get wrong."""

from pathlib import Path

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import DirectoryTree, MemoryTree

TASK = "name: {}\nagentRuntime: claude-code\npromptTemplate: Say hello\n"


def found(*paths: str) -> list[tuple[str, str]]:
    files = {path: TASK.format(f"Task {number}") for number, path in enumerate(paths)}
    return [(d.path, d.code) for d in compile_tree(MemoryTree(files)).diagnostics]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (("a.yaml", "b.yaml", "c/a.yaml"), []),
        (("A.yaml", "a.yaml"), [("a.yaml", "OPT705")]),
        (("Team/a.yaml", "team/a.yaml", "team/b.yaml"), [("team/a.yaml", "OPT705")]),
        (("a.yaml", "a.yml"), []),
    ],
)
def test_two_files_are_not_taken_for_one(paths: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    assert found(*paths) == expected


def test_a_file_that_is_not_served_says_so_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"name": "Report", "agentRuntime": "claude-code", "promptTemplate": "Say hello"}')

    (finding,) = compile_tree(DirectoryTree(tmp_path, only=["report.json"])).diagnostics

    assert finding.code == "OPT702"
    assert finding.hint == "name it `report.yaml`"
    assert compile_tree(DirectoryTree(tmp_path)).files == 0
