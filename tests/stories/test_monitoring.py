"""Monitoring: lists, details, logs; retry and cancel."""

from pathlib import Path

from tests.stories.conftest import echo_task, started, waiting_task
from tests.support import Dev, eventually

ONCE = """\
type: standalone
name: Second Time Lucky
agentRuntime: command
command: ["/bin/sh", "-c", "test -e {flag} && echo now it works"]
promptTemplate: "x"
maxRetries: 0
"""


def test_runs_are_listed_with_status_duration_cost_and_parameters(optio: Dev) -> None:
    task = echo_task(optio, "Listed", "{{N}}")
    ids = [started(optio, task, {"N": n}) for n in range(3)]
    for run_id in ids:
        optio.until_ended(run_id)

    items = optio.get(f"/api/tasks/{task}/runs").json["items"]

    assert [item["id"] for item in items] == ids[::-1]
    assert [item["params"] for item in items] == [{"N": 2}, {"N": 1}, {"N": 0}]
    assert {item["state"] for item in items} == {"completed"}
    assert all(item["durationMs"] >= 0 and "costUsd" in item for item in items)


def test_a_run_shows_its_metadata_and_output(optio: Dev) -> None:
    run_id = started(optio, echo_task(optio, "Shown", "the output"))
    optio.until_ended(run_id)

    run = optio.get(f"/api/workflow-runs/{run_id}").json

    assert (run["taskId"], run["output"], run["attempt"]) == ("shown", "the output", 1)
    assert run["createdAt"] <= run["startedAt"] <= run["endedAt"]


def test_the_log_of_a_run_can_be_asked_for(optio: Dev) -> None:
    run_id = started(optio, echo_task(optio, "Logged", "first\\nsecond"))
    optio.until_ended(run_id)

    answer = optio.get(f"/api/workflow-runs/{run_id}/logs").json

    assert [line["text"] for line in answer["items"] if line["kind"] != "system"] == ["first", "second"]


def test_a_failed_run_can_be_retried(optio: Dev, gate: Path) -> None:
    flag = gate
    optio.write("lucky.yaml", ONCE.format(flag=flag))
    optio.until_served("second-time-lucky")
    run_id = started(optio, "second-time-lucky")
    assert optio.until_ended(run_id)["state"] == "failed"
    flag.touch()

    answer = optio.post(f"/api/workflow-runs/{run_id}/retry")

    ended = eventually(lambda: succeeded(optio, run_id), what="the retried run to complete")
    assert answer.status == 202
    assert (ended["output"], ended["attempt"]) == ("now it works", 2)


def succeeded(optio: Dev, run_id: str) -> dict[str, object] | None:
    run: dict[str, object] = optio.get(f"/api/workflow-runs/{run_id}").json
    return run if run["state"] == "completed" else None


def test_a_completed_run_cannot_be_retried(optio: Dev) -> None:
    run_id = started(optio, echo_task(optio, "Done", "x"))
    optio.until_ended(run_id)

    assert optio.post(f"/api/workflow-runs/{run_id}/retry").status == 409


def test_a_running_run_can_be_cancelled(optio: Dev, gate: Path) -> None:
    run_id = started(optio, waiting_task(optio, "Cancelled", gate))
    eventually(lambda: optio.get(f"/api/workflow-runs/{run_id}").json["state"] == "running", what="the run")

    answer = optio.post(f"/api/workflow-runs/{run_id}/cancel")

    run = optio.until_ended(run_id)
    gate.touch()
    assert answer.status == 202
    assert (run["state"], run["reason"]) == ("cancelled", "cancelled")
    assert "over" not in [line["text"] for line in optio.get(f"/api/workflow-runs/{run_id}/logs").json["items"]]


def test_a_queued_run_can_be_cancelled(optio: Dev, gate: Path) -> None:
    task = waiting_task(optio, "In Line", gate, "maxConcurrent: 1\n")
    first, second = started(optio, task), started(optio, task)

    optio.post(f"/api/workflow-runs/{second}/cancel")

    gate.touch()
    assert optio.until_ended(second)["attempts"] == []
    assert optio.until_ended(first)["state"] == "completed"
