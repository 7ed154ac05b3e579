"""How runs and lines read in a terminal."""

from typing import Any

import pytest

from optio.cli.shared import render_run

RUN: dict[str, Any] = {
    "id": "r1",
    "state": "completed",
    "reason": "ok",
    "message": "",
    "durationMs": None,
    "turns": None,
    "tokens": 0,
    "costUsd": None,
}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "run r1 completed"),
        ({"state": "queued", "reason": "queued"}, "run r1 queued"),
        ({"durationMs": 2640}, "run r1 completed in 2.6 s"),
        (
            {"durationMs": 0, "turns": 1, "tokens": 3080, "costUsd": "0.00858"},
            "run r1 completed in 0.0 s, 1 turn, 3,080 tokens, $0.00858",
        ),
        (
            {"state": "failed", "reason": "exit_code", "message": "exit \x1b[2J code 3", "durationMs": 100, "turns": 2},
            "run r1 failed (exit_code: exit \\x1b[2J code 3) in 0.1 s, 2 turns",
        ),
        ({"state": "cancelled", "reason": "cancelled", "durationMs": 1000}, "run r1 cancelled in 1.0 s"),
    ],
)
def test_one_line_says_how_a_run_stands(more: dict[str, Any], text: str) -> None:
    assert render_run.outcome({**RUN, **more}) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext", "plain\ttext"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\rb\nc", "a\\x0db\nc"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_no_text_can_drive_the_terminal(text: str, shown: str) -> None:
    assert render_run.safe(text) == shown


def test_a_label_says_what_a_line_is() -> None:
    assert render_run.line({"kind": "tool", "text": "Bash"}) == " tool | Bash"
    assert render_run.line({"kind": "thought", "text": "Hm"}) == "  ... | Hm"
    assert render_run.line({"kind": "output", "text": "x"}) == "x"
    assert render_run.line({"kind": "tool", "text": "\x1b"}, raw=True) == "\x1b"
