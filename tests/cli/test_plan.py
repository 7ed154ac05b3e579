"""`optio plan`: which two trees, what is printed, and when it fails."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from optio.cli import invoke
from optio.model.effect import EffectKind
from tests.cli.conftest import ECHO
from tests.support import Dev

TASK = """\
name: Report
agentRuntime: claude-code
model: claude-sonnet-4-5-20250929
promptTemplate: Write a report
budgetUsd: "1.00"
environment: {network: {egress: [api.anthropic.com]}}
triggers: [{type: schedule, config: {cronExpression: "0 9 * * 1"}}]
"""
DAILY = TASK.replace("0 9 * * 1", "0 9 * * *")
OPEN = TASK.replace("[api.anthropic.com]", "[api.anthropic.com, '*.example.com']")


def git(*arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(files: dict[str, str], root: str = "tasks.d") -> None:
    for path, text in files.items():
        file = Path(root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def commit(**files: str) -> None:
    write({f"{name}.yaml": text for name, text in files.items()})
    git("add", "-A")
    git("commit", "-qm", "change")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one task in it, which is committed on `main`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTIO_TASKS", raising=False)
    git("init", "-q", "-b", "main")
    commit(report=TASK)
    return tmp_path


Said = tuple[int, str, str]


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> "Plan":
    return Plan(capsys)


class Plan:
    """Runs the command."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Said:
        code = invoke(["plan", *arguments])
        out, err = self._capsys.readouterr()
        return code, out, err

    def first(self, *arguments: str) -> str:
        code, out, err = self(*arguments)
        assert code == 0, err
        return out.splitlines()[0]


ONE = "1 task changed; worst case $11.15 -> $66.90 a month (+$55.75)"


def test_nothing_changed_is_no_effect(repository: Path, plan: Plan) -> None:
    assert plan() == (0, "no effect\n", "")


def test_the_working_tree_is_held_against_head_or_what_is_named(repository: Path, plan: Plan) -> None:
    write({"report.yaml": DAILY})

    assert plan.first() == plan.first("main") == plan.first("HEAD") == ONE


def test_two_revisions_are_compared_and_the_working_tree_does_not_matter(repository: Path, plan: Plan) -> None:
    git("checkout", "-qb", "feature")
    commit(report=DAILY)
    write({"report.yaml": "no: task"})

    assert plan.first("main..feature") == plan.first("main..HEAD") == plan.first("main...feature") == ONE
    assert plan.first("feature..main") == "1 task changed; worst case $66.90 -> $11.15 a month (-$55.75)"


def test_a_pull_request_is_what_was_done_since_the_branches_parted(repository: Path, plan: Plan) -> None:
    git("checkout", "-qb", "feature")
    commit(report=DAILY)
    git("checkout", "-q", "main")
    commit(other=TASK.replace("Report", "Other"))

    assert plan.first("main...feature") == ONE
    assert plan.first("main..feature").startswith("1 task changed, 1 removed;")


def test_two_directories_are_compared_without_git(tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write({"report.yaml": TASK}, "one")
    write({"daily/report.yaml": DAILY, "hello.yaml": TASK.replace("Report", "Hello")}, "two")

    code, out, _ = plan("one", "two")

    assert code == 0
    assert out.startswith("1 task added, 1 changed; worst case $11.15 -> $78.05 a month")
    assert f"~ report  changed, {Path('two', 'daily', 'report.yaml')}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "has no revision `nope`"),
        (("main..nope",), "has no revision `nope`"),
        (("",), "missing revision in ``: is a variable unset?"),
        (("..",), "missing revision before `..` in `..`: is a variable unset?"),
        (("...",), "missing revision before `...` in `...`: is a variable unset?"),
        (("..HEAD",), "missing revision before `..` in `..HEAD`: is a variable unset?"),
        (("...HEAD",), "missing revision before `...` in `...HEAD`: is a variable unset?"),
        (("main..",), "missing revision after `..` in `main..`: is a variable unset?"),
        (("main... ",), "missing revision after `...` in `main... `: is a variable unset?"),
        (("", ""), "empty directory name: is a variable unset?"),
        (("tasks.d", ""), "empty directory name: is a variable unset?"),
        (("tasks.d/..",), "`tasks.d/..` is a directory: name a second one"),
        (("\x1b[31m\u202ered",), "has no revision `\\x1b[31m\\u202ered`"),
        (("main..\x1b[31m",), "has no revision `\\x1b[31m`"),
        (("\x1b", "tasks.d"), "`\\x1b` is not a directory"),
        (("--tasks", "\x1b"), "there is no task directory `\\x1b`"),
        (("--fail-on", "\x1b"), "unknown effect `\\x1b`"),
        (("main..HEAD", "--tasks", "nope"), "there is no task directory `nope`, neither in "),
        (("-x..main",), "unrecognized arguments"),
        (("--", "-x..main"), "invalid revision `-x`"),
        (("a", "b"), "`a` is not a directory: give two directories, or revisions as `BASE..HEAD`"),
        (("tasks.d",), "`tasks.d` is a directory: name a second one to compare it with, or a revision"),
        (("tasks.d", "tasks.d", "tasks.d"), "give BASE..HEAD, BASE, or two directories"),
        (("tasks.d", "tasks.d", "--tasks", "x"), "leave out --tasks"),
        (("--tasks", "nope"), "there is no task directory `nope`"),
        (("--fail-on", "dangr"), "unknown effect `dangr`: did you mean `danger`?"),
        (("--url", "http://127.0.0.1:1"), "--url needs --server or --history"),
        (("main", "--server"), "--server already names what to compare with"),
    ],
)
def test_wrong_usage_is_told(
    repository: Path, plan: Plan, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    try:
        code, out, err = plan(*arguments)
    except SystemExit as left:
        code, out, err = int(str(left.code)), *capsys.readouterr()

    assert (code, out) == (2, "")
    assert message in err


def test_without_a_repository_it_is_said_what_is_missing(tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write({"report.yaml": TASK})

    code, _, err = plan()

    assert code == 2
    assert "not in a git repository" in err


def test_an_effect_that_is_named_fails(repository: Path, plan: Plan) -> None:
    write({"report.yaml": OPEN})

    assert plan()[0] == plan("--fail-on", "secret-added")[0] == 0
    for name in ("danger", "egress-opened"):
        code, _, err = plan("--fail-on", name)
        assert code == 1
        assert "report: egress-opened: reaches *.example.com, which it did not" in err


def test_a_comment_says_what_the_gate_stops(repository: Path, plan: Plan) -> None:
    write({"report.yaml": OPEN})

    assert "failOn" not in plan("--format", "markdown")[1]
    commit(_policy="type: policy\nfailOn: [danger]\n")
    code, out, _ = plan("HEAD~1", "--format", "markdown")

    assert code == 1
    assert "\n\n:x: 1 effect listed in `failOn`:\n\n- `report`: egress-opened\n\n| |" in out


def test_a_change_does_not_loosen_its_own_gate(repository: Path, plan: Plan) -> None:
    commit(_policy="type: policy\nfailOn: [danger]\n")
    write({"report.yaml": OPEN, "_policy.yaml": "type: policy\n"})

    code, out, err = plan()

    assert code == 1
    assert "policy-changed  danger is no longer a reason for a plan to fail" in out
    assert "report: egress-opened" in err


def test_the_newest_gate_of_the_branch_that_is_merged_into_holds(repository: Path, plan: Plan) -> None:
    git("checkout", "-qb", "feature")
    commit(report=OPEN)
    assert plan("main...feature")[0] == 0
    git("checkout", "-q", "main")
    commit(_policy="type: policy\nfailOn: [danger]\nallow: {egress: [api.anthropic.com]}\n")

    code, out, err = plan("main...feature")

    assert code == 1
    assert "another policy" not in out  # the branch did nothing to it
    assert "report: egress-opened" in err
    assert "tasks.d/report.yaml:6:53: error: the policy does not allow `*.example.com` [OPT519 not-allowed]" in err
    assert "the target branch has moved on since this branch began: its current policy applies too" in err


def test_a_link_in_the_place_of_the_directory_does_not_lead_around_the_gate(repository: Path, plan: Plan) -> None:
    commit(_policy="type: policy\nfailOn: [danger]\n")
    git("checkout", "-qb", "feature")
    Path("tasks.d").rename("real")
    Path("tasks.d").symlink_to("real")
    write({"report.yaml": OPEN, "_policy.yaml": "type: policy\n"})
    git("add", "-A")
    git("commit", "-qm", "link")

    for arguments in (("main...HEAD",), ("main",)):
        code, out, err = plan(*arguments)
        assert code == 1
        assert out.startswith("1 task changed, another policy;")
        assert "report: egress-opened" in err
    commit(report=TASK)
    assert plan()[0] == plan("HEAD~1..HEAD")[0] == 0


def test_a_gate_that_is_new_holds_at_once(repository: Path, plan: Plan) -> None:
    write({"report.yaml": OPEN, "_policy.yaml": "type: policy\nfailOn: [egress-opened]\n"})

    assert plan()[0] == 1


def test_errors_are_told_and_fail_and_a_broken_task_is_not_removed(repository: Path, plan: Plan) -> None:
    write({"report.yaml": TASK + "maxTurn: 3\n"})

    code, out, err = plan()

    assert code == 1
    assert err.startswith("tasks.d/report.yaml:8:1: error: unknown key `maxTurn` [OPT101 unknown-key]")
    assert "removed" not in out
    assert "! report  broken" in out


def test_every_form_holds_the_errors_of_a_broken_file(repository: Path, plan: Plan) -> None:
    write({"report.yaml": TASK + "maxTurn: 3\n"})

    code, out, _ = plan("--format", "markdown")
    assert code == 1
    assert out.startswith("### 1 task with errors; worst case $11.15 a month, as before; 1 error\n")
    assert "- :x: `tasks.d/report.yaml:8:1` unknown key `maxTurn`" in out
    code, out, _ = plan("--format", "sarif")
    (result,) = json.loads(out)["runs"][0]["results"]
    assert (code, result["ruleId"], result["level"]) == (1, "OPT101", "error")
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "tasks.d/report.yaml"
    code, out, _ = plan("--format", "github")
    assert code == 1
    assert out.startswith("::error file=tasks.d/report.yaml,line=8,endLine=8,title=OPT101 unknown-key")


def test_a_new_file_with_errors_is_not_said_to_have_no_effect_alone(repository: Path, plan: Plan) -> None:
    write({"new.yaml": "no: task"})

    code, out, err = plan()

    assert (code, out) == (1, "no effect in the files without errors; 1 error\n")
    assert err.count("tasks.d/new.yaml:") == 1


def test_errors_of_the_base_are_told_and_do_not_fail(repository: Path, plan: Plan) -> None:
    commit(report=TASK + "maxTurn: 3\n")
    write({"report.yaml": TASK})

    code, out, err = plan()

    assert code == 0
    assert ":tasks.d/report.yaml:8:1: error: unknown key `maxTurn`" in err
    assert "+ report  mended" in out


def test_many_removals_fail_unless_they_are_meant(repository: Path, plan: Plan) -> None:
    commit(**{name: TASK.replace("Report", name.upper()) for name in "abcd"})
    for name in "abcd":
        Path("tasks.d", f"{name}.yaml").unlink()

    code, _, err = plan()

    assert code == 1
    assert "4 of 5 tasks would be removed [OPT804 mass-delete] (if you mean it, add `--allow-prune`)" in err
    _, out, _ = plan("--format", "markdown")
    assert "- :x: `tasks.d/a.yaml:1:1` 4 of 5 tasks would be removed" in out
    assert plan("--allow-prune")[0] == 0


@pytest.mark.parametrize("arguments", [("main...HEAD",), ("main..feature",), ("main",)])
def test_a_branch_that_deletes_the_directory_removes_its_tasks(
    repository: Path, plan: Plan, arguments: tuple[str, ...]
) -> None:
    git("checkout", "-qb", "feature")
    git("rm", "-qr", "tasks.d")
    git("commit", "-qm", "gone")
    assert not Path("tasks.d").exists()

    code, out, err = plan(*arguments)

    assert code == 1
    assert "- report  removed, tasks.d/report.yaml" in out
    assert "tasks.d/report.yaml:1:1: error: 1 of 1 task would be removed [OPT804 mass-delete]" in err


def test_a_branch_that_brings_the_directory_adds_its_tasks(repository: Path, plan: Plan) -> None:
    write({"report.yaml": TASK}, "other")
    git("checkout", "-qb", "feature")
    git("add", "-A")
    git("commit", "-qm", "other")
    git("checkout", "-q", "main")

    assert plan.first("main..feature", "--tasks", "other").startswith("1 task added;")


def test_a_link_that_leads_out_of_the_tree_is_told_of_a_revision_as_of_a_directory(repository: Path, plan: Plan) -> None:
    Path("tasks.d", "new.yaml").symlink_to("/etc/passwd")
    git("add", "-A")
    git("commit", "-qm", "link")

    for arguments in (("HEAD~1..HEAD",), ("HEAD~1",)):
        code, _, err = plan(*arguments)
        assert code == 1
        assert "tasks.d/new.yaml:1:1: error: is a link that leads out of the task tree [OPT706" in err


def test_json_has_what_the_text_says(repository: Path, plan: Plan) -> None:
    write({"report.yaml": OPEN})

    code, out, _ = plan("--format", "json", "--fail-on", "danger")

    said = json.loads(out)
    assert code == 1
    assert said["summary"]["tasks"]["changed"] == 1
    assert [(task["id"], task["status"], task["path"]) for task in said["tasks"]] == [
        ("report", "changed", "tasks.d/report.yaml")
    ]
    assert [effect["kind"] for effect in said["tasks"][0]["effects"]] == ["egress-opened"]
    assert said["tasks"][0]["effects"][0]["pointer"] == "/environment/network/egress"
    assert said["failing"] == [{"taskId": "report", "kind": "egress-opened", "text": "reaches *.example.com, which it did not"}]
    assert [finding["code"] for finding in said["findings"]] == ["OPT805"]


def test_json_has_as_escapes_what_a_terminal_would_obey(repository: Path, plan: Plan) -> None:
    write({"report.yaml": TASK}, "b\u202e")

    _, out, _ = plan("tasks.d", "b\u202e", "--format", "json")

    assert '"after": "b\\u202e"' in out
    assert json.loads(out)["after"] == "b\u202e"


def test_sarif_and_annotations_point_at_the_line(repository: Path, plan: Plan) -> None:
    write({"report.yaml": OPEN})

    (result,) = json.loads(plan("--format", "sarif")[1])["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (result["ruleId"], place["artifactLocation"]["uri"], place["region"]["startLine"]) == (
        "OPT805",
        "tasks.d/report.yaml",
        6,
    )
    assert plan("--format", "github")[1].startswith("::warning file=tasks.d/report.yaml,line=6,endLine=6,title=OPT805 trust-up")


def test_a_cosmetic_change_is_told_only_who_asks(repository: Path, plan: Plan) -> None:
    write({"report.yaml": "# ours\n" + TASK})

    assert plan()[1] == "no effect\n"
    assert plan("-v")[1] == "no effect\n\n= report (tasks.d/report.yaml): its file differs, its behaviour does not\n"
    assert json.loads(plan("--format", "sarif")[1])["runs"][0]["results"] == []
    assert plan("--format", "markdown")[1] == "### no effect\n"


def test_every_kind_of_effect_is_listed_with_its_meaning(plan: Plan) -> None:
    code, out, _ = plan("--kinds")

    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[: len(EffectKind)]] == [kind.value for kind in EffectKind]


def test_what_is_served_is_held_against_a_directory(
    served: Dev, tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTIO_URL", served.url)
    monkeypatch.setenv("OPTIO_TOKEN", served.credentials["Authorization"].removeprefix("Bearer "))
    monkeypatch.setenv("OPTIO_TASKS", "mine")
    write({path.name: path.read_text() for path in served.tasks.glob("*.yaml")}, "mine")

    assert plan("--server") == (0, "no effect\n", "")

    write({"echo.yaml": ECHO + "timeout: 5m\n"}, "mine")
    os.unlink("mine/slow.yaml")
    code, out, _ = plan("--server", "--history")

    assert code == 0
    assert out.splitlines()[0] == "1 task changed, 1 removed"
    assert "time-changed  time of an attempt: the server's default -> 5m" in out
    assert "expected in 30 days: " in out
    assert "- slow  removed, slow.yaml" in out


def test_a_file_that_is_deleted_is_annotated_where_it_stood(repository: Path, plan: Plan) -> None:
    commit(_policy="type: policy\nallow: {models: ['claude-*']}\n")
    git("rm", "-q", "tasks.d/report.yaml", "tasks.d/_policy.yaml")
    git("commit", "-qm", "delete")

    _, out, _ = plan("HEAD~1..HEAD", "--format", "github")

    assert "::warning file=tasks.d/_policy.yaml,line=1,endLine=1,title=OPT811 policy-loosened" in out
    assert "::warning file=tasks.d/report.yaml,line=1,endLine=1,title=OPT810 task-removed" in out


def test_of_two_directories_what_is_gone_is_told_in_the_older_one(tmp_path: Path, plan: Plan) -> None:
    write({"report.yaml": TASK, "other.yaml": TASK.replace("Report", "Other")}, str(tmp_path / "old"))
    write({"report.yaml": TASK}, str(tmp_path / "new"))

    _, out, _ = plan(str(tmp_path / "old"), str(tmp_path / "new"), "--format", "github")

    assert f"file={tmp_path}/old/other.yaml," in out


def test_a_policy_that_cannot_be_read_is_told_once_and_fails_the_plan(repository: Path, plan: Plan) -> None:
    commit(_policy="type: policy\nfailOn: [danger]\n", other=TASK.replace("Report", "Other"))
    commit(_policy="type: policy\nfailOn: [danger]\nfailOn: []\n", report=DAILY)

    code, out, err = plan("HEAD~1..HEAD")

    assert code == 1
    assert "! policy-changed  the policy cannot be read, so it allows nothing" in out
    assert "task-broken" not in out
    assert err.count("error:") == 1


def test_the_policy_of_a_branch_that_has_gone_on_must_be_readable(repository: Path, plan: Plan) -> None:
    git("checkout", "-qb", "feature")
    commit(report=DAILY)
    git("checkout", "-q", "main")
    commit(_policy="type: policy\nfailOn: [danger]\nfailOn: []\n")

    code, out, err = plan("main...feature")

    assert (code, out) == (2, "")
    assert "the policy in main cannot be read, so it allows nothing: fix it there first" in err
