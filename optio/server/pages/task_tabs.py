"""The parts of a task's page beside its overview: runs, who wrote its values, triggers, tests, and changes."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from optio.errors import Conflict
from optio.model.registry import CompiledTask
from optio.scheduling import cron
from optio.server.answers.generations import read_generation, read_generations
from optio.server.answers.task_details import read_origins, run_tests_of
from optio.server.dependencies import Hub
from optio.store.values import RunFilter, SlotFilter

Tab = Literal["overview", "runs", "definition", "triggers", "tests", "changes"]
TABS: tuple[Tab, ...] = ("overview", "runs", "definition", "triggers", "tests", "changes")
_RUNS, _SLOTS, _CHANGES = 50, 20, 10
_MAX_VALUE_LENGTH = 400
_MAX_ORIGINS = 1_000


def read_tab(
    hub: Hub, task: CompiledTask, tab: Tab, cursor: str | None, fires: Sequence[datetime], *, run: bool
) -> dict[str, Any]:
    """Return what a part of the page shows. `fires` are the next times of its schedule, and `run` asks for its tests."""
    if tab == "runs":
        runs = hub.services.store.runs(RunFilter(task_id=task.id), cursor=cursor, limit=_RUNS)
        return {"runs": runs.items, "next": runs.next}
    if tab == "definition":
        return _definition(hub, task)
    if tab == "triggers":
        return _triggers(hub, task, fires)
    if tab == "tests":
        return _tests(hub, task) if run else {"asked": False}
    if tab == "changes":
        found_changes = read_generations(hub, cursor, _CHANGES, task.id)
        return {
            "made": [read_generation(hub, str(generation.number), task.id) for generation in found_changes.items],
            "next": found_changes.next,
        }
    return {}


def _definition(hub: Hub, task: CompiledTask) -> dict[str, Any]:
    values = {"definition": json.dumps(task.document["spec"], indent=2, ensure_ascii=False)}
    try:
        origins = read_origins(hub, task).items
    except Conflict as err:
        return {**values, "origins": [], "left": 0, "problem": str(err)}
    rows = [(origin, _brief(origin.value)) for origin in origins[:_MAX_ORIGINS]]
    return {**values, "origins": rows, "left": len(origins) - len(rows), "problem": ""}


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}…"


def _triggers(hub: Hub, task: CompiledTask, fires: Sequence[datetime]) -> dict[str, Any]:
    schedule, webhook = task.spec.schedule, task.spec.webhook
    slots = hub.services.store.slots(task.id, SlotFilter(), limit=_SLOTS).items if schedule is not None else []
    return {
        "fires": fires,
        "words": None if schedule is None else cron.explain(schedule.config.cron_expression),
        "slots": slots,
        "hook": None if webhook is None else webhook.config,
        "mapping": _mapping(None if webhook is None else webhook.config.param_mapping),
        "constants": _mapping(None if schedule is None else schedule.config.param_mapping),
    }


def _mapping(value: Any) -> list[tuple[str, str]]:
    return [
        (name, expression if isinstance(expression, str) else json.dumps(expression, ensure_ascii=False))
        for name, expression in (value or {}).items()
    ]


def _tests(hub: Hub, task: CompiledTask) -> dict[str, Any]:
    try:
        return {"asked": True, "tests": run_tests_of(hub, task), "problem": ""}
    except Conflict as err:
        return {"asked": True, "tests": None, "problem": str(err)}
