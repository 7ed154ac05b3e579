"""Findings as people, scripts and editors read them."""

import json

import pytest

from optio.compiler.exchange import github, junit, sarif
from optio.compiler.pipeline import compile_tree
from optio.compiler.report import render_concise, render_full, render_json, render_summary
from optio.compiler.source_tree import MemoryTree

TEXT = (
    "name: A\nagentRuntime: claude-code\npromptTemplate: Say\n"
    "environment: {env: {A: '\u4f60\u597d\U0001f680'}, imag: x}\n\tmaxTurns: 2\n"
)
TASK = "name: A\nagentRuntime: claude-code\npromptTemplate: Say\n"
MISSPELT = TASK + "maxTurn: 2\n"


def shown(text: str, *, colour: bool = False) -> list[str]:
    found = compile_tree(MemoryTree({"a.yaml": text})).diagnostics
    return list(render_full(found, lambda _: text, colour=colour))


def test_the_full_form_points_at_the_text_below_wide_characters() -> None:
    lines = shown(TEXT.replace("\tmaxTurns: 2\n", ""))

    assert lines == [
        "a.yaml:4:32: error: unknown key `environment.imag` [OPT101 unknown-key]",
        " 4 | environment: {env: {A: '\u4f60\u597d\U0001f680'}, imag: x}",
        "   |" + " " * 35 + "^^^^ did you mean `image`?",
        "",
    ]


@pytest.mark.parametrize(("before", "after"), [(0, 5_000), (5_000, 5_000), (5_000, 0), (30, 5_000)])
def test_of_a_long_line_what_stands_around_the_mistake_is_shown(before: int, after: int) -> None:
    text = MISSPELT.replace("maxTurn: 2\n", f"environment: {{image: '{'b' * before}', imag: x, env: {{A: '{'a' * after}'}}}}\n")
    _, line, carets, _ = next(shown(text)[at : at + 4] for at in range(99) if "environment.imag`" in shown(text)[at])

    assert len(line) < 180
    assert line[carets.index("^") : carets.index("^") + 6] == "imag: "
    assert line.endswith("...") == (after > 0)
    assert ("| ..." in line) == (before > 1_000)


def test_a_long_value_is_cut_in_a_message_and_in_its_hint() -> None:
    config = "{cronExpression: 0 9 * * *, timezone: " + "A" * 100_000 + "}"
    (found,) = compile_tree(MemoryTree({"a.yaml": TASK + f"triggers: [{{type: schedule, config: {config}}}]\n"})).diagnostics

    assert found.message == f"unknown time zone `{'A' * 77}...`"
    (line,) = render_concise([found])
    assert len(line) < 300


def test_a_tab_is_shown_as_one_sign() -> None:
    lines = shown(TEXT)

    assert " 5 | \u21e5maxTurns: 2" in lines
    assert "   | ^ use spaces" in lines


def test_further_places_are_named() -> None:
    lines = shown("name: A\nname: B\nagentRuntime: claude-code\npromptTemplate: Say\n")

    assert "   a.yaml:1:1: first here" in lines


def test_colour_is_only_added_when_asked_for() -> None:
    assert not any("\x1b" in line for line in shown(TEXT))
    assert any("\x1b" in line for line in shown(TEXT, colour=True))


def test_the_concise_form_is_one_line_each() -> None:
    found = compile_tree(MemoryTree({"a.yaml": MISSPELT})).diagnostics

    assert list(render_concise(found)) == [
        "a.yaml:4:1: error: unknown key `maxTurn` [OPT101 unknown-key] (did you mean `maxTurns`?)"
    ]


def test_the_json_form_has_the_documented_keys() -> None:
    found = compile_tree(MemoryTree({"a.yaml": MISSPELT})).diagnostics

    document = json.loads(render_json(found, files=1, tasks=0))

    assert document == {
        "diagnostics": [
            {
                "code": "OPT101",
                "rule": "unknown-key",
                "severity": "error",
                "certainty": "proves",
                "message": "unknown key `maxTurn`",
                "path": "a.yaml",
                "line": 4,
                "column": 1,
                "endLine": 4,
                "endColumn": 8,
                "pointer": "/maxTurn",
                "hint": "did you mean `maxTurns`?",
                "more": 0,
                "related": [],
                "fix": {
                    "safe": False,
                    "checked": True,
                    "edits": [{"line": 4, "column": 1, "endLine": 4, "endColumn": 8, "text": "maxTurns"}],
                },
            }
        ],
        "summary": {"files": 1, "tasks": 0, "errors": 1, "warnings": 0, "infos": 0},
    }


def test_the_closing_line_counts() -> None:
    found = compile_tree(MemoryTree({"a.yaml": MISSPELT})).diagnostics

    assert render_summary(found, 1, 0) == "1 error in 1 file"
    assert render_summary((), 3, 3) == "no findings in 3 files"


def test_findings_that_are_only_counted_are_in_every_form_and_in_the_counts() -> None:
    text = MISSPELT + "".join(f"unknown{n}: 1\n" for n in range(1_049))
    found = compile_tree(MemoryTree({"a.yaml": text})).diagnostics
    said = "1,030 more like this in the file are not shown"

    assert list(render_full(found, lambda _: text))[-3:] == [
        f"a.yaml:23:1: error: {said} [OPT101 unknown-key]",
        "   correct these first, then check again",
        "",
    ]
    assert said in list(render_concise(found))[-1]
    document = json.loads(render_json(found, files=1, tasks=0))
    assert (document["diagnostics"][-1]["message"], document["diagnostics"][-1]["more"]) == (said, 1_030)
    assert document["summary"]["errors"] == 1_050
    assert render_summary(found, 1, 0) == "1,050 errors in 1 file"
    assert all(said in form for form in (sarif(found), list(github(found))[-1], junit(found, [])))
    assert json.loads(sarif(found))["runs"][0]["results"][-1]["occurrenceCount"] == 1_030


def test_a_file_may_be_called_anything_and_its_findings_stay_on_their_lines() -> None:
    names = ["a\nb.yaml", "\x1b[31m.yaml", "\u202e.yaml", "\x7f.yaml", "\udcff.yaml"]
    found = compile_tree(MemoryTree(dict.fromkeys(names, "name: A\nagentRuntime: codex\n"))).diagnostics

    lines = [*render_concise(found), *render_full(found, lambda _: None)]

    assert len(found) > len(names)
    assert all(line.isprintable() for line in lines)
    assert any(line.startswith("a\\nb.yaml:1:1: ") for line in lines)
