"""`optio schedule --calendar`: the whole tree, day by day, and what to look at."""

import argparse
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optio.cli import invoke
from optio.cli.shared.render_calendar import text
from optio.cli.shared.tree_calendar import build_calendar, document, parse_range
from optio.errors import SettingsError
from optio.model.registry import CompiledTask
from tests.cli.test_schedule import write
from tests.support import COMMAND_TASK, compiled

NOW = datetime(2026, 3, 26, 12, 34, 56, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def task(name: str, expression: str, zone: str = BERLIN, *, more: str = "", enabled: str = "true") -> CompiledTask:
    config = json.dumps({"cronExpression": expression, "timezone": zone})
    return compiled(
        COMMAND_TASK.format(name=name, command="x")
        + f"{more}triggers:\n  - type: schedule\n    enabled: {enabled}\n    config: {config}\n"
    )


def told(*tasks: CompiledTask, limit: int = 5, **given: Any) -> list[str]:
    flags = argparse.Namespace(**{"first": None, "last": None, "days": None, "zone": None, **given})
    zones = {each.spec.schedule.config.timezone for each in tasks if each.spec.schedule is not None}
    return text(build_calendar(tasks, parse_range(flags, zones, NOW), limit)).splitlines()


def test_each_day_has_its_fires_and_what_is_alike_is_told_once() -> None:
    lines = told(task("Weekly", "0 9 * * 1"), task("Daily", "30 7 * * *"), first="2026-06-01", days=7)

    assert lines == [
        "Mon 2026-06-01 to Sun 2026-06-07 on the clocks of Europe/Berlin: 8 fires of 2 tasks",
        "",
        "Each day from Mon 2026-06-01 on",
        "  07:30  daily",
        "",
        "Mon 2026-06-01",
        "  09:00  weekly",
        "",
        "Nothing to review.",
    ]


def test_from_now_on_the_day_that_has_begun_is_told_by_itself() -> None:
    lines = told(task("Often", "0 */6 * * *", "UTC"), days=2)

    assert lines[0] == "Thu 2026-03-26 to Fri 2026-03-27 on the clocks of UTC: 5 fires of 1 task"
    assert lines[2:9] == [
        "Thu 2026-03-26",
        "  18:00  often",
        "",
        "Fri 2026-03-27",
        "  00:00  often",
        "  06:00  often",
        "  12:00  often",
    ]


def test_what_fires_many_times_a_day_is_one_line_and_a_herd_is_one_too() -> None:
    tasks = [task(f"T{place}", "0 4 * * *", "UTC") for place in range(7)]

    lines = told(*tasks, task("Poll", "*/5 * * * *", "UTC"), task("Odd", "*/25 8 * * *", "UTC"), first="2026-06-01", days=1)

    assert lines[2:7] == [
        "Mon 2026-06-01",
        "  00:00 to 23:55  poll                   every 5 minutes, 288 times",
        "  04:00           t0, t1, t2 and 4 more",
        "  08:00           odd",
        "  08:25           odd",
    ]


def test_another_zones_time_stands_beside_the_calendars() -> None:
    lines = told(task("Home", "0 9 * * *"), task("Away", "0 9 * * *", "Asia/Tokyo"), first="2026-06-01", days=1, zone=BERLIN)

    assert lines[3:5] == ["  02:00  09:00 Asia/Tokyo  away", "  09:00                    home"]


def test_the_two_odd_nights_are_told_on_both_clocks() -> None:
    tasks = [task("Fixed", "30 2 * * *"), task("Even", "*/30 2 * * *"), task("Hourly", "0 * * * *"), task("Day", "0 9 * * *")]

    spring, autumn = (told(*tasks, first=day, days=1) for day in ("2026-03-29", "2026-10-25"))

    assert "  03:00           fixed   moved from 02:30, which the clocks skip that night" in spring
    assert spring[spring.index("To review") + 1 :] == [
        "- Sun 2026-03-29: the clocks of Europe/Berlin go forward, from 02:00 to 03:00",
        "    even: 02:00 and 02:30 are skipped that night: 2 fires fewer",
        "    fixed: 02:30 is skipped that night: it fires at 03:00 instead (01:00 UTC)",
        "- even: does not fire in these days; the next time is Mon 2026-03-30 02:00 CEST",
    ]
    assert autumn[autumn.index("To review") + 1 :] == [
        "- Sun 2026-10-25: the clocks of Europe/Berlin go back, from 03:00 to 02:00",
        "    even: 02:00 and 02:30 are there twice that night, and it fires both times (from 00:00 UTC and from 01:00 UTC)",
        "    fixed: 02:30 is there twice that night: it fires at the first (00:30 UTC), and not again",
    ]


def test_what_is_said_to_be_told_below_is_told_there() -> None:
    tasks = [task("Hourly", "15 * * * *"), task("Often", "*/15 2-3 * * *")]

    lines = told(*tasks, first="2026-10-25", days=1)

    assert lines[3:5] == [
        "  00:15 to 23:15  hourly  every hour, 25 times",
        "  02:00 to 03:45  often   every 15 minutes, 12 times, 8 of them odd: see below",
    ]
    assert [line.partition(":")[0].strip() for line in lines[lines.index("To review") + 2 :]] == ["often"]


def test_a_calendar_that_nobody_could_read_is_refused_with_the_days_that_would_do() -> None:
    tasks = [task("Here", "* * * * *", "UTC"), task("There", "* * * * *", "Asia/Tokyo"), task("Also", "* * * * *", "UTC")]
    said = "2 different schedules have 1,051,200 fires in these days, and a calendar has at most 600,000: write `--days 208`,"

    with pytest.raises(SettingsError, match=said):
        told(*tasks, first="2026-01-01", days=365)


def test_a_day_whose_midnight_the_clocks_skip_begins_with_what_comes_then() -> None:
    lines = told(task("Midnight", "0 0 * * *", "Africa/Cairo"), first="2026-04-24", days=1)

    assert lines[2:4] == ["Fri 2026-04-24", "  01:00  midnight  moved from 00:00, which the clocks skip that night"]


def test_what_never_comes_in_the_range_says_when_it_does() -> None:
    lines = told(task("Leap", "0 0 29 2 *", "UTC"), task("Paused", "0 0 * * *", "UTC", enabled="false"), days=3)

    assert lines[2:] == [
        "To review",
        "- leap: does not fire in these days; the next time is Tue 2028-02-29 00:00 UTC (more than 400 days away)",
        "- off, with `enabled: false`: paused",
    ]


def test_too_many_starts_come_with_the_expressions_to_write() -> None:
    tasks = [task(f"T{place}", "0 4 * * *", "UTC") for place in range(4)]

    lines = told(*tasks, limit=3, first="2026-06-01", days=2)

    begin = lines.index("To review")
    assert lines[begin + 1 : begin + 5] == [
        "- in 2 minutes more than 3 runs start, which is what may run at once (OPTIO_MAX_WORKFLOW_CONCURRENT):",
        "    04:00 on Mon 2026-06-01 and 1 other day: 4 start",
        "  with these minutes it would be 3 at most, not 4:",
        "    task  cronExpression  instead of",
    ]
    (move,) = lines[begin + 5 :]
    assert re.fullmatch(r' {4}t\d {4}"\d+ 4 \* \* \*" +"0 4 \* \* \*"', move)


def test_json_has_the_same_for_programs() -> None:
    flags = argparse.Namespace(first="2026-10-25", last="2026-10-25", days=None, zone=None)
    span = parse_range(flags, {BERLIN}, NOW)

    found = document(build_calendar([task("Even", "*/30 2 * * *"), task("Poll", "* * * * *")], span, 1))

    assert (found["from"], found["to"], found["timezone"]) == ("2026-10-24T21:59:59Z", "2026-10-25T22:59:59Z", BERLIN)
    ((poll, even),) = [day["tasks"] for day in found["days"]]
    assert (poll["taskId"], poll["count"], "fires" in poll) == ("poll", 25 * 60, False)
    assert [fire["local"][11:] for fire in even["fires"]] == [
        "02:00:00+02:00",
        "02:30:00+02:00",
        "02:00:00+01:00",
        "02:30:00+01:00",
    ]
    assert found["clockChanges"][0]["tasks"] == [{"taskId": "even", "effect": "twice", "times": ["02:00", "02:30"]}]
    assert (found["herd"]["limit"], found["herd"]["most"], len(found["herd"]["crowded"])) == (1, 2, 4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"first": "tomorrow"}, "--from: invalid date `tomorrow`: write 2026-01-31"),
        ({"last": "2026-02-30"}, "--to: invalid date `2026-02-30`"),
        ({"last": "2026-03-30", "days": "3"}, "give --to or --days, not both"),
        ({"last": "2026-03-25"}, "--to: 2026-03-25 is before 2026-03-26"),
        ({"first": "2026-01-01", "last": "2027-01-02"}, "at most 366 days: from 2026-01-01 that is to 2027-01-01"),
        ({"first": "9999-12-31"}, "--from: `9999-12-31` is not in the years 1970 to 2999"),
        ({"last": "0001-01-01"}, "--to: `0001-01-01` is not in the years"),
        ({"zone": ""}, "--zone: unknown time zone ``"),
        ({"zone": "PST"}, "--zone: unknown time zone `PST`"),
    ],
)
def test_a_range_that_is_none_is_refused(given: dict[str, str], said: str) -> None:
    flags = argparse.Namespace(**{"first": None, "last": None, "days": None, "zone": None, **given})

    with pytest.raises(SettingsError, match=said.replace("(", r"\(")):
        parse_range(flags, {"UTC"}, NOW)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.d").mkdir()
    write(tmp_path / "tasks.d", "one", "0 9 13 * 5")
    return tmp_path / "tasks.d"


def test_what_the_compiler_finds_odd_in_a_schedule_is_told_with_it(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["schedule", "--calendar", "--from", "2026-06-01", "--days", "1"])

    out = capsys.readouterr().out
    assert code == 0
    assert "- one: " in out
    assert (
        "`0 9 13 * 5` fires on day 13 of the month and also on weekday 5; "
        "write `0 9 13 * *` for the days of the month, `0 9 * * 5` for the weekdays"
    ) in out


def test_the_limit_is_the_settings(tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tree, "two", "0 9 13 * 5")
    monkeypatch.setenv("OPTIO_MAX_WORKFLOW_CONCURRENT", "1")

    invoke(["schedule", "--calendar", "--json", "--from", "2026-11-13", "--days", "1"])

    assert json.loads(capsys.readouterr().out)["herd"]["moves"] != []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--calendar", "--past"], "--past has no effect with --calendar"),
        (["--calendar", "-n", "3"], "-n has no effect with --calendar"),
        (["--from", "2026-01-01"], "--from is for --calendar"),
        (["--days", "3"], "--days is for --calendar"),
        (["--zone", "UTC"], "--zone is for --calendar"),
        (["--from", ""], "--from is for --calendar"),
        (["--to", "2026-01-01", "--past"], "--to is for --calendar"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    tree: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert invoke(["schedule", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_number_of_days_that_is_none_is_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        invoke(["schedule", "--calendar", "--days", "0"])

    assert "--days: invalid number `0`: give a whole number from 1 to 366" in capsys.readouterr().err


def test_a_tree_without_schedules_has_an_empty_calendar(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "one.yaml").write_text(COMMAND_TASK.format(name="Plain", command="x"))

    assert invoke(["schedule", "--calendar"]) == 0
    assert "no task has a schedule" in capsys.readouterr().err
    assert invoke(["schedule", "--calendar", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["days"] == []


def test_a_range_that_is_none_is_refused_also_where_nothing_is_scheduled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("name: A\nagentRuntime: command\ncommand: [cat]\npromptTemplate: x\n")

    assert invoke(["schedule", "--calendar", "--from", "2026-13-01", "--tasks", str(tmp_path)]) == 2
    assert "--from: invalid date `2026-13-01`" in capsys.readouterr().err
