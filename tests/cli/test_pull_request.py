"""The action for GitHub, the job for GitLab and the workflow for Gitea: their steps, run in a repository, with a stand-in for
GitHub's own program and for the API of Gitea."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from tests import forked
from tests.cli.test_plan import OPEN, TASK, commit, git
from tests.pages import page, rows
from tests.support import ROOT


def read(path: str) -> Any:
    return yaml.load((ROOT / path).read_text(), yaml.BaseLoader)  # noqa: S506 - it makes texts alone


ACTION: dict[str, Any] = read("deploy/github/action.yml")
WORKFLOW: dict[str, Any] = read("examples/pull-request/optio.yml")
GITLAB: dict[str, Any] = read("deploy/gitlab/optio-check.yml")
GITEA: dict[str, Any] = read("deploy/gitea/optio.yml")
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}
# It notes what it is asked, and knows the comments that stand in a file.
GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in *--paginate*) cat "$KNOWN";; esac
case "$*" in *-F*) cat "$RUNNER_TEMP/comment.md" > "$BODY";; esac
"""


def tools(directory: Path, **programs: str) -> Path:
    """A directory for PATH of programs, and of `optio`."""
    directory.mkdir()
    for name, text in programs.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    forked.put_program(directory / "optio")
    return directory


class Job:
    """A checkout of a pull request, and what GitHub gives to the steps of the action."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.outside = directory, directory.parent
        (self.outside / "temp").mkdir()
        for name in ("known", "summary", "output", "path"):
            (self.outside / name).write_text("")
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OPTIO_")},
            "PATH": f"{tools(self.outside / 'bin', gh=GH)}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RUNNER_TEMP": str(self.outside / "temp"),
            "GITHUB_ACTION_PATH": str(ROOT / "deploy" / "github"),
            "GITHUB_STEP_SUMMARY": str(self.outside / "summary"),
            "GITHUB_OUTPUT": str(self.outside / "output"),
            "GITHUB_PATH": str(self.outside / "path"),
            "CALLS": str(self.outside / "calls"),
            "KNOWN": str(self.outside / "known"),
            "BODY": str(self.outside / "body"),
        }

    def step(self, name: str, **inputs: str) -> subprocess.CompletedProcess[str]:
        """As GitHub runs it: its variables are filled in from the inputs, their defaults, and what steps have put out."""
        given = {each: inputs.get(each.replace("-", "_"), ACTION["inputs"][each]["default"]) for each in ACTION["inputs"]}
        values = {f"inputs.{each}": value for each, value in given.items()}
        values |= {"github.repository": "a/b", "github.event.pull_request.number": "7", "github.token": "a-token"}
        values |= {f"steps.plan.outputs.{each}": value for each, value in self.outputs().items()}
        environ = {
            variable: re.sub(r"\$\{\{ (\S+) \}\}", lambda found: values[found[1]], text)
            for variable, text in STEPS[name].get("env", {}).items()
        }
        assert STEPS[name]["shell"] == "bash"
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]],
            cwd=self.directory,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def outputs(self) -> dict[str, str]:
        """What the steps have put out, whichever of them did."""
        return dict(line.split("=", 1) for line in self.said("output").splitlines())

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
        (run,) = json.loads((job.outside / "temp" / name).read_text())["runs"]
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


def test_the_inputs_name_the_files_and_turn_warnings_into_errors(job: Job) -> None:
    git("checkout", "-q", "feature")
    params = "paramsSchema: {type: object, additionalProperties: false, properties: {NAME: {type: string, maxLength: 9}}}\n"
    commit(report=TASK.replace("Write a report", "Write a report on {{NAM}}") + params)
    merge()

    assert job.step("What is wrong").returncode == 0
    assert job.step("What is wrong", strict="true").returncode == 1
    assert job.step("What is wrong", tasks="nowhere").returncode == 2


def test_a_failed_test_fails_the_action(job: Job) -> None:
    assert job.step("What the tests say").returncode == 0

    (job.directory / "tasks.d" / "report.yaml").write_text(TASK + "tests: [{params: {}, expect: {prompt: other}}]\n")

    assert job.step("What the tests say").returncode == 1


def test_the_action_installs_the_optio_that_it_comes_with_and_libraries_by_hash(job: Job, tmp_path: Path) -> None:
    clone = tmp_path / "the action"
    for part in ("optio", "deploy"):
        shutil.copytree(ROOT / part, clone / part, ignore=shutil.ignore_patterns("site"))
    del job.environ["PYTHONPATH"]
    job.environ["GITHUB_ACTION_PATH"] = str(clone / "deploy" / "github")
    setup = tools(tmp_path / "setup", python=f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    job.environ["PATH"] = f"{setup}:/usr/bin:/bin"

    done = job.step("Install")

    assert (done.returncode, done.stderr) == (0, "")
    programs = job.said("path").strip()
    job.environ["PATH"] = f"{programs}:/usr/bin:/bin"
    ask = [f"{programs}/python", "-c", "import optio; print(optio.__file__)"]
    where = subprocess.run(ask, capture_output=True, text=True, check=True)
    assert where.stdout.strip() == str(clone / "optio" / "__init__.py")
    assert [job.step(name).returncode for name in ("What is wrong", "What the tests say", "What it will do")] == [0, 0, 1]


def test_the_lock_of_the_action_has_the_libraries_of_the_compiler_in_the_versions_of_the_tests() -> None:
    def pinned(path: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9.-]+==\S+)", (ROOT / path).read_text(), re.M))

    assert len(pinned("deploy/check.lock")) < 12
    assert pinned("deploy/check.lock") <= pinned("requirements.lock")


@pytest.mark.parametrize("text", ["deploy/github/action.yml", "deploy/gitea/optio.yml", "examples/pull-request/optio.yml"])
def test_other_actions_are_used_by_the_hash_of_a_version(text: str) -> None:
    found = re.findall(r"^ *-? *uses: (.+)$", (ROOT / text).read_text(), re.M)

    assert found
    for each in found:
        assert re.fullmatch(r"[\w/-]+@([0-9a-f]{40} # v\d+\.\d+\.\d+|COMMIT)", each), each


def test_the_workflow_uses_the_action_and_checks_out_the_merge_with_its_parents() -> None:
    checkout, action = WORKFLOW["jobs"]["plan"]["steps"]

    assert checkout["with"] == {"fetch-depth": "2", "persist-credentials": "false"}
    assert re.fullmatch(r"[\w-]+/optio/deploy/github@COMMIT", action["uses"])
    assert ACTION["inputs"]["change"]["default"] == "HEAD^1..HEAD"


def test_the_guide_has_every_input_with_its_default() -> None:
    table = {row[0].strip("`"): row[1].strip("`") for row in rows(page("guides/pull-requests.md")) if len(row) == 3}

    assert {name: table.get(name) for name in ACTION["inputs"]} == {
        name: each["default"] for name, each in ACTION["inputs"].items()
    }


def test_what_outsiders_choose_stands_in_no_script() -> None:
    assert all("${{" not in step["run"] for step in STEPS.values() if "run" in step)
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in WORKFLOW["on"]


class GitLabJob:
    """The script of the job for GitLab in a clone, in which only the source branch was fetched."""

    def __init__(self, directory: Path, origin: Path) -> None:
        self.directory = directory
        git("clone", "-q", "--branch", "feature", "--single-branch", str(origin), str(directory))
        pip = tools(directory.parent / "gitlab")
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OPTIO_")},
            **GITLAB["optio"]["variables"],
            "PATH": f"{pip}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        }

    def run(self) -> subprocess.CompletedProcess[str]:
        """As GitLab runs it, but for the installation."""
        before = [line for line in GITLAB["optio"]["before_script"] if "venv" not in line]
        script = "\n".join([*before, *GITLAB["optio"]["script"]])
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=240,
        )


def test_the_job_for_gitlab_says_what_is_wrong_and_what_it_will_do_and_fails(job: Job, tmp_path: Path) -> None:
    gitlab = GitLabJob(tmp_path / "builds", job.directory)

    done = gitlab.run()

    assert done.returncode == 1
    assert "### 1 task changed;" in done.stdout
    assert "report: egress-opened" in done.stderr
    written = {name for name in os.listdir(gitlab.directory) if name.startswith("optio-")}
    named = {*GITLAB["optio"]["artifacts"]["paths"], *GITLAB["optio"]["artifacts"]["reports"]["junit"]}
    assert written == named


def test_the_job_for_gitlab_lets_a_change_through_that_the_policy_allows(job: Job, tmp_path: Path) -> None:
    git("checkout", "-q", "feature")
    commit(report=TASK.replace("0 9 * * 1", "0 10 * * 1"))

    done = GitLabJob(tmp_path / "builds", job.directory).run()

    assert (done.returncode, "1 task changed" in done.stdout) == (0, True)


def test_the_job_for_gitlab_needs_to_be_told_where_optio_is(job: Job, tmp_path: Path) -> None:
    gitlab = GitLabJob(tmp_path / "builds", job.directory)
    install = next(line for line in GITLAB["optio"]["before_script"] if "OPTIO_SOURCE" in line)

    done = subprocess.run(["bash", "-ec", install], cwd=tmp_path, env=gitlab.environ, capture_output=True, text=True)

    assert done.returncode != 0
    assert "OPTIO_SOURCE: set this variable of the project" in done.stderr


class Forge(BaseHTTPRequestHandler):
    """The comments of a pull request, as Gitea's API keeps them."""

    comments: ClassVar[dict[int, str]]

    def do_GET(self) -> None:
        self.reply([{"id": number, "body": body} for number, body in self.comments.items()])

    def do_POST(self) -> None:
        self.keep(len(self.comments) + 1)

    def do_PATCH(self) -> None:
        self.keep(int(self.path.rpartition("/")[2]))

    def keep(self, number: int) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]
        if self.headers["Authorization"] == "token a-token" and "/api/v1/repos/a/b/issues/" in self.path:
            self.comments[number] = body
        self.reply({"id": number})

    def reply(self, answer: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def forge() -> Iterator[str]:
    Forge.comments = {1: "looks good"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api/v1"
    server.shutdown()
    server.server_close()


def test_the_workflow_for_gitea_fails_and_keeps_one_comment(job: Job, tmp_path: Path, forge: str) -> None:
    checkout, install, *steps = GITEA["jobs"]["plan"]["steps"]
    git("clone", "-q", "--branch", "feature", str(job.directory), str(tmp_path / "clone"))
    names = {"GITHUB_API_URL": forge, "GITHUB_REPOSITORY": "a/b", "GITHUB_BASE_REF": "main"}
    values = {"github.token": "a-token", "github.event.pull_request.number": "7"}

    def codes() -> list[int]:
        found = []
        for step in steps:
            given = {
                name: re.sub(r"\$\{\{ (\S+) \}\}", lambda at: values[at[1]], text) for name, text in step.get("env", {}).items()
            }
            words = ["bash", "-e", "-c", step["run"]]
            found.append(subprocess.run(words, cwd=tmp_path / "clone", env=job.environ | names | given, timeout=240).returncode)
        return found

    assert codes() == [0, 0, 1, 0]
    assert Forge.comments[2].startswith("<!-- optio plan -->\n### 1 task changed;")
    assert ":x: 1 effect listed in `failOn`" in Forge.comments[2]
    git("-C", str(tmp_path / "clone"), "reset", "-q", "--hard", "origin/main")
    assert codes() == [0, 0, 0, 0]
    assert Forge.comments == {1: "looks good", 2: "<!-- optio plan -->\n### no effect\n"}
    assert checkout["with"] == {"fetch-depth": "0", "persist-credentials": "false"}
    assert '"optio-taskrunner @ $SOURCE"' in install["run"]
    assert all("${{" not in step["run"] for step in (install, *steps))
