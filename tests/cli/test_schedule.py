"""`optio schedule`: when tasks fire next, without a server."""

import json
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from optio.cli import invoke
from optio.cli.schedule import fires, text
from optio.cli.shared import schedule_history
from tests.runs.test_schedule import TASK, timed
from tests.support import COMMAND_TASK

JANUARY = datetime(2026, 1, 2, 12, 34, 56, tzinfo=UTC)


def write(tree: Path, name: str, expression: str, *, zone: str = "UTC", enabled: str = "true") -> None:
    config = {"cronExpression": expression, "timezone": zone, "paramMapping": {"A": "x"}}
    (tree / f"{name}.yaml").write_text(
        TASK.format(config=json.dumps(config), enabled=enabled).replace("name: Timed", f"name: {name}")
    )


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.d").mkdir()
    return tmp_path / "tasks.d"


def test_a_schedule_is_told_in_words_and_times() -> None:
    task = timed("0 9 * * 1", "Europe/Berlin")
    assert task.spec.schedule is not None

    lines = text(task, task.spec.schedule, JANUARY, 2).splitlines()

    assert lines[0] == "timed: At 09:00 on Monday (0 9 * * 1, Europe/Berlin)"
    assert [line.split("   ")[0] for line in lines[1:]] == ["  Mon 2026-01-05 09:00 CET", "  Mon 2026-01-12 09:00 CET"]
    assert lines[1].endswith("in 2 d 19 h")


BERLIN = ZoneInfo("Europe/Berlin")
MOVED = "moved from 02:30, which the clocks skip that night"
FIRST = "the first 02:00 of that night: the clocks go back"
SECOND = "the second 02:00 of that night: the clocks go back"
NIGHTS = [
    (
        "30 2 * * *",
        datetime(2026, 3, 28, 12, tzinfo=BERLIN),
        [f"03:00 {MOVED}", "02:30 "],
    ),
    (
        "30 2 * * *",
        datetime(2026, 10, 24, 12, tzinfo=BERLIN),
        [f"02:30 {FIRST.replace('00', '30')}", "02:30 "],
    ),
    ("0 * * * *", datetime(2026, 3, 29, 0, 30, tzinfo=BERLIN), ["01:00 ", "03:00 ", "04:00 "]),
    ("0 * * * *", datetime(2026, 10, 25, 0, 30, tzinfo=BERLIN), ["01:00 ", f"02:00 {FIRST}", f"02:00 {SECOND}", "03:00 "]),
]


@pytest.mark.parametrize(("expression", "after", "expected"), NIGHTS)
def test_odd_nights_are_explained(expression: str, after: datetime, expected: list[str]) -> None:
    coming = fires(expression, "Europe/Berlin", after)

    assert [f"{fire.at:%H:%M} {fire.note}" for fire in islice(coming, len(expected))] == expected


def test_all_tasks_with_a_schedule_are_listed_and_the_others_are_not(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tree, "one", "@daily")
    write(tree, "two", "*/15 * * * *", enabled="false")
    (tree / "plain.yaml").write_text(COMMAND_TASK.format(name="Plain", command="x"))

    code = invoke(["schedule", "-n", "3"])

    out = capsys.readouterr().out
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines() if line and line[0] != " "] == ["one", "two"]
    assert out.count("   in ") == 3
    assert "off: its trigger has `enabled: false`" in out


def test_json_has_the_same_for_programs(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tree, "one", "0 9 * * 1", zone="Asia/Tokyo")

    code = invoke(["schedule", "one", "-n", "1", "--json"])

    (found,) = json.loads(capsys.readouterr().out)
    (fire,) = found.pop("fires")
    assert code == 0
    assert found == {
        "taskId": "one", "enabled": True, "expression": "0 9 * * 1", "words": "At 09:00 on Monday",
        "timezone": "Asia/Tokyo", "misfire": "last", "overlap": "queue",
    }  # fmt: skip
    assert fire["at"].endswith("T00:00:00Z")
    assert fire["local"].endswith("T09:00:00+09:00")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nobody"], 2, "no task `nobody`: there are one, plain"),
        (["ones"], 2, "did you mean `one`?"),
        (["plain"], 1, "`plain` has no schedule"),
        (["-n", "0"], 2, "invalid number `0`: give a whole number from 1 to 1,000"),
        (["-n", "²"], 2, "invalid number"),
        (["--tasks", "elsewhere"], 2, "there is no task directory `elsewhere`"),
    ],
)
def test_what_cannot_be_answered_is_said(
    tree: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    write(tree, "one", "@daily")
    (tree / "plain.yaml").write_text(COMMAND_TASK.format(name="Plain", command="x"))

    try:
        ended = invoke(["schedule", *arguments])
    except SystemExit as err:
        ended = err.code  # type: ignore[assignment]

    assert (ended, said in capsys.readouterr().err) == (code, True)


def test_a_broken_file_is_said_and_hides_no_other_schedule(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tree, "one", "@daily")
    write(tree, "bad", "61 * * * *")

    assert invoke(["schedule"]) == invoke(["schedule", "bad"]) == 1

    said = capsys.readouterr()
    assert "tasks.d/bad.yaml:" in said.err
    assert "`bad` is not among the tasks without errors" in said.err
    assert "one: " in said.out


def slot(
    at: str, verdict: str, run: str | None = None, *, first: str | None = None, slots: int | None = 1
) -> dict[str, object]:
    return {"slot": at, "first": first or at, "slots": slots, "verdict": verdict, "runId": run, "at": at}


def test_what_became_of_past_times_is_told_in_the_tasks_zone() -> None:
    told = schedule_history.text(
        "timed",
        "Europe/Berlin",
        [
            slot("2026-01-05T08:00:00.000Z", "fired", "r-1"),
            slot("2026-01-05T07:59:00.000Z", "missed"),
            slot("2026-01-05T07:58:00.000Z", "missed", first="2026-01-04T07:58:00.000Z", slots=1441),
            slot("2026-01-03T07:58:00.000Z", "missed", first="2006-01-04T07:58:00.000Z", slots=None),
        ],
    )

    assert told.splitlines() == [
        "timed:",
        "  Mon 2026-01-05 09:00 CET   fired   run r-1",
        "  Mon 2026-01-05 08:59 CET   missed",
        "  Sun 2026-01-04 08:58 to Mon 2026-01-05 08:58 CET   missed, 1,441 of them",
        "  Wed 2006-01-04 08:58 to Sat 2026-01-03 08:58 CET   missed, not counted",
    ]
    assert schedule_history.text("gone", "Mars/Olympus", []) == "gone:\n  no slot was recorded"


@pytest.mark.parametrize(("arguments", "said"), [(["--past", "--tasks", "."], "--tasks"), (["--url", "http://x"], "--past")])
def test_options_that_would_do_nothing_are_refused(
    tree: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert invoke(["schedule", *arguments]) == 2
    assert said in capsys.readouterr().err
