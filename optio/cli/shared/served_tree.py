"""Fetch the tasks that a server serves, and their recent runs, in the form that a plan reads."""

from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from optio.cli.shared.client import Client, ServerRefused, quoted
from optio.errors import SettingsError
from optio.model.registry import CompiledTask, Origin, Registry
from optio.model.task import TaskSpec
from optio.plan.effect import HORIZON
from optio.plan.history import RunHistory

# Keys that the API adds to a task, and to a trigger.
_SERVED_ONLY_KEYS = ("digest", "namespace", "origin", "stale", "held", "paused", "links")
_SERVED_ONLY_TRIGGER_KEYS = ("url", "unsigned")
_MAX_RUNS = 2_000
_INSTANT = timedelta(seconds=1)
_ACTIVE_STATES = ("queued", "running")


def fetch_registry(server: Client) -> Registry:
    """Return all tasks of the served generation. Raises ServerRefused, and SettingsError for tasks of an incompatible
    version."""
    answer = server.request("GET", "/api/tasks")
    tasks = [_task(item, server.base) for item in answer["items"]]
    return Registry.of({task.id: task for task in tasks})


def _task(item: dict[str, Any], place: str) -> CompiledTask:
    spec = {key: value for key, value in item.items() if key not in _SERVED_ONLY_KEYS}
    triggers = item["triggers"]
    spec["triggers"] = [{key: trigger[key] for key in trigger if key not in _SERVED_ONLY_TRIGGER_KEYS} for trigger in triggers]
    prompt = spec["promptTemplate"]
    if not prompt:
        del spec["promptTemplate"]
    try:
        task_spec = TaskSpec.of(spec)
    except ValueError as err:
        message = f"the task `{item['id']}` of {place} cannot be read: another version of Optio serves it"
        raise SettingsError(message) from err
    origin = Origin(**item["origin"])
    return CompiledTask(id=item["id"], spec=task_spec, prompt=prompt, origin=origin, namespace=item.get("namespace"))


def fetch_history(server: Client, task_id: str, now: datetime) -> RunHistory:
    """Return the task's runs of the last 30 days, or the newest `_MAX_RUNS` of them."""
    runs: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(runs) < _MAX_RUNS:
        try:
            page = server.request("GET", f"/api/tasks/{quoted(task_id)}/runs", query={"limit": 200, "cursor": cursor})
        except ServerRefused as err:
            if err.status != 404:  # the task has no runs and is not served
                raise
            break
        recent = [run for run in page["items"] if run["state"] in _ACTIVE_STATES or _at(run["createdAt"]) > now - HORIZON]
        runs += recent
        cursor = page["next"]
        if cursor is None or len(recent) < len(page["items"]):
            break
    lengths = [run["durationMs"] for run in runs if run["durationMs"] and run["state"] == "completed"]
    oldest = min((_at(run["createdAt"]) for run in runs), default=now)
    return RunHistory(
        triggered=Counter(run["trigger"] for run in runs),
        active=sum(run["state"] in _ACTIVE_STATES for run in runs),
        costs=tuple(
            Decimal(run["costUsd"]) for run in runs if run["costUsd"] is not None and run["state"] not in _ACTIVE_STATES
        ),
        shortest=timedelta(milliseconds=min(lengths)) if lengths else None,
        over=max(now - oldest, _INSTANT) if len(runs) >= _MAX_RUNS else HORIZON,
    )


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
