"""A plan as JSON, for programs.

summary   {text, tasks: {added, changed, renamed, removed, broken, mended}, effects: {danger, notice, info},
           worstCase: {before, after: {dayUsd, monthUsd, unbounded: {id: the key that it lacks}}}}
from, to  the time that was simulated
policy    effects of `_policy.yaml`, and money beyond its limits
tasks     [{id, idBefore, status, path, pathBefore, digest, digestBefore, effects, expected}]
cosmetic  ids of tasks whose file differs and that do the same
an effect is {kind, weight, text, before, after, lines, diff, pointer}
"""

from typing import Any

from optio.model.effect import EffectWeight
from optio.model.route import pointer
from optio.plan.compare import DisplayPath, Plan, Status, TaskChange
from optio.plan.effect import Effect
from optio.plan.money import TotalSpend
from optio.plan.words import utc_time


def plan_document(plan: Plan, display_path: DisplayPath) -> dict[str, Any]:
    """Return the plan as the JSON object described above. `seen` gives the paths to show."""
    return {
        "summary": {
            "text": plan.summary,
            "tasks": {status.value: sum(change.status is status for change in plan.changes) for status in Status},
            "effects": {weight.value: sum(change.weight is weight for change in plan.effects) for weight in EffectWeight},
            "worstCase": {"before": _total_document(plan.before), "after": _total_document(plan.after)},
        },
        "from": utc_time(plan.outlook.now),
        "to": utc_time(plan.outlook.until),
        "policy": [effect_document(change) for change in plan.policy],
        "tasks": [_change_document(change, display_path) for change in plan.changes],
        "cosmetic": [task.id for task in plan.cosmetic],
    }


def _change_document(change: TaskChange, display_path: DisplayPath) -> dict[str, Any]:
    before, after = change.before, change.after
    return {
        "id": change.task.id,
        "idBefore": None if before is None else before.id,
        "status": change.status.value,
        "path": None if change.status is Status.REMOVED else change.path(display_path),
        "pathBefore": None if before is None else display_path(before.origin.path, gone=True),
        "digest": None if after is None else after.digest,
        "digestBefore": None if before is None else before.digest,
        "effects": [effect_document(effect) for effect in change.effects],
        "expected": change.expected,
    }


def effect_document(value: Effect) -> dict[str, Any]:
    """Return one effect as a JSON object; `pointer` is the JSON pointer of the key in the task file."""
    return {
        "kind": value.kind.value,
        "weight": value.weight.value,
        "text": value.text,
        "before": value.before,
        "after": value.after,
        "lines": list(value.lines),
        "diff": list(value.diff),
        "pointer": pointer(value.route),
    }


def _total_document(value: TotalSpend) -> dict[str, Any]:
    return {
        "dayUsd": f"{value.day:f}",
        "monthUsd": f"{value.month:f}",
        "unbounded": dict(sorted(value.lacking.items())),
    }
