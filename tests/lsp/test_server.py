"""The language server as an editor sees it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lsp.editor import Editor

GOOD = "name: One\nagentRuntime: claude-code\npromptTemplate: Say hello\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.d").mkdir()
    (tmp_path / "tasks.d" / "one.yaml").write_text(GOOD)
    return tmp_path


@pytest.fixture
def editor(folder: Path) -> Iterator[Editor]:
    with Editor(folder) as editor:
        yield editor


def test_findings_follow_what_is_typed_before_it_is_saved(editor: Editor) -> None:
    uri = editor.open("tasks.d/one.yaml")
    editor.codes(uri, [])

    version = editor.type(uri, GOOD + "maxTurn: 3\n")

    (found,) = editor.codes(uri, ["OPT101"])
    assert found["range"] == {"start": {"line": 3, "character": 0}, "end": {"line": 3, "character": 7}}
    assert found["message"] == "unknown key `maxTurn`\ndid you mean `maxTurns`?"
    assert (found["severity"], found["source"]) == (1, "optio")
    assert editor.seen[-1]["params"]["version"] == version
    editor.type(uri, GOOD + "maxTurns: 3\n")
    editor.codes(uri, [])


def test_two_files_that_do_not_go_together_are_told_in_the_one_that_can_change(editor: Editor) -> None:
    uri = editor.open("tasks.d/two.yaml", GOOD)

    (found,) = editor.codes(uri, ["OPT701"])

    (related,) = found["relatedInformation"]
    assert related["location"]["uri"] == editor.uri("tasks.d/one.yaml")
    editor.type(uri, GOOD.replace("One", "Two"))
    editor.codes(uri, [])


def test_a_file_that_nobody_opened_is_told_of_when_another_breaks_it(folder: Path, editor: Editor) -> None:
    tasks = folder / "tasks.d"
    (tasks / "base.yaml").write_text("type: template\nagentRuntime: claude-code\npromptTemplate: Say {{WHO}}\n")
    (tasks / "two.yaml").write_text("name: Two\nextends: base.yaml\n")
    template = editor.open("tasks.d/base.yaml")

    editor.type(template, "type: template\nagentRuntime: claude-cod\npromptTemplate: Say hello\n")

    editor.codes(template, ["OPT104"])
    editor.type(template, "agentRuntime: claude-code\nname: Base\npromptTemplate: Say hello\n")
    (found,) = editor.codes(editor.uri("tasks.d/two.yaml"), ["OPT703"])
    assert "is no template" in found["message"]
    editor.close(template)
    editor.codes(editor.uri("tasks.d/two.yaml"), [])
