"""`optio hook replay`: what it says, and which options it refuses."""

from typing import Any

import pytest

from optio.cli import invoke
from optio.cli.shared.replay import summary, text


def item(then: str = "accepted", now: str = "accepted", detail: str | None = None, **more: Any) -> dict[str, Any]:
    """What the server answers."""
    return {
        "deliveryId": "d-1",
        "path": "push",
        "receivedAt": "2026-01-05T08:00:00.123Z",
        "hasRun": None,
        "replayedAs": None,
        "then": {"verdict": then, "detail": None},
        "now": {"verdict": now, "detail": detail},
        "differs": [] if then == now else ["verdict"],
        "diff": "",
        "runId": None,
        **more,
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (item(hasRun="r-1"), "accepted as then: it has run r-1"),
        (item(hasRun="r-1", differs=["prompt"]), "accepted, prompt differs: it has run r-1"),
        (item(hasRun="r-1", differs=["params", "prompt"], runId="r-2"), "accepted, params and prompt differ: started run r-2"),
        (item("invalid"), "invalid -> accepted"),
        (item("invalid", replayedAs="r-3", runId="r-3"), "invalid -> accepted: replayed before as run r-3"),
        (item("invalid", runId="r-4", duplicate=True), "invalid -> accepted: a duplicate of run r-4 by its key"),
        (
            item("accepted", "absent", "no\x1b webhook"),
            "accepted -> absent (no\\x1b webhook)",
        ),
    ],
)
def test_a_delivery_is_one_line(given: dict[str, Any], said: str) -> None:
    assert text(given, with_diff=False) == f"2026-01-05 08:00:00  push  d-1  {said}"


def test_a_diff_stands_below_and_has_an_end() -> None:
    long = item("invalid", diff="\n".join(["--- then: prompt", *["+x"] * 300]))

    lines = text(long, with_diff=True).splitlines()

    assert lines[1:3] == ["    --- then: prompt", "    +x"]
    assert (len(lines), lines[-1]) == (202, "    ... 101 more lines")
    assert "\n" not in text(long, with_diff=False)


def test_what_was_refused_is_a_line_too() -> None:
    assert text({"deliveryId": "d-1", "error": "no delivery"}, with_diff=False) == "d-1  not replayed: no delivery"


def test_the_summary_counts_what_would_start_and_what_was_started() -> None:
    found = [
        item(hasRun="r-1"),
        item("invalid"),
        item("invalid", replayedAs="r-2"),
        item("accepted", "filtered"),
        {"error": "x"},
    ]

    assert (
        summary(found, is_started=False)
        == "5 deliveries, 3 differ, 1 could not be replayed, 1 would start a run now but did not before"
    )
    assert summary([item("invalid", runId="r-3")], is_started=True) == "1 delivery, 1 differs, 1 started"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x", "--since", "1h"],
        ["x", "--path", "p"],
        ["x", "--until", "1h"],
        ["x", "--verdict", "invalid"],
        ["x", "--again"],
        ["x", "--yes", "--rev", "HEAD"],
        ["x", "--yes", "--tasks", "."],
        ["x", "--tasks", "/nonexistent"],
        ["--since", "1h", "--until", "2h"],
        ["--since", "2999-01-01T00:00:00Z"],
        ["--since", "soon"],
    ],
)
def test_options_that_cannot_be_honoured_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["hook", "replay", *arguments]) == 2
    assert capsys.readouterr().err.startswith("optio hook: ")
