"""Effects on a task's existence: added, removed, renamed, enabled, disabled, or given to another owner."""

from collections.abc import Iterator

from optio.model.effect import EffectKind, EffectWeight
from optio.model.money import max_run_usd
from optio.model.registry import CompiledTask
from optio.plan.effect import Effect, value_change
from optio.plan.words import amount, brief, shorten_pair


def effects(before: CompiledTask | None, after: CompiledTask | None) -> Iterator[Effect]:
    """Yield these effects for one pair; a removed task has no others."""
    if before is None and after is not None:
        yield _task_added(after)
    if after is None and before is not None:
        text = "its triggers end and its id answers 404; queued and running runs go on"
        yield Effect(kind=EffectKind.TASK_REMOVED, text=text, weight=EffectWeight.DANGER, before=before.id)
    if before is not None and after is not None:
        yield from _identity_changes(before, after)


def _task_added(task: CompiledTask) -> Effect:
    spec = task.spec
    agent = spec.agent_runtime if spec.model is None else f"{spec.agent_runtime}, {brief(spec.model)}"
    cost = max_run_usd(spec)
    spend_text = "without a budget" if cost is None else f"at most {amount(cost)} a run"
    lines = () if spec.enabled else ("`enabled: false`: no trigger starts it yet",)
    return Effect(kind=EffectKind.TASK_ADDED, text=f"{agent}, {spend_text}", after=task.id, lines=lines, route=("name",))


def _identity_changes(before: CompiledTask, after: CompiledTask) -> Iterator[Effect]:
    if before.id != after.id:
        yield Effect(
            kind=EffectKind.TASK_RENAMED,
            text=f"{before.id} -> {after.id}: starts by the old id answer 404; its runs and a pause stay with that id",
            weight=EffectWeight.DANGER,
            before=before.id,
            after=after.id,
            route=("id",) if after.spec.id is not None else ("name",),
        )
    elif before.spec.name != after.spec.name:
        was, now = shorten_pair(before.spec.name, after.spec.name)
        yield value_change(EffectKind.NAME_CHANGED, "name", was, now, ("name",), EffectWeight.INFO)
    if before.spec.owner != after.spec.owner:
        was, now = shorten_pair(*(spec.owner or "nobody" for spec in (before.spec, after.spec)))
        yield value_change(EffectKind.OWNER_CHANGED, "owner", was, now, ("owner",))
    if before.spec.enabled != after.spec.enabled:
        yield _enabled_changed(after)


def _enabled_changed(after: CompiledTask) -> Effect:
    is_enabled = after.spec.enabled
    kind = EffectKind.TASK_ENABLED if is_enabled else EffectKind.TASK_DISABLED
    if after.spec.schedule is None and after.spec.webhook is None:
        text = "it has no schedule and no webhook: people start it as before"
        return Effect(kind=kind, text=text, weight=EffectWeight.INFO, route=("enabled",))
    text = "its triggers start it again" if is_enabled else "no trigger starts it now"
    return Effect(kind=kind, text=text, route=("enabled",))
