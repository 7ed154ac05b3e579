"""Retries: failed runs are tried again, once unless the task says otherwise, first after 5 seconds, then exponentially."""

from datetime import datetime
from typing import Any

from tests.support import Dev, eventually


def only_run(optio: Dev, task: str) -> dict[str, Any]:
    (run,) = optio.get(f"/api/tasks/{task}/runs").json["items"]
    details: dict[str, Any] = optio.get(f"/api/workflow-runs/{run['id']}").json
    return details


def delays(run: dict[str, Any]) -> list[float]:
    """Seconds between each failed attempt's end and the next one's start."""
    ends = [datetime.fromisoformat(attempt["endedAt"]) for attempt in run["attempts"] if attempt["endedAt"]]
    starts = [datetime.fromisoformat(attempt["startedAt"]) for attempt in run["attempts"]]
    return [(start - end).total_seconds() for end, start in zip(ends, starts[1:], strict=False)]


def test_a_failed_run_is_retried_once_by_default_after_5_seconds(optio: Dev) -> None:
    run = optio.until_ended(only_run(optio, "flaky")["id"], within=40)

    assert (run["state"], run["attempt"], run["maxRetries"]) == ("failed", 2, 1)
    assert delays(run)[0] >= 5
    assert [event["to"] for event in run["events"]] == ["queued", "running", "queued", "running", "failed"]


def test_a_failed_run_is_retried_as_often_as_the_task_says_with_doubled_delays(optio: Dev) -> None:
    def third_attempt() -> dict[str, Any] | None:
        run = only_run(optio, "stubborn")
        return run if len(run["attempts"]) == 3 and run["attempts"][2]["endedAt"] else None

    run = eventually(third_attempt, within=60, what="the third attempt")

    first, second = delays(run)
    failed, due = (datetime.fromisoformat(moment) for moment in (run["attempts"][2]["endedAt"], run["nextAttemptAt"]))
    optio.post(f"/api/workflow-runs/{run['id']}/cancel")
    assert first >= 5
    assert second >= 10
    assert 20 <= (due - failed).total_seconds() <= 25.1
