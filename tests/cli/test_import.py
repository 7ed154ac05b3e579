"""`optio import`: files in, tasks and a report out, and a place, a reason and a cure for what cannot be imported."""

import json
from pathlib import Path

import pytest

from optio.importing.formats import Format
from tests.cli.conftest import Shell
from tests.support import ROOT

FILES = ROOT / "tests" / "importing" / "files"
CRONTAB = "CRON_TZ=UTC\n0 1 * * * /usr/bin/report --all\n"


def test_the_tasks_are_printed_and_the_report_goes_to_standard_error(shell: Shell) -> None:
    shell.write("tab", CRONTAB)

    done = shell("import", "tab")

    assert done.returncode == 0
    assert done.stdout.startswith("# report.yaml\nname: report\nagentRuntime: command\n")
    assert done.stderr.startswith("tab: crontab, 1 task\n\n  report.yaml\n    carried\n")
    assert not list(shell.directory.glob("*.yaml"))


def test_what_was_printed_passes_the_check(shell: Shell) -> None:
    done = shell("import", str(FILES / "issue-triage.yml"))
    shell.write("tasks.d/issue-triage.yaml", done.stdout)

    assert shell("check").returncode == 0


def test_standard_input_is_a_file_too(shell: Shell) -> None:
    done = shell("import", "-", stdin=CRONTAB)

    assert done.returncode == 0
    assert "standard input: crontab, 1 task" in done.stderr


def test_all_files_are_written_together_and_none_is_overwritten(shell: Shell) -> None:
    sources = sorted(map(str, FILES.iterdir()))

    done = shell("import", *sources, "-o", "tasks.d")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote tasks.d/") == len(list((shell.directory / "tasks.d").iterdir())) >= 15
    assert shell("check").returncode == 0
    again = shell("import", *sources, "-o", "tasks.d")
    assert again.returncode == 2
    assert "wrote" not in again.stdout
    assert "`tasks.d/backup.yaml` exists and was not changed: give another -o DIR, or --force to replace it" in again.stderr


def test_a_file_is_replaced_if_you_say_so(shell: Shell) -> None:
    shell.write("tab", CRONTAB)
    old = shell.write("tasks.d/report.yaml", "name: report\nagentRuntime: command\ncommand: 'old'\n")

    assert shell("import", "tab", "-o", "tasks.d").returncode == 2
    assert "old" in old.read_text()
    assert shell("import", "tab", "-o", "tasks.d", "--force").returncode == 0
    assert "old" not in old.read_text()


def test_a_name_that_another_file_of_the_tree_has_gets_a_number(shell: Shell) -> None:
    shell.write("tab", CRONTAB)
    shell.write("tasks.d/ours.yaml", "name: report\nagentRuntime: command\ncommand: 'true'\n")

    done = shell("import", "tab", "-o", "tasks.d")

    assert "wrote tasks.d/report-2.yaml" in done.stdout
    assert shell("check").returncode == 0


def test_a_task_that_the_policy_forbids_is_not_written(shell: Shell) -> None:
    shell.write("tab", CRONTAB)
    shell.write("tasks.d/_policy.yaml", "type: policy\nallow: {runtimes: [codex]}\n")

    done = shell("import", "tab", "-o", "tasks.d")

    assert done.returncode == 1
    assert "report: not imported\n    does not compile: " in done.stdout
    assert not (shell.directory / "tasks.d" / "report.yaml").exists()


def test_the_report_is_json_too(shell: Shell) -> None:
    shell.write("empty", "")

    done = shell("import", "--format", "json", str(FILES / "dagu-report.yaml"), "empty")

    document = json.loads(done.stdout)
    (file,) = document["files"]
    (task,) = file["tasks"]
    assert (done.returncode, file["format"], task["path"]) == (2, "dagu", "nightly-report.yaml")
    assert {"line": 4, "key": "timeoutSec", "text": "it limits each attempt, not all together", "target": "timeout"} in task[
        "carried"
    ]
    assert any(row["holdsTriggers"] for row in task["decide"])
    assert document["problems"] == [
        {"path": "empty", "line": 1, "message": "the file is empty", "cure": "name a file that holds something to import"}
    ]


NESTED = "\n".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]" for n in range(8))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", ":1: the file is empty: name a file"),
        (bytes(range(256)), ": byte 0x80 at offset 128 is not UTF-8: save the file as UTF-8"),
        (b"a: b\n" * 400_000, ":1: is larger than 1 MiB: "),
        (f"a: &a [x, x, x, x, x, x, x, x, x, x]\n{NESTED}\n".encode(), ":9: aliases expand to "),
        (
            b"Dear all,\nthis is a letter.\n",
            ":1: the format of the file is not known: name it with `--from`: github-workflow, ",
        ),
        (b"[" * 100_000, ":1: nested too deeply: "),
        (b"POST /api/tasks\n" + b'{"a":' * 50_000, ":2: the body of the request is not JSON: correct the body"),
        (b"---\na: 1\n" * 5_000, ":1: the file has more than 100 documents: split it into files"),
        (b"name: x\non: push\non: pull\njobs: {}\n", ":3: `on` appears twice: "),
        (b"- a\n- b\n", ":1: the format of the file is not known"),
    ],
)
def test_a_file_that_cannot_be_imported_has_a_place_a_reason_and_a_cure(shell: Shell, data: bytes, said: str) -> None:
    (shell.directory / "bad").write_bytes(data)

    done = shell("import", "bad")

    assert done.returncode == 2
    assert done.stderr.startswith("optio import: bad:")
    assert said in done.stderr
    assert done.stdout == ""


def test_a_directory_and_a_missing_file_are_said(shell: Shell) -> None:
    done = shell("import", ".", "nowhere.yaml")

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "optio import: .:1: this is a directory: name the files to import",
        "optio import: nowhere.yaml:1: it cannot be read: No such file or directory: check the path and its permissions",
    ]


@pytest.mark.parametrize("named", [*Format])
def test_a_file_of_another_format_than_named_gives_no_task_and_no_traceback(shell: Shell, named: Format) -> None:
    shell.write("text.txt", "POST /api/nothing\nDear all: this is no task\n")

    done = shell("import", "--from", named.value, "text.txt")

    assert done.returncode in (1, 2)
    assert "a bug in Optio" not in done.stderr
    assert done.stdout == ""


def test_a_workflow_without_an_agent_says_so(shell: Shell) -> None:
    shell.write("ci.yml", "name: CI\non: push\njobs:\n  test:\n    steps:\n      - run: make\n")

    done = shell("import", "ci.yml")

    assert done.returncode == 1
    assert "CI: not imported" in done.stderr
    assert "no step calls an agent" in done.stderr


def test_force_needs_a_directory(shell: Shell) -> None:
    shell.write("tab", CRONTAB)

    assert shell("import", "tab", "--force").returncode == 2


def test_a_name_with_control_characters_does_not_drive_the_terminal(shell: Shell) -> None:
    shell.write("flow.yaml", 'name: "a\\e[31m"\nsteps: [{command: "true"}]\n')

    done = shell("import", "flow.yaml")

    assert "\x1b" not in done.stdout + done.stderr
    assert Path(shell.directory / "flow.yaml").exists()
