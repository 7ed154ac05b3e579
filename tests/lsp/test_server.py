"""The language server as an editor sees it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lsp.editor import WAIT, Editor, Message
from tests.support import eventually

GOOD = "name: One\nagentRuntime: claude-code\npromptTemplate: Say hello\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.d").mkdir()
    (tmp_path / "tasks.d" / "one.yaml").write_text(GOOD)
    return tmp_path


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    """One server for all tests that need none of their own: each has a task directory of its own in it."""
    with Editor(tmp_path_factory.mktemp("folder")) as editor:
        yield editor


@pytest.fixture
def editor(started: Editor, folder: Path) -> Iterator[Editor]:
    with started.within(folder):
        yield started


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
    assert "is not a template" in found["message"]
    editor.close(template)
    editor.codes(editor.uri("tasks.d/two.yaml"), [])


@pytest.mark.parametrize(("encoding", "column"), [("utf-8", 15), ("utf-16", 13), ("utf-32", 12)])
def test_columns_count_as_the_editor_asked(folder: Path, encoding: str, column: int) -> None:
    with Editor(folder, encodings=[encoding]) as editor:
        assert editor.capabilities["positionEncoding"] == encoding
        uri = editor.open("tasks.d/two.yaml", GOOD.replace("One", "Two") + "dedupe: {'\N{GRINNING FACE}': 1, key: x}\n")
        (found,) = [each for each in editor.until(lambda: editor.told(uri)) if each["code"] == "OPT101"]
        start, end = found["range"]["start"], found["range"]["end"]
        assert (start["line"], start["character"]) == (3, 9)
        assert end["character"] == column


def test_a_server_whose_editor_leaves_while_it_reads_a_tree_fails_once_to_say_that_it_has_read_it(folder: Path) -> None:
    with Editor(folder) as editor:
        uri = editor.open("tasks.d/one.yaml", GOOD + "maxTurn: 3\n")
        editor.until(lambda: editor.told(uri))

    assert b"".join(editor.errors).count(b"Error sending data") <= 1


def test_utf16_is_what_an_editor_gets_that_asks_for_nothing(editor: Editor) -> None:
    assert editor.capabilities["positionEncoding"] == "utf-16"


def test_places_are_right_behind_a_mark_and_with_windows_line_ends(editor: Editor) -> None:
    text = "\ufeffname: One\r\nagentRuntime: claude-code\r\npromptTemplate: Say {{WHO}}\r\nmaxTurn: 3\r\n"
    uri = editor.open("tasks.d/one.yaml", text)

    found = {each["code"]: each for each in editor.until(lambda: editor.told(uri))}

    assert found["OPT101"]["range"] == {"start": {"line": 3, "character": 0}, "end": {"line": 3, "character": 7}}
    assert editor.at("textDocument/hover", uri, 0, 2)["range"] == {
        "start": {"line": 0, "character": 1},
        "end": {"line": 0, "character": 5},
    }


def edited(text: str, action: Message) -> str:
    """The text with an action's edits; all is ASCII here."""
    (change,) = action["edit"]["documentChanges"]
    lines = text.split("\n")

    def offset(at: Message) -> int:
        return sum(len(line) + 1 for line in lines[: at["line"]]) + int(at["character"])

    for edit in sorted(change["edits"], key=lambda edit: offset(edit["range"]["start"]), reverse=True):
        text = text[: offset(edit["range"]["start"])] + edit["newText"] + text[offset(edit["range"]["end"]) :]
    return text


def actions(editor: Editor, uri: str, found: Message, **more: Any) -> dict[str, Message]:
    """What is offered for a finding, by title."""
    context = {"diagnostics": [found], **more}
    offered = editor.ask("textDocument/codeAction", textDocument={"uri": uri}, range=found["range"], context=context)
    return {each["title"]: each for each in offered}


def test_a_fix_is_offered_and_does_what_it_says(editor: Editor) -> None:
    text = GOOD + "max_turns: 3\nmaxConcurent: 2\n"
    uri = editor.open("tasks.d/one.yaml", text)
    wrong, guess = editor.codes(uri, ["OPT111", "OPT101"])

    offered = actions(editor, uri, wrong)

    assert list(offered) == ["Write `maxTurns`", "Fix all that is safe to fix"]
    assert offered["Write `maxTurns`"]["isPreferred"] is True
    assert edited(text, offered["Write `maxTurns`"]) == text.replace("max_turns", "maxTurns")
    assert offered["Fix all that is safe to fix"]["kind"] == "source.fixAll.optio"
    assert edited(text, offered["Fix all that is safe to fix"]) == text.replace("max_turns", "maxTurns")
    (title,) = actions(editor, uri, guess, only=["quickfix"])
    assert title == "Write `maxConcurrent` (a guess)"
    assert list(actions(editor, uri, guess, only=["source.fixAll"])) == ["Fix all that is safe to fix"]


def test_quotes_are_offered_where_a_file_cannot_be_read_without_them(editor: Editor) -> None:
    text = GOOD + "description: {{A}} and more  # why\n"
    uri = editor.open("tasks.d/one.yaml", text)
    (wrong,) = editor.codes(uri, ["OPT001"])

    (action,) = actions(editor, uri, wrong, only=["quickfix"]).values()

    assert action["title"] == 'Write `"{{A}} and more"` (a guess)'
    assert edited(text, action) == text.replace("{{A}} and more", '"{{A}} and more"')


def test_a_finding_can_be_ignored_by_a_comment_that_works(editor: Editor) -> None:
    schema = "paramsSchema:\n  type: object\n  additionalProperties: false\n  properties:\n"
    params = schema + "    OLD: {type: string, default: x, maxLength: 9}\n"
    text = GOOD + params
    uri = editor.open("tasks.d/one.yaml", text)
    (found,) = editor.codes(uri, ["OPT202"])
    assert found["tags"] == [1]

    (title, action), *_ = [(t, a) for t, a in actions(editor, uri, found).items() if t.startswith("Ignore")]

    assert title == "Ignore OPT202 unused-param here"
    done = edited(text, action)
    assert "    # optio: ignore[OPT202] \n    OLD:" in done
    editor.type(uri, done)
    editor.codes(uri, [])


def test_an_error_cannot_be_ignored(editor: Editor) -> None:
    uri = editor.open("tasks.d/one.yaml", GOOD + "agentRuntim: x\n")
    (found,) = editor.codes(uri, ["OPT101"])

    assert not [title for title in actions(editor, uri, found) if "gnore" in title]


def test_options_are_taken_at_the_start_and_later(folder: Path) -> None:
    with Editor(folder, options={"strict": True}) as editor:
        uri = editor.open("tasks.d/one.yaml")
        strict = [each["code"] for each in editor.until(lambda: editor.told(uri))]
        assert len(strict) > 3
        editor.tell("workspace/didChangeConfiguration", settings={"optio": {"strict": False}})
        editor.codes(uri, [])
        editor.tell("workspace/didChangeConfiguration", settings={"optio": {"strickt": 1, "verbose": "yes"}})
        said = editor.until(lambda: [m["params"]["message"] for m in editor.seen if m["method"] == "window/showMessage"][1:])
        assert said == ["`verbose` must be true or false"]


def test_another_task_directory_can_be_named(folder: Path) -> None:
    (folder / "tasks.d").rename(folder / "agents")
    with Editor(folder, options={"tasks": "agents"}) as editor:
        uri = editor.open("agents/two.yaml", GOOD)
        editor.codes(uri, ["OPT701"])


def test_a_task_outside_of_any_task_directory_is_checked_with_its_own(editor: Editor, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "p.md").write_text("Say {{WHO}}\n")
    uri = editor.open("elsewhere/a.yaml", "name: One\nagentRuntime: claude-code\npromptFile: p.md\nmaxTurn: 1\n")
    editor.codes(uri, ["OPT101"])
    editor.close(uri)
    editor.codes(uri, [])


def test_other_yaml_is_left_alone(editor: Editor) -> None:
    compose = editor.open("compose.yaml", "services: {web: {image: nginx}}\n")
    task = editor.open("tasks.d/one.yaml")
    editor.codes(task, [])

    assert editor.told(compose) is None
    assert editor.at("textDocument/completion", compose, 0, 0)["items"] == []


def test_what_changes_on_the_disk_is_seen_when_the_editor_says_so(editor: Editor, folder: Path) -> None:
    uri = editor.open("tasks.d/one.yaml")
    editor.codes(uri, [])
    other = folder / "tasks.d" / "two.yaml"
    other.write_text(GOOD.replace("One", "Two") + "maxTurn: 1\n")

    editor.tell("workspace/didChangeWatchedFiles", changes=[{"uri": other.as_uri(), "type": 1}])

    editor.codes(other.as_uri(), ["OPT101"])
    other.unlink()
    editor.tell("workspace/didChangeWatchedFiles", changes=[{"uri": other.as_uri(), "type": 3}])
    editor.codes(other.as_uri(), [])


def test_a_file_that_is_deleted_under_the_editor_is_still_what_is_typed(editor: Editor, folder: Path) -> None:
    uri = editor.open("tasks.d/one.yaml")
    editor.codes(uri, [])
    (folder / "tasks.d" / "one.yaml").unlink()
    editor.type(uri, GOOD + "maxTurn: 1\n")
    editor.codes(uri, ["OPT101"])
    (folder / "tasks.d").rmdir()
    editor.tell("workspace/didChangeWatchedFiles", changes=[{"uri": uri, "type": 3}])
    editor.type(uri, GOOD)
    editor.codes(uri, [])


ODD = [
    "file:///%00",
    "file:///%FF%FE.yaml",
    "untitled:Untitled-1",
    "git:/a.yaml?x",
    "",
    "file://",
    "file:///",
    "::",
    "file:///a/../../../b.yaml",
    "http://[",
]


def test_odd_documents_end_nothing(editor: Editor) -> None:
    for uri in ODD:
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": GOOD}
        editor.tell("textDocument/didOpen", textDocument=document)
        editor.request("textDocument/hover", textDocument={"uri": uri}, position={"line": 0, "character": 1})
        editor.tell("textDocument/didChange", textDocument={"uri": uri, "version": 2}, contentChanges=[{"text": "\udcff"}])
        editor.tell("textDocument/didClose", textDocument={"uri": uri})

    uri = editor.open("tasks.d/one.yaml", GOOD + "maxTurn: 1\n")
    editor.codes(uri, ["OPT101"])


def test_odd_texts_end_nothing(editor: Editor, folder: Path) -> None:
    (folder / "tasks.d" / "binary.yaml").write_bytes(b"\x00\xff\xfe" * 100)
    texts = {
        "\x00\x01": ["OPT015", "OPT015"],
        "name: \ud800\n": ["OPT002"],
        "a: " + "x" * (1 << 20): ["OPT014"],
        "[" * 5_000: ["OPT014"],
        "- &a [*a, *a]\n" * 50: None,
    }
    uri = editor.open("tasks.d/two.yaml", "")
    for text, codes in texts.items():
        editor.type(uri, text)
        if codes:
            editor.codes(uri, codes)
        for line, character in ((0, 0), (0, 5), (99, 99)):
            editor.at("textDocument/hover", uri, line, character)
            editor.at("textDocument/completion", uri, line, character)
            editor.at("textDocument/definition", uri, line, character)
        editor.ask("textDocument/documentSymbol", textDocument={"uri": uri})
        whole = {"start": {"line": 0, "character": 0}, "end": {"line": 9999, "character": 0}}
        editor.ask("textDocument/codeAction", textDocument={"uri": uri}, range=whole, context={"diagnostics": []})
    editor.codes(editor.uri("tasks.d/binary.yaml"), ["OPT002"])


def test_bad_messages_are_answered_and_end_nothing(editor: Editor) -> None:
    assert editor.request("optio/unknown")["error"]["code"] == -32601
    assert "error" in editor.request("textDocument/hover", textDocument={"uri": 5}, position="there")
    editor.send(b"{not json")
    editor.send(b"[]")
    editor.send(b'{"jsonrpc": "1.0", "method": "x"}')
    editor.tell("textDocument/didChange", textDocument={"uri": "file:///never/opened.yaml", "version": 1}, contentChanges=[])

    uri = editor.open("tasks.d/one.yaml")
    editor.codes(uri, [])


def test_after_the_shutdown_every_request_is_refused_and_the_exit_is_clean(folder: Path) -> None:
    editor = Editor(folder)
    with editor:
        editor.ask("shutdown", None)
        answer = editor.request(
            "textDocument/hover", textDocument={"uri": "file:///x.yaml"}, position={"line": 0, "character": 0}
        )
        assert answer["error"]["code"] == -32600
        editor.tell("exit")
        assert editor.process.wait(WAIT) == 0


def test_it_ends_when_the_editor_is_gone(folder: Path) -> None:
    with Editor(folder) as editor:
        assert editor.leave() == 1


def test_it_ends_when_the_editor_is_killed_and_the_pipes_stay_open(folder: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    editor = Editor(folder)
    editor.ask("initialize", processId=dead.pid, rootUri=None, capabilities={})

    assert editor.process.wait(WAIT) == 1
    editor.leave()


def test_the_first_look_at_a_tree_is_shown_as_progress(editor: Editor) -> None:
    uri = editor.open("tasks.d/one.yaml")
    editor.codes(uri, [])

    def said() -> list[str]:
        return [message["params"]["value"]["kind"] for message in editor.seen if message["method"] == "$/progress"]

    editor.until(lambda: said() == ["begin", "end"])


def test_every_kind_of_question_is_answered(editor: Editor, folder: Path) -> None:
    (folder / "tasks.d" / "p.md").write_text("Say {{WHO}}\n")
    schema = "paramsSchema: {type: object, properties: {WHO: {type: string, default: x}}, additionalProperties: false}\n"
    uri = editor.open("tasks.d/one.yaml", f"name: One\nagentRuntime: claude-code\npromptFile: p.md\n{schema}")
    prompt = editor.open("tasks.d/p.md", "Say {{WHO}} and {{", language="markdown")
    editor.codes(uri, [])

    shown = eventually(lambda: editor.at("textDocument/hover", prompt, 0, 7), what="the task of the prompt")
    assert shown["contents"]["value"].startswith("**`WHO`**: string")
    assert [each["uri"] for each in editor.at("textDocument/definition", uri, 2, 14)] == [prompt]
    (found,) = editor.at("textDocument/definition", prompt, 0, 7)
    assert (found["uri"], found["range"]["start"]) == (uri, {"line": 3, "character": 42})
    (item,) = editor.at("textDocument/completion", prompt, 0, 18)["items"]
    assert item["textEdit"]["newText"] == "WHO}}"
    context = {"includeDeclaration": True}
    assert {each["uri"] for each in editor.at("textDocument/references", uri, 3, 43, context=context)} == {uri, prompt}
    names = [each["name"] for each in editor.ask("textDocument/documentSymbol", textDocument={"uri": uri})]
    assert names == ["name", "agentRuntime", "promptFile", "paramsSchema"]


def test_a_finding_in_a_prompts_own_file_is_ignored_in_the_task(editor: Editor, folder: Path) -> None:
    (folder / "tasks.d" / "p.md").write_text("Greet {{WHO}}\n")
    schema = "paramsSchema: {type: object, properties: {WHO: {type: string, default: x}}, additionalProperties: false}\n"
    task = f"name: One\nagentRuntime: claude-code\npromptFile: p.md\n{schema}"
    (folder / "tasks.d" / "one.yaml").write_text(task)
    prompt = editor.open("tasks.d/p.md", "Greet {{WHO}} and {{ WHO }}\n", language="markdown")
    (found,) = editor.codes(prompt, ["OPT203"])
    assert found["range"]["start"] == {"line": 0, "character": 18}

    offered = actions(editor, prompt, found)

    (fix,) = [each for title, each in offered.items() if "{{WHO}}" in title]
    assert edited("Greet {{WHO}} and {{ WHO }}\n", fix) == "Greet {{WHO}} and {{WHO}}\n"
    ignore = offered["Ignore OPT203 placeholder-syntax here"]
    assert ignore["edit"]["documentChanges"][0]["textDocument"]["uri"] == editor.uri("tasks.d/one.yaml")
    assert edited(task, ignore) == task.replace("promptFile", "# optio: ignore[OPT203] \npromptFile")
