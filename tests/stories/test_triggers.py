"""Triggers: by hand, by the clock."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.stories.conftest import echo_task, started
from tests.support import SEED, Dev, eventually

SCHEDULE = {"type": "schedule", "config": {"cronExpression": "0 9 * * 1", "paramMapping": {"REPO_NAME": "optio"}}}
WEBHOOK = {"type": "webhook", "config": {"path": "one-of-each", "unsigned": True, "paramMapping": {"REPO_NAME": "$.r"}}}
MANUAL = {"type": "manual"}


def test_a_task_has_at_most_one_trigger_of_each_type(optio: Dev) -> None:
    optio.post("/api/tasks", {**SEED, "name": "One Of Each"})
    url = "/api/tasks/one-of-each/triggers"

    first = [optio.post(url, trigger).status for trigger in (MANUAL, SCHEDULE, WEBHOOK)]
    second = [optio.post(url, trigger).status for trigger in (MANUAL, SCHEDULE, WEBHOOK)]

    assert first == [201, 201, 201]
    assert second == [409, 409, 409]
    assert sorted(trigger["type"] for trigger in optio.get(url).json["items"]) == ["manual", "schedule", "webhook"]


def test_two_triggers_of_one_type_in_a_file_are_an_error(optio: Dev) -> None:
    optio.write(
        "twice.yaml",
        'type: standalone\nname: Twice\nagentRuntime: command\ncommand: ["true"]\npromptTemplate: "x"\n'
        "triggers:\n  - type: manual\n  - type: manual\n",
    )

    def look() -> list[str]:
        found = optio.get("/api/diagnostics").json["diagnostics"]
        return [d["message"] for d in found if d["path"] == "twice.yaml" and d["severity"] == "error"]

    assert eventually(look, what="a diagnostic")
    assert optio.get("/api/tasks/twice").status == 404
    (optio.tasks / "twice.yaml").unlink()


def test_a_manual_run_takes_its_parameters_from_the_body(optio: Dev) -> None:
    task = echo_task(optio, "By Hand", "{{REPO_NAME}}: {{FOCUS_AREAS}}")

    run = optio.until_ended(started(optio, task, {"REPO_NAME": "optio", "FOCUS_AREAS": "CVEs, outdated packages"}))

    assert (run["trigger"], run["output"]) == ("manual", "optio: CVEs, outdated packages")


@pytest.mark.parametrize("body", [None, {}, {"params": None}, {"params": {}}])
def test_a_manual_run_needs_no_parameters(optio: Dev, body: dict[str, object] | None) -> None:
    task = echo_task(optio, "Plain", "as it is")

    answer = optio.post(f"/api/tasks/{task}/runs", body)

    assert answer.status == 202
    assert optio.until_ended(answer.json["runId"])["output"] == "as it is"


def test_a_schedule_trigger_is_created_by_the_documents_body(optio: Dev) -> None:
    optio.post("/api/tasks", {**SEED, "name": "Scheduled"})

    answer = optio.post("/api/tasks/scheduled/triggers", SCHEDULE)

    (trigger,) = optio.get("/api/tasks/scheduled/triggers").json["items"]
    assert answer.status == 201, answer.body
    assert trigger["config"]["cronExpression"] == "0 9 * * 1"
    assert trigger["config"]["paramMapping"] == {"REPO_NAME": "optio"}


def test_a_due_schedule_starts_a_run_with_its_mapped_parameters(tmp_path: Path) -> None:
    """The clock cannot be waited for: what is kept of the next time is set back while nothing runs."""
    dev = Dev(tmp_path)
    dev.write(
        "monday.yaml",
        'type: standalone\nname: Monday\nagentRuntime: command\ncommand: ["/bin/cat"]\npromptTemplate: "{{REPO_NAME}}"\n'
        'triggers:\n  - type: schedule\n    config: {cronExpression: "0 9 * * 1", paramMapping: {REPO_NAME: optio}}\n',
    )
    dev.start()
    database = dev.data / "optio.db"
    due = eventually(lambda: kept(database), what="the schedule being kept")
    dev.stop()
    set_back(database, due - 7 * 24 * 3600 * 10**6)

    dev.start()
    try:
        (run,) = eventually(lambda: dev.get("/api/tasks/monday/runs?state=completed").json["items"], what="the run")
        details = dev.get(f"/api/workflow-runs/{run['id']}").json
    finally:
        dev.stop()

    slot = datetime.fromisoformat(run["slot"])
    assert (details["trigger"], details["output"]) == ("schedule", "optio")
    assert (slot.isoweekday(), slot.hour, slot.minute) == (1, 9, 0)
    assert slot <= datetime.now(UTC) < slot + timedelta(days=7)


def kept(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        row = connection.execute("SELECT next_fire FROM schedules WHERE task_id = 'monday'").fetchone()
    connection.close()
    return int(row[0]) if row else 0


def set_back(database: Path, moment: int) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE schedules SET next_fire = ? WHERE task_id = 'monday'", (moment,))
    connection.close()
