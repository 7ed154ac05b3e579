"""The queue of a real `optio dev`: priorities, pauses, start limits, business keys, and what `optio runs why` says."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.stories.conftest import SECRET, in_state, started, waiting_task
from tests.support import Answer, Dev, eventually

KEYED = """\
type: standalone
name: {name}
agentRuntime: command
command: ["/bin/sh", "-c", "while [ ! -e {gate} ]; do sleep 0.02; done; cat"]
promptTemplate: "{{{{REPO}}}} {{{{PR}}}}"
paramsSchema:
  type: object
  properties: {{REPO: {{type: string}}, PR: {{type: integer}}}}
  required: [REPO, PR]
  additionalProperties: false
dedupe: {{key: "{{{{REPO}}}}#{{{{PR}}}}", onDuplicate: {rule}}}
triggers:
  - type: webhook
    config: {{path: {path}, secret: {{name: STORY_SECRET}}, paramMapping: {{REPO: $.repo, PR: $.pr}}}}
"""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """Runs two at once, over all tasks."""
    environ = {"OPTIO_MAX_WORKFLOW_CONCURRENT": "2", "OPTIO_SECRET_STORY_SECRET": SECRET}
    process = Dev(tmp_path_factory.mktemp("queue"), environ=environ)
    process.start()
    yield process
    process.stop()


def keyed_task(dev: Dev, name: str, gate: Path, rule: str) -> str:
    """A task with a business key; its id."""
    task_id = name.lower()
    dev.write(f"{task_id}.yaml", KEYED.format(name=name, gate=gate, rule=rule, path=task_id))
    dev.until_served(task_id)
    return task_id


def review(dev: Dev, task_id: str, pr: int) -> Answer:
    return dev.post(f"/api/tasks/{task_id}/runs", {"params": {"REPO": "app", "PR": pr}})


def deliver(dev: Dev, path: str, pr: int) -> Answer:
    body = json.dumps({"repo": "app", "pr": pr}).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return dev.request("POST", f"/api/hooks/{path}", raw=body, headers={"X-Optio-Signature": signature})


def until_running(dev: Dev, run_id: str) -> None:
    eventually(lambda: dev.get(f"/api/workflow-runs/{run_id}").json["state"] == "running", what=f"{run_id} running")


def started_at(dev: Dev, run_id: str) -> str:
    moment: str = dev.until_ended(run_id)["startedAt"]
    return moment


def test_the_task_with_the_higher_priority_starts_first(narrow: Dev, gate: Path) -> None:
    low = waiting_task(narrow, "Low", gate, "maxConcurrent: 9\n")
    high = waiting_task(narrow, "High", gate, "maxConcurrent: 9\npriority: 50\n")
    first, second = started(narrow, low), started(narrow, low)
    until_running(narrow, second)
    late = started(narrow, low)
    urgent = started(narrow, high)

    why = narrow.cli("runs", "why", late).stdout.splitlines()
    gate.touch()

    assert why[0].endswith("1 run of a higher priority goes first; 2 of 2 runs are running in all [priority]")
    assert why[1:4] == ["position  2, 1 ahead of it", "rule      priority: 0", f"used by   {first}"]
    assert started_at(narrow, urgent) <= started_at(narrow, late)
    assert {narrow.until_ended(run)["state"] for run in (first, second, late, urgent)} == {"completed"}


def test_a_paused_task_waits_through_an_edit_and_a_restart_until_it_is_resumed(narrow: Dev, gate: Path) -> None:
    gate.touch()
    task = waiting_task(narrow, "Held", gate)

    paused = narrow.cli("tasks", "pause", task, "--reason", "the API is down")
    run = started(narrow, task)
    digest = narrow.get(f"/api/tasks/{task}").json["digest"]
    waiting_task(narrow, "Held", gate, "priority: 9\n")
    narrow.until_served(task, digest_other_than=digest)
    narrow.stop()
    narrow.start()
    why = narrow.cli("runs", "why", run).stdout
    listed = narrow.cli("tasks", "list").stdout
    waited = narrow.get(f"/api/workflow-runs/{run}").json["state"]
    resumed = narrow.cli("tasks", "resume", task)

    assert (paused.returncode, paused.stdout) == (0, "held is paused: `optio tasks resume held` ends it\n")
    assert "the task is paused by local since" in why
    assert ": the API is down [paused]" in why
    assert [line.split()[2:] for line in listed.splitlines() if line.startswith("held ")] == [
        ["paused", "by", "local:", "the", "API", "is", "down", "9", "2"]
    ]
    assert waited == "queued"
    assert (resumed.returncode, resumed.stdout) == (0, "held is not paused\n")
    assert narrow.until_ended(run)["state"] == "completed"


def test_a_start_limit_holds_and_the_next_run_starts_when_it_opens(narrow: Dev, gate: Path) -> None:
    gate.touch()
    task = waiting_task(narrow, "Few", gate, "maxConcurrent: 9\nstartLimit: {count: 2, per: 2s}\n")
    runs = [started(narrow, task) for _ in range(4)]
    eventually(lambda: len(in_state(narrow, task, "completed")) >= 2, what="the first two to end")
    waiting = narrow.get(f"/api/workflow-runs/{runs[2]}").json

    times = [started_at(narrow, run) for run in runs]

    assert times == sorted(times)
    assert waiting["state"] != "queued" or waiting["waiting"]["reason"] == "start_limit"
    assert all(_seconds(later) - _seconds(first) >= 1.999 for first, later in zip(times, times[2:], strict=False))


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def test_two_requests_for_the_same_thing_are_one_run_whoever_asks(narrow: Dev, gate: Path) -> None:
    task = keyed_task(narrow, "Joined", gate, "join")

    first, second, hooked, other = (
        review(narrow, task, 1),
        review(narrow, task, 1),
        deliver(narrow, task, 1),
        review(narrow, task, 2),
    )
    told = narrow.cli("run", task, "-p", "REPO=app", "-P", "PR=1")
    gate.touch()

    run = first.json["runId"]
    assert (first.status, second.status, hooked.status, other.status) == (202, 200, 202, 202)
    assert [second.json["runId"], hooked.json["runId"]] == [run, run]
    assert hooked.json["status"] == "duplicate"
    assert told.stdout.startswith(f"run {run} ")
    assert told.stdout.endswith("(started before with the same key)\n")
    assert narrow.until_ended(run)["output"] == "app 1"
    assert narrow.get(f"/api/tasks/{task}/runs").json["items"][-1]["id"] == run
    assert len(narrow.get(f"/api/tasks/{task}/runs").json["items"]) == 2
    assert review(narrow, task, 1).status == 202


def test_the_newest_request_replaces_the_one_that_waits_and_runs_after_the_one_that_runs(narrow: Dev, gate: Path) -> None:
    task = keyed_task(narrow, "Latest", gate, "replace")
    first = review(narrow, task, 1).json["runId"]
    until_running(narrow, first)

    second, third = review(narrow, task, 1).json["runId"], review(narrow, task, 1).json["runId"]
    why = narrow.cli("runs", "why", third).stdout
    replaced = narrow.until_ended(second)
    gate.touch()

    assert (replaced["state"], replaced["reason"]) == ("cancelled", "superseded")
    assert f"run {first} has the same key and is still running [same_key]" in why
    assert narrow.until_ended(first)["endedAt"] <= started_at(narrow, third)


def test_a_rejected_request_says_which_run_is_in_its_way(narrow: Dev, gate: Path) -> None:
    task = keyed_task(narrow, "Strict", gate, "reject")
    run = review(narrow, task, 1).json["runId"]

    refused = narrow.cli("run", task, "-p", "REPO=app", "-P", "PR=1")
    gate.touch()

    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"run {run} has the same key" in refused.stderr
    assert narrow.until_ended(run)["state"] == "completed"
