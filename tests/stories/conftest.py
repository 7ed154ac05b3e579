"""One `optio dev` for all stories: limits as they come, the real Claude Code CLI, a model that answers by script."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.deploy.installed import KUBECTL
from tests.executors.pods.place import CLUSTER
from tests.stub_model import StubModel
from tests.support import CLAUDE, Dev

# What needs a cluster is no test where there is none.
collect_ignore = [] if CLUSTER else ["test_pods.py", "test_room.py"]
collect_ignore += [] if CLUSTER and shutil.which(KUBECTL) else ["test_team_namespaces.py"]
FLAKY = """\
type: standalone
name: {name}
agentRuntime: command
command: ["/bin/sh", "-c", "echo tried; exit 1"]
promptTemplate: "x"
{extra}
"""
SIGNED = """\
type: standalone
name: {name}
agentRuntime: command
command: ["/bin/cat"]
promptTemplate: "{{{{REPO_NAME}}}}"
paramsSchema:
  type: object
  properties:
    REPO_NAME: {{type: string, maxLength: 100}}
  required: [REPO_NAME]
  additionalProperties: false
triggers:
  - type: webhook
    config:
      path: {path}
      secret: {{name: STORY_SECRET}}
      paramMapping: {{REPO_NAME: $.repository.name}}
"""
SECRET = "whsec_c3Rvcnk="


@pytest.fixture(scope="package")
def optio(tmp_path_factory: pytest.TempPathFactory, scripted_model: StubModel) -> Iterator[Dev]:
    """Serves the stories' tasks; two failing runs are started at once, so that their delays pass while others are told."""
    directory = tmp_path_factory.mktemp("stories")
    (directory / "shared").mkdir()
    (directory / "shared").chmod(0o777)
    process = Dev(
        directory,
        environ={
            "OPTIO_PROGRAM_CLAUDE_CODE": str(CLAUDE),
            "OPTIO_SANDBOX": "namespaces",
            "OPTIO_SANDBOX_WRITE": str(directory / "shared"),
            "OPTIO_ANTHROPIC_BASE_URL": scripted_model.url,
            "OPTIO_SECRET_STORY_SECRET": SECRET,
            "OPTIO_SECRET_ANTHROPIC_API_KEY": "sk-story",
        },
    )
    process.write("flaky.yaml", FLAKY.format(name="Flaky", extra=""))
    process.write("stubborn.yaml", FLAKY.format(name="Stubborn", extra="maxRetries: 2"))
    process.write("signed.yaml", SIGNED.format(name="Signed", path="signed"))
    process.write("flooded.yaml", SIGNED.format(name="Flooded", path="flooded"))
    process.start()
    process.post("/api/tasks/flaky/runs")
    process.post("/api/tasks/stubborn/runs")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without its windows, which take half of the CPU time and more. It finds no other host."""
    args = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path="/usr/bin/chromium-headless-shell", args=args)
        yield found
        found.close()


@pytest.fixture
def gate(optio: Dev) -> Iterator[Path]:
    """A file that runs wait for; opened at the end at the latest. Runs may write beside it."""
    path = Path(tempfile.mkdtemp(dir=optio.directory / "shared")) / "gate"
    path.parent.chmod(0o777)
    marks = path.with_name("marks")  # all of them append to it
    marks.touch()
    marks.chmod(0o666)
    yield path
    path.touch()


def waiting_task(
    optio: Dev, name: str, gate: Path, extra: str = "", before: str = "echo begun", after: str = "echo over"
) -> str:
    """A task whose runs go on until the gate is opened; its id."""
    script = f"{before}; while [ ! -e {gate} ]; do sleep 0.02; done; {after}"
    task_id = name.lower().replace(" ", "-")
    optio.write(
        f"{task_id}.yaml",
        f'type: standalone\nname: {name}\nagentRuntime: command\ncommand: ["/bin/sh", "-c", "{script}"]\n'
        f'promptTemplate: "x"\nmaxRetries: 0\n{extra}',
    )
    optio.until_served(task_id)
    return task_id


def echo_task(optio: Dev, name: str, prompt: str, extra: str = "") -> str:
    """A task that prints its prompt; its id."""
    task_id = name.lower().replace(" ", "-")
    text = f'type: standalone\nname: {name}\nagentRuntime: command\ncommand: ["/bin/cat"]\npromptTemplate: "{prompt}"\n{extra}'
    optio.write(f"{task_id}.yaml", text)
    optio.until_served(task_id)
    return task_id


def started(optio: Dev, task_id: str, params: dict[str, Any] | None = None) -> str:
    """The id of a new run."""
    answer = optio.post(f"/api/tasks/{task_id}/runs", {"params": params})
    assert answer.status == 202, answer.body
    run_id: str = answer.json["runId"]
    return run_id


def in_state(optio: Dev, task_id: str, state: str) -> list[str]:
    """Ids of the task's runs in a state."""
    return [run["id"] for run in optio.get(f"/api/tasks/{task_id}/runs?state={state}").json["items"]]
