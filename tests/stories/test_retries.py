"""Retries: failed runs are tried again, once unless the task says otherwise, first after 5 seconds, then exponentially."""

from datetime import datetime
from typing import Any

from tests.support import Dev


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
    run = optio.until_ended(only_run(optio, "stubborn")["id"], within=60)

    first, second = delays(run)
    assert (run["state"], run["attempt"], run["maxRetries"]) == ("failed", 3, 2)
    assert first >= 5
    assert second >= 10
