"""Execution: states and live logs."""

import json
from pathlib import Path

from websockets.sync.client import connect

from tests.stories.conftest import echo_task, started, waiting_task
from tests.support import Dev, eventually


def states(optio: Dev, run_id: str) -> list[str]:
    return [event["to"] for event in optio.get(f"/api/workflow-runs/{run_id}").json["events"]]


def test_a_run_is_queued_then_running_then_completed(optio: Dev) -> None:
    run = optio.until_ended(started(optio, echo_task(optio, "States", "x")))

    assert states(optio, run["id"]) == ["queued", "running", "completed"]
    assert (run["state"], run["reason"]) == ("completed", "ok")


def test_a_run_whose_agent_fails_is_failed(optio: Dev) -> None:
    optio.write(
        "fails.yaml",
        'type: standalone\nname: Fails\nagentRuntime: command\ncommand: ["/bin/sh", "-c", "exit 4"]\npromptTemplate: "x"\n'
        "maxRetries: 0\n",
    )
    optio.until_served("fails")

    run = optio.until_ended(started(optio, "fails"))

    assert states(optio, run["id"]) == ["queued", "running", "failed"]
    assert (run["reason"], run["attempts"][0]["exitCode"]) == ("exit_code", 4)


def test_log_lines_arrive_over_the_websocket_while_the_run_goes_on(optio: Dev, gate: Path) -> None:
    run_id = started(optio, waiting_task(optio, "Live", gate))

    url = f"{optio.url.replace('http', 'ws')}/ws/workflow-runs/{run_id}/logs"
    with connect(url, open_timeout=20, additional_headers=optio.credentials) as socket:
        note, first = (json.loads(socket.recv(timeout=20)) for _ in range(2))
        during = optio.get(f"/api/workflow-runs/{run_id}").json["state"]
        gate.touch()
        rest = [json.loads(message) for message in socket]

    assert (note["kind"], note["text"].split(":")[0]) == ("system", "sandbox namespaces")
    assert (first["type"], first["text"]) == ("line", "begun")
    assert during == "running"
    assert [message.get("text") for message in rest[:-1]] == ["over"]
    assert (rest[-1]["type"], rest[-1]["state"]) == ("end", "completed")


def test_a_reader_that_comes_back_with_its_cursor_misses_and_repeats_nothing(optio: Dev, gate: Path) -> None:
    run_id = started(optio, waiting_task(optio, "Resumed", gate))
    url = f"{optio.url.replace('http', 'ws')}/ws/workflow-runs/{run_id}/logs"
    with connect(url, open_timeout=20, additional_headers=optio.credentials) as socket:
        _, cursor = (json.loads(socket.recv(timeout=20))["seq"] for _ in range(2))
    gate.touch()
    optio.until_ended(run_id)

    with connect(f"{url}?after={cursor}", open_timeout=20, additional_headers=optio.credentials) as socket:
        texts = [json.loads(message).get("text") for message in socket]

    assert texts == ["over", None]


def test_what_a_run_is_given_is_fixed_when_it_is_created(optio: Dev, gate: Path) -> None:
    """Runs that wait keep the definition that they were created with."""
    task = waiting_task(optio, "Fixed", gate, "maxConcurrent: 1\n", after="cat")
    first, second = started(optio, task), started(optio, task)
    eventually(lambda: optio.get(f"/api/workflow-runs/{first}").json["state"] == "running", what="the first run")
    before = optio.until_served(task)["digest"]

    optio.write("fixed.yaml", (optio.tasks / "fixed.yaml").read_text().replace('"x"', '"changed"'))
    optio.until_served(task, digest_other_than=before)
    gate.touch()

    assert optio.until_ended(second)["prompt"] == "x"
    assert optio.until_ended(started(optio, task))["prompt"] == "changed"
