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
# Slots of one look that get a row of their own; what is older is only noted as missed.
MOST_VERDICTS = 1000


@dataclass(frozen=True, slots=True)
class Changes:
    """What must change in the kept schedules; `broken` has the tasks whose schedule cannot be used here, and why."""

    put: list[ScheduleRow]
    drop: list[str]
    broken: Mapping[str, Exception]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due of one schedule, and sentences for the operator about what went wrong with it."""

    firing: Firing
    notes: tuple[str, ...] = ()


def fingerprint(config: ScheduleConfig) -> str:
    """Two configurations with one fingerprint have the same slots."""
    return f"{cron.expand(config.cron_expression)} {config.timezone}"


def reconcile(
    tasks: Mapping[str, CompiledTask], kept: Mapping[str, ScheduleRow], now: datetime, *, clock_set_back: bool = False
) -> Changes:
    """A new or changed schedule begins now: slots before it are nobody's. An unchanged one keeps what it has missed.

    With `clock_set_back`, next slots that were computed from a time ahead are brought back; a slot that has fired stays fired.
    """
    put: list[ScheduleRow] = []
    wanted: dict[str, str] = {}
    broken: dict[str, Exception] = {}
    for task in tasks.values():
        trigger = task.spec.schedule
        if trigger is None or not trigger.enabled or not task.spec.enabled:
            continue
        mark = fingerprint(trigger.config)
        wanted[task.id] = mark
        row = kept.get(task.id)
        same = row is not None and row.fingerprint == mark
        if same and not clock_set_back:
            continue
        try:
            first = cron.next_fire(trigger.config.cron_expression, trigger.config.timezone, now)
        except Exception as err:
            # Another version of Optio, or of the zones, compiled it: the other schedules go on.
            broken[task.id] = err
            continue
        if not same or _before(first, row):
            put.append(ScheduleRow(task_id=task.id, fingerprint=mark, next_fire=first))
    return Changes(put, [task_id for task_id in kept if task_id not in wanted], broken)


def _before(first: datetime | None, row: ScheduleRow | None) -> bool:
    if first is None or row is None:
        return False
    return row.next_fire is None or first < row.next_fire


def plan(task: CompiledTask, due: datetime, now: datetime, new_id: Callable[[], str]) -> Plan:
    """What the slots from `due` to `now` come to."""
    trigger = task.spec.schedule
    if trigger is None:
        return Plan(Firing(task_id=task.id, digest=task.digest, verdicts=(), runs=(), next_fire=None))
    config = trigger.config
    slots, following = _slots(config, due, now)
    chosen = set(_chosen(config, slots, now))
    verdicts, runs, notes = [], [], []
    missed = len(slots) - len(chosen)
    if missed:
        more = "at least " if len(slots) == MOST_VERDICTS else ""
        notes.append(f"schedule of `{task.id}`: {more}{missed} slots were missed since {due.isoformat()}")
    for slot in slots:
        run: NewRun | None = None
        verdict = "fired" if slot in chosen else "missed"
        if slot in chosen:
            try:
                run = _run(task, config.param_mapping, slot, new_id())
            except Invalid as err:
                verdict = "invalid"
                faults = "".join(f"; {problem.pointer} {problem.message}" for problem in err.problems)
                notes.append(f"schedule of `{task.id}` at {slot.isoformat()} starts nothing: {err}{faults}")
        verdicts.append(SlotVerdict(slot=slot, verdict=verdict))
        if run is not None:
            runs.append(run)
    firing = Firing(
        task_id=task.id,
        digest=task.digest,
        verdicts=verdicts,
        runs=runs,
        next_fire=following,
        unless_active=config.overlap == "skip",
    )
    return Plan(firing, tuple(notes))


def _slots(config: ScheduleConfig, due: datetime, now: datetime) -> tuple[list[datetime], datetime | None]:
    """The last MOST_VERDICTS slots in [due, now], oldest first, and the slot after them."""
    # The walk gives what is later than its start, and slots are whole minutes: `due` itself is in, no earlier one is.
    since = due - timedelta(seconds=1)
    found: list[datetime] = []
    for slot in cron.fires(config.cron_expression, config.timezone, since):
        if slot > now:
            return found, slot
        found.append(slot)
        if len(found) > MOST_VERDICTS:
            break
    else:
        return found, None
    found = cron.last_fires(config.cron_expression, config.timezone, now, since, MOST_VERDICTS)
    return found, cron.next_fire(config.cron_expression, config.timezone, now)


def _chosen(config: ScheduleConfig, slots: list[datetime], now: datetime) -> list[datetime]:
    """The slots that start a run: those in time, and of the missed ones what `misfire` says."""
    missed = [slot for slot in slots if now - slot > MISSED_AFTER]
    in_time = slots[len(missed) :]
    if config.misfire == "skip":
        return in_time
    if config.misfire == "all":
        return (missed + in_time)[-max(config.max_catch_up, len(in_time)) :]
    return in_time or missed[-1:]


def _run(task: CompiledTask, values: Mapping[str, Any], slot: datetime, new_id: str) -> NewRun:
    return prepare(task, values, new_id=new_id, trigger="schedule", actor="scheduler", slot=slot.astimezone(UTC))
