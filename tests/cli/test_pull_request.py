"""The workflow of `examples/pull-request`: its steps, run in a repository, with a stand-in for GitHub's own program."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_plan import OPEN, TASK, commit, git
from tests.support import ROOT

WORKFLOW: dict[str, Any] = yaml.load((ROOT / "examples" / "pull-request" / "optio.yml").read_text(), yaml.BaseLoader)  # noqa: S506 - it makes texts alone
STEPS = {step["name"]: step for step in WORKFLOW["jobs"]["plan"]["steps"] if "name" in step}
# It notes what it is asked, and knows the comments that stand in a file.
GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in *--paginate*) cat "$KNOWN";; esac
case "$*" in *-F*) cat comment.md > "$BODY";; esac
"""


class Job:
    """A checkout of a pull request, as the workflow has it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.outside = directory, directory.parent
        tools = self.outside / "bin"
        tools.mkdir()
        for name, text in (("gh", GH), ("optio", f'#!/bin/sh\nexec {sys.executable} -m optio "$@"\n')):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        (self.outside / "known").write_text("")
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OPTIO_")},
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CHANGE": WORKFLOW["jobs"]["plan"]["env"]["CHANGE"],
            "GITHUB_STEP_SUMMARY": str(self.outside / "summary"),
            "CALLS": str(self.outside / "calls"),
            "KNOWN": str(self.outside / "known"),
            "BODY": str(self.outside / "body"),
        }

    def step(self, name: str) -> subprocess.CompletedProcess[str]:
        """As GitHub runs it: `bash -e`."""
        environ = self.environ | {key: value for key, value in STEPS[name].get("env", {}).items() if key == "MARK"}
        environ |= {"COMMENTS": "repos/a/b/issues/7/comments", "COMMENT": "repos/a/b/issues/comments"}
        return subprocess.run(
            ["bash", "-e", "-c", STEPS[name]["run"]],
            cwd=self.directory,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def said(self, name: str) -> str:
        """What stands in a file outside of the checkout."""
        return (self.outside / name).read_text()


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A branch that opens the network of a task, in a repository that lets no danger through."""
    directory = tmp_path / "checkout"
    directory.mkdir()
    monkeypatch.chdir(directory)
    git("init", "-q", "-b", "main")
    commit(report=TASK, _policy="type: policy\nexecutor: kubernetes\nfailOn: [danger]\nrules: {OPT525: 'off'}\n")
    git("checkout", "-qb", "feature")
    commit(report=OPEN)
    merge()
    return Job(directory)


def merge() -> None:
    """What GitHub makes of a pull request, and checks out."""
    git("checkout", "-q", "--detach", "main")
    git("merge", "-q", "--no-ff", "-m", "merge", "feature")


def test_what_a_change_does_stands_in_the_summary_and_in_sarif_and_fails(job: Job) -> None:
    assert job.step("What is wrong").returncode == 0

    done = job.step("What it will do")

    assert done.returncode == 1
    assert "report: egress-opened" in done.stderr
    assert job.said("summary").startswith("### 1 task changed;")
    for name, rules in (("check.sarif", []), ("plan.sarif", ["OPT805"])):
        (run,) = json.loads((job.directory / name).read_text())["runs"]
        assert [result["ruleId"] for result in run["results"] if result["level"] != "note"] == rules


def test_there_is_one_comment_which_is_brought_up_to_date(job: Job) -> None:
    job.step("What it will do")

    assert job.step("Say so on the pull request").returncode == 0
    assert "-X POST repos/a/b/issues/7/comments" in job.said("calls")
    assert job.said("body").startswith("<!-- optio plan -->\n### 1 task changed;")

    (job.outside / "known").write_text("123\n456\n")
    assert job.step("Say so on the pull request").returncode == 0
    assert "-X PATCH repos/a/b/issues/comments/123" in job.said("calls").splitlines()[-1]


def test_errors_fail_and_the_plan_is_told_all_the_same(job: Job) -> None:
    git("checkout", "-q", "feature")
    commit(report=TASK + "maxTurn: 3\n")
    merge()

    assert job.step("What is wrong").returncode == 1
    assert job.step("What it will do").returncode == 1
    assert "broken" in job.said("summary")


def test_a_policy_that_came_after_the_branches_parted_holds(job: Job) -> None:
    git("checkout", "-q", "main")
    commit(_policy="type: policy\nallow: {egress: [api.anthropic.com]}\n")
    merge()

    done = job.step("What is wrong")

    assert done.returncode == 1
    assert "the policy does not allow `*.example.com`" in done.stdout


def test_what_outsiders_choose_stands_in_no_script() -> None:
    assert all("${{" not in step["run"] for step in STEPS.values() if "run" in step)
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in WORKFLOW["on"]
