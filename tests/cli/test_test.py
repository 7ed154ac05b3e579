"""`optio test`: what it says, what it writes, and how it ends."""

import json
from pathlib import Path

import pytest

from optio.cli import invoke
from tests.testing.support import OPENED, TRIAGE

TESTS = """\
tests:
  - name: an issue is triaged
    webhook: opened.json
    headers: {X-GitHub-Event: issues}
    expect:
      params: {NUMBER: 7, TITLE: Slow, LABEL: bug}
      prompt: snapshots/triage.txt
  - name: nothing to triage
    params: {}
    expect: {error: /params/TITLE}
"""
OTHER = "name: Other\nagentRuntime: command\ncommand: [/bin/true]\npromptTemplate: go\ntests: [{params: {}, expect: {}}]\n"


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTIO_TASKS", raising=False)
    tree = tmp_path / "tasks.d"
    (tree / "snapshots").mkdir(parents=True)
    (tree / "triage.yaml").write_text(TRIAGE + TESTS)
    (tree / "opened.json").write_text(json.dumps(OPENED))
    (tree / "snapshots" / "triage.txt").write_text("#7 Slow (bug)")
    return tree


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_tests_that_pass_are_listed_and_counted(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["test"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "triage  tasks.d/triage.yaml",
        "  ok    an issue is triaged",
        "  ok    nothing to triage",
        "2 tests: all passed",
    ]


def test_a_failure_is_shown_with_its_line_and_the_difference(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(tasks / "triage.yaml", "TITLE: $.issue.title", "TITLE: $.issue.state")

    assert invoke(["test"]) == 1

    out = capsys.readouterr().out.splitlines()
    line = (TRIAGE + TESTS).splitlines().index("      params: {NUMBER: 7, TITLE: Slow, LABEL: bug}") + 1
    assert out[1:3] == ["  FAIL  an issue is triaged", f"        tasks.d/triage.yaml:{line}: the parameters differ"]
    assert '          -  "TITLE": "Slow"' in out
    assert '          +  "TITLE": "bug"' in out
    assert out[-1] == "2 tests: 1 passed, 1 failed"


def test_update_writes_prompts_and_nothing_else(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(tasks / "triage.yaml", "#{{NUMBER}} {{TITLE}}", "Nr {{NUMBER}} {{TITLE}}")
    change(tasks / "triage.yaml", "snapshots/triage.txt", "snapshots/more/new.txt")
    before = (tasks / "triage.yaml").read_bytes()

    assert invoke(["test"]) == 1
    assert invoke(["test", "--update"]) == 0
    assert "wrote tasks.d/snapshots/more/new.txt (new)" in capsys.readouterr().out
    change(tasks / "triage.yaml", "Nr {{NUMBER}}", "No {{NUMBER}}")
    assert invoke(["test", "--update"]) == 0
    assert "wrote tasks.d/snapshots/more/new.txt\n" in capsys.readouterr().out
    assert invoke(["test", "--update"]) == 0
    assert "wrote" not in capsys.readouterr().out

    assert (tasks / "snapshots" / "more" / "new.txt").read_text() == "No 7 Slow (bug)"
    assert (tasks / "snapshots" / "triage.txt").read_text() == "#7 Slow (bug)"
    assert (tasks / "triage.yaml").read_bytes() == before.replace(b"Nr {{", b"No {{")


def test_update_leaves_a_test_that_fails_for_another_reason_failing(tasks: Path) -> None:
    change(tasks / "triage.yaml", "#{{NUMBER}}", "Nr {{NUMBER}}")
    change(tasks / "triage.yaml", "LABEL: bug}", "LABEL: feature}")

    assert invoke(["test", "--update"]) == 1

    assert (tasks / "snapshots" / "triage.txt").read_text() == "#7 Slow (bug)"


def test_update_writes_nothing_through_a_link_out_of_the_tree(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tasks / "out").symlink_to(tmp_path / "elsewhere")
    change(tasks / "triage.yaml", "snapshots/triage.txt", "out/triage.txt")

    assert invoke(["test", "--update"]) == 1

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert "`out/triage.txt` is a link that leads out of the task tree" in capsys.readouterr().out


def test_errors_of_files_come_first_and_their_tests_cannot_be_run(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(tasks / "triage.yaml", "TITLE: $.issue.title", "TITEL: $.issue.title")
    (tasks / "other.yaml").write_text(OTHER)

    assert invoke(["test"]) == 1

    said = capsys.readouterr()
    assert "tasks.d/triage.yaml:" in said.err
    assert "OPT411" in said.err
    assert "cannot be run: the file has errors" in said.out
    assert "  ok    params none" in said.out
    assert invoke(["test", "other"]) == invoke(["test", "tasks.d/other.yaml"]) == 0


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["an issue is triaged", "nothing to triage", "params none"]),
        (["triage"], ["an issue is triaged", "nothing to triage"]),
        (["other"], ["params none"]),
        (["other", "triage"], ["params none", "an issue is triaged", "nothing to triage"]),
        (["tasks.d"], ["an issue is triaged", "nothing to triage", "params none"]),
        (["tasks.d/other.yaml"], ["params none"]),
        (["tasks.d/other.yaml", "tasks.d"], ["params none", "an issue is triaged", "nothing to triage"]),
        (["-k", "TRIAGE: an"], ["an issue is triaged"]),
        (["-k", "nothing", "triage"], ["nothing to triage"]),
    ],
)
def test_tests_are_chosen_by_file_task_and_name(
    tasks: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], names: list[str]
) -> None:
    (tasks / "other.yaml").write_text(OTHER)

    assert invoke(["test", *arguments, "--format", "json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert sorted(test["name"] for test in found["tests"]) == sorted(names)


def test_a_file_outside_of_the_task_directory_is_tested_by_itself(tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: [")
    (tmp_path / "other.yaml").write_text(OTHER)

    assert invoke(["test", "other.yaml"]) == 0
    assert invoke(["test", "broken.yaml"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["triages"], 2, "no task `triages`: did you mean `triage`?"),
        (["zebra"], 2, "no task `zebra`: there are triage"),
        (["tasks.d/gone.yaml"], 2, "`tasks.d/gone.yaml` does not exist"),
        (["--tasks", "gone"], 2, "there is no task directory `gone`"),
        (["-k", "zebra"], 1, "no test has a name like that"),
        (["--min-coverage", "101"], 2, "invalid percentage `101`: give a number from 0 to 100"),
        (["--min-coverage", "nan"], 2, "invalid percentage `nan`: give a number from 0 to 100"),
        (["--min-coverage", "99.5"], 1, "is covered, less than 99.5%"),
        (["--format", "junit", "--coverage"], 2, "JUnit's XML has no place for coverage"),
    ],
)
def test_what_cannot_be_done_is_said(
    tasks: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    try:
        ended = invoke(["test", *arguments])
    except SystemExit as err:
        ended = err.code  # type: ignore[assignment]

    assert ended == code
    assert said in capsys.readouterr().err


def test_a_tree_without_tests_is_no_failure_and_a_task_without_tests_is(
    tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tasks / "triage.yaml").write_text(TRIAGE)

    assert invoke(["test"]) == 0
    assert "no tests: write some under a task's `tests:`" in capsys.readouterr().out
    assert invoke(["test", "triage"]) == 1


def test_who_wrote_tests_that_cannot_be_read_is_not_told_to_write_some(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tasks / "triage.yaml").write_text(TRIAGE + "tests: {params: {}}\n")

    for what in ([], ["tasks.d/triage.yaml"]):
        assert invoke(["test", *what]) == 1
        said = capsys.readouterr()
        assert said.out == "no tests\n"
        assert said.err.startswith("tasks.d/triage.yaml:")
        assert said.err.count("\n") == 1


def test_coverage_names_what_no_test_has_tried(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["test", "--coverage"]) == 0

    out = capsys.readouterr().out
    line = TRIAGE.splitlines().index("      when: \"@.action == 'opened'\"") + 1
    assert f"    tasks.d/triage.yaml:{line}: not tried: `when` filters a delivery" in out
    assert "`when` lets a delivery through" not in out
    assert invoke(["test", "--min-coverage", "50"]) == 0
    assert invoke(["test", "--min-coverage", "100"]) == 1


def test_json_has_all_of_it(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(tasks / "triage.yaml", "LABEL: bug}", "LABEL: feature}")

    assert invoke(["test", "--coverage", "--format", "json"]) == 1

    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["failed"], found["written"]) == (1, 1, [])
    assert [test["verdict"] for test in found["tests"]] == ["accepted", "invalid"]
    assert found["tests"][0]["failures"][0]["message"] == "the parameters differ"
    assert found["tests"][1]["detail"].startswith("/params/NUMBER is required")
    assert 0 < found["coverage"]["percent"] < 100
    assert {"text", "path", "line", "tried"} == set(found["coverage"]["tasks"][0]["items"][0])


def test_junit_is_printed_alone(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["test", "--format", "junit"]) == 0

    assert capsys.readouterr().out.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites tests="2" failures="0"')


def test_who_chose_none_is_not_told_that_there_are_none(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["test", "-k", "zebra"]) == 1
    said = capsys.readouterr()

    assert said.out == "no tests\n"
    assert said.err == "no test has a name like that\n"
