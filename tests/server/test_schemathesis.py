"""schemathesis against a real server: every operation of the document is asked for what it takes, and for what it does not."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import COMMAND_TASK, Dev

TRIGGERS = """\
triggers:
- {type: webhook, config: {path: job, unsigned: true}}
- {type: schedule, config: {cronExpression: "0 0 1 1 *"}}
"""
CONFIG = """\
warnings = false
headers = {{ Authorization = "Bearer {token}" }}
[parameters]
"path.task_id" = "job"
"path.run_id" = "{run}"
"path.delivery_id" = "{delivery}"
"path.digest" = "{digest}"
"path.kind" = "webhook"
"path.path" = "job"
# The bounds of a patch's fields are those of a new task's.
[[operations]]
include-name = "PATCH /api/tasks/{{task_id}}"
phases.coverage.enabled = false
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Dev, str]]:
    """A server, and the token of an admin."""
    made = Dev(tmp_path, command="server", environ={"OPTIO_WRITES": "files", "OPTIO_WEBHOOK_RATE_PER_MINUTE": "100000"})
    made.write("job.yaml", COMMAND_TASK.format(name="Job", command='"true"') + TRIGGERS)
    token = made.cli("token", "create", "--role", "admin").stdout.strip()
    made.start()
    yield made, token
    made.stop()


def test_no_request_finds_a_fault_and_every_answer_is_documented(served: tuple[Dev, str]) -> None:
    server, token = served
    who = {"Authorization": f"Bearer {token}"}
    run = server.post("/api/tasks/job/runs", **who).json["runId"]
    server.post("/api/hooks/job", {"a": 1})
    delivery = server.get("/api/deliveries", **who).json["items"][0]["id"]
    digest = server.get("/api/tasks/job", **who).json["digest"]
    (server.directory / "openapi.json").write_bytes(server.get("/schema/openapi.json", **who).body)
    config = CONFIG.format(token=token, run=run, delivery=delivery, digest=digest)
    (server.directory / "schemathesis.toml").write_text(config)

    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run", "openapi.json", "--url", server.url, "--no-color"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--seed", "1"),
            "--continue-on-failure",
            # What the document takes need not be what a task, its schema and its file take, and a cursor is opaque.
            *("--exclude-checks", "positive_data_acceptance"),
        ],
        cwd=server.directory,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout
    assert re.search(r"Selected: +(\d+)/\1\n *Tested: +\1\n", done.stdout), "an operation was not tested"
    cases = re.search(r"([\d,]+) generated, ([\d,]+) passed", done.stdout)
    assert cases is not None, done.stdout
    assert int(cases[1].replace(",", "")) > 1000
