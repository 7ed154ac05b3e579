"""Schedules: which slots are due, what the policies make of them, and when the next one is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from optio.errors import Invalid
from optio.model import cron
from optio.model.registry import CompiledTask
from optio.model.trigger import ScheduleConfig
from optio.runs.submit import prepare
from optio.store.base import Firing, NewRun, ScheduleRow, SlotVerdict

# A slot is missed, not late, when nobody looked for this long.
MISSED_AFTER = timedelta(seconds=60)
# Missed slots that get a row of their own; more are only counted.
MOST_VERDICTS = 1000


@dataclass(frozen=True, slots=True)
class Changes:
    """What must change in the kept schedules."""

    put: list[ScheduleRow]
    drop: list[str]


def fingerprint(config: ScheduleConfig) -> str:
    """Two configurations with one fingerprint have the same slots."""
    return f"{cron.expand(config.cron_expression)} {config.timezone}"


def reconcile(tasks: Mapping[str, CompiledTask], kept: Mapping[str, ScheduleRow], now: datetime) -> Changes:
    """A new or changed schedule begins now: slots before it are nobody's. An unchanged one keeps what it has missed."""
    put = []
    wanted = {}
    for task in tasks.values():
        trigger = task.spec.schedule
        if trigger is None or not trigger.enabled or not task.spec.enabled:
            continue
        mark = fingerprint(trigger.config)
        wanted[task.id] = mark
        row = kept.get(task.id)
        if row is None or row.fingerprint != mark:
            first = cron.next_fire(trigger.config.cron_expression, trigger.config.timezone, now)
            put.append(ScheduleRow(task_id=task.id, fingerprint=mark, next_fire=first))
    return Changes(put, [task_id for task_id in kept if task_id not in wanted])


def firing(task: CompiledTask, due: datetime, now: datetime, new_id: Callable[[], str]) -> tuple[Firing, str | None]:
    """What the slots from `due` to `now` come to, and a sentence when a slot could not start a run."""
    trigger = task.spec.schedule
    if trigger is None:
        return Firing(task_id=task.id, digest=task.digest, verdicts=(), runs=(), next_fire=None), None
    config = trigger.config
    most = MOST_VERDICTS if now - due > MISSED_AFTER else 100
    slots = cron.last_fires(config.cron_expression, config.timezone, now, due - timedelta(seconds=1), most)
    chosen = set(_chosen(config, slots, now))
    verdicts, runs, problem = [], [], None
    for slot in slots:
        run: NewRun | None = None
        verdict = "fired" if slot in chosen else "missed"
        if slot in chosen:
            try:
                run = _run(task, config.param_mapping, slot, new_id())
            except Invalid as err:
                verdict, problem = "invalid", f"schedule of `{task.id}` at {slot.isoformat()}: {err}"
        verdicts.append(SlotVerdict(slot=slot, verdict=verdict))
        if run is not None:
            runs.append(run)
    following = cron.next_fire(config.cron_expression, config.timezone, now)
    plan = Firing(task_id=task.id, verdicts=verdicts, runs=runs, next_fire=following, unless_active=config.overlap == "skip")
    return plan, problem


def _chosen(config: ScheduleConfig, slots: list[datetime], now: datetime) -> list[datetime]:
    """The slots that start a run: those in time, and of the missed ones what `misfire` says."""
    missed = [slot for slot in slots if now - slot > MISSED_AFTER]
    in_time = slots[len(missed) :]
    if config.misfire == "skip":
        return in_time
    if config.misfire == "all":
        return (missed + in_time)[-max(config.max_catch_up, len(in_time)) :]
    return in_time or missed[-1:]


def _run(task: CompiledTask, mapping: Mapping[str, Any], slot: datetime, new_id: str) -> NewRun:
    values = {name: _literal(value) for name, value in mapping.items()}
    return prepare(task, values, new_id=new_id, trigger="schedule", actor="scheduler", slot=slot.astimezone(UTC))


def _literal(value: Any) -> Any:
    """`{literal: X}` is X, as in a webhook's mapping."""
    return value["literal"] if isinstance(value, dict) and set(value) == {"literal"} else value
