"""Decisions about schedules: which slots are due, what the policies make of them, and when the next slot is. Pure:
`processes.scheduler` keeps the time and commits the results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from optio.errors import Invalid
from optio.model.registry import CompiledTask
from optio.model.trigger import ScheduleConfig
from optio.runs.submit import prepare_run
from optio.scheduling import cron
from optio.store.values import ClosedSchedule, Firing, NewRun, ScheduleRow, SkippedSlots, SlotOutcome, SlotVerdict

# A slot counts as missed, not late, if no scheduler processed it for so long.
MISSED_AFTER = timedelta(seconds=60)
_MOMENT = timedelta(seconds=1)
# Slots of one step that get a row of their own; older ones are stored as one row with a count.
MAX_VERDICTS = 1000
SUPERSEDED: Final = "superseded"


@dataclass(frozen=True, slots=True)
class ScheduleChanges:
    """The changes to stored schedules. `broken` maps tasks whose schedule cannot be used to the error. `closings` are the
    unprocessed slots of schedules that end."""

    put: list[ScheduleRow]
    drop: list[str]
    broken: Mapping[str, Exception]
    closings: list[ClosedSchedule]


@dataclass(frozen=True, slots=True)
class ScheduleStep:
    """The due slots of one schedule as a firing to commit, with notes for the operator about slots that went wrong."""

    firing: Firing
    notes: tuple[str, ...] = ()


def fingerprint(config: ScheduleConfig) -> str:
    """Return a text that is equal for two configurations if they have the same slots: the expanded expression and the zone."""
    return f"{cron.expand(config.cron_expression)} {config.timezone}"


def expression_of(mark: str) -> tuple[str, str]:
    """Return the cron expression and the zone of a fingerprint."""
    expression, _, zone = mark.rpartition(" ")
    return expression, zone


def mark_of(task: CompiledTask) -> str | None:
    """Return the fingerprint of the schedule that may start this task, or None if there is none or it is disabled."""
    trigger = task.spec.schedule
    return fingerprint(trigger.config) if trigger is not None and trigger.enabled and task.spec.enabled else None


def reconcile(
    tasks: Mapping[str, CompiledTask], rows: Mapping[str, ScheduleRow], now: datetime, *, clock_set_back: bool = False
) -> ScheduleChanges:
    """Return the changes that bring stored schedules in line with the served tasks. A new or changed schedule begins now, so
    earlier slots are not made up. An unchanged one keeps the slots that it has missed.

    With `clock_set_back`, next slots that were computed from a time ahead are brought back; a slot that has fired stays fired.
    """
    new_rows: list[ScheduleRow] = []
    closings: list[ClosedSchedule] = []
    digests: dict[str, str] = {}
    errors: dict[str, Exception] = {}
    for task in tasks.values():
        mark = mark_of(task)
        if mark is None:
            continue
        digests[task.id] = mark
        row = rows.get(task.id)
        is_same = row is not None and row.fingerprint == mark
        if is_same and not clock_set_back:
            continue
        try:
            first = cron.next_fire(*expression_of(mark), now)
        except Exception as err:
            # Another version of Optio, or of the zones, compiled it: the other schedules go on.
            errors[task.id] = err
            continue
        if not is_same or _before(first, row):
            new_rows.append(ScheduleRow(task_id=task.id, fingerprint=mark, next_fire=first))
        if row is not None and not is_same:
            closings += _closing(row, now)
    drop = [task_id for task_id in rows if task_id not in digests]
    for task_id in drop:
        closings += _closing(rows[task_id], now)
    return ScheduleChanges(new_rows, drop, errors, closings)


def _before(first: datetime | None, row: ScheduleRow | None) -> bool:
    if first is None or row is None:
        return False
    return row.next_fire is None or first < row.next_fire


def _closing(row: ScheduleRow, end: datetime) -> list[ClosedSchedule]:
    """Return the remaining slots of a schedule that ends, from its next one on, as superseded."""
    if row.next_fire is None:
        return []
    try:
        due = _due_slots(*expression_of(row.fingerprint), row.next_fire, end, SUPERSEDED)
    except Exception:
        return []  # another version wrote it: its slots cannot be computed here
    verdicts = [SlotVerdict(slot=slot, verdict=SUPERSEDED) for slot in due.slots]
    return [ClosedSchedule(task_id=row.task_id, verdicts=verdicts, skipped=due.skipped)] if verdicts else []


def plan_step(
    task: CompiledTask, due: datetime, now: datetime, new_id: Callable[[], str], generation: int | None = None
) -> ScheduleStep:
    """Return the step of one schedule: verdicts and runs for the slots from `due` to `now`. `generation` is the one that `task`
    belongs to."""
    trigger = task.spec.schedule
    if trigger is None:
        return ScheduleStep(Firing(task_id=task.id, digest=task.digest, verdicts=(), runs=(), next_fire=None))
    config = trigger.config
    slots_due = _due_slots(config.cron_expression, config.timezone, due, now, "missed")
    slots = slots_due.slots
    slots_to_run = set(_slots_to_run(config, slots, now))
    verdicts, runs, notes = [], [], []
    missed = len(slots) - len(slots_to_run)
    if missed or slots_due.skipped is not None:
        number = f"{missed + slots_due.older:,}" if slots_due.older is not None else f"more than {missed:,}"
        notes.append(f"schedule of `{task.id}`: {number} slots were missed since {due.isoformat()}")
    for slot in slots:
        run: NewRun | None = None
        verdict: SlotOutcome = "fired" if slot in slots_to_run else "missed"
        if slot in slots_to_run:
            try:
                run = _run(task, config.param_mapping, slot, new_id(), generation)
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
        next_fire=slots_due.following,
        unless_active=config.overlap == "skip",
        skipped=slots_due.skipped,
    )
    return ScheduleStep(firing, tuple(notes))


@dataclass(frozen=True, slots=True)
class _DueSlots:
    """The last MAX_VERDICTS due slots, oldest first, with the slot after them and a summary of older ones."""

    slots: tuple[datetime, ...]
    following: datetime | None
    skipped: SkippedSlots | None = None

    @property
    def older(self) -> int | None:
        """Return the number of older slots, or None if they were not counted."""
        return 0 if self.skipped is None else self.skipped.count


@lru_cache(maxsize=64)
def _due_slots(expression: str, zone: str, due: datetime, now: datetime, verdict: SlotOutcome) -> _DueSlots:
    """Return the slots in [due, now]. Cached: many tasks have the same schedule, and computing its slots costs more than the
    rest of the step."""
    # `cron.fires` yields times after its start, and slots are whole minutes: this includes `due` and nothing earlier.
    since = due - _MOMENT
    found: list[datetime] = []
    for slot in cron.fires(expression, zone, since):
        if slot > now:
            return _DueSlots(tuple(found), slot)
        found.append(slot)
        if len(found) > MAX_VERDICTS:
            break
    else:
        return _DueSlots(tuple(found), None)
    slots = tuple(cron.last_fires(expression, zone, now, since, MAX_VERDICTS))
    before = slots[0] - _MOMENT
    (last,) = cron.last_fires(expression, zone, before, since, 1)
    skipped = SkippedSlots(first=found[0], last=last, count=cron.count_fires(expression, zone, since, before), verdict=verdict)
    return _DueSlots(slots, cron.next_fire(expression, zone, now), skipped)


def _slots_to_run(config: ScheduleConfig, slots: tuple[datetime, ...], now: datetime) -> tuple[datetime, ...]:
    """Return the slots that start a run: those in time, and of the missed ones those that `misfire` asks for."""
    missed = tuple(slot for slot in slots if now - slot > MISSED_AFTER)
    in_time = slots[len(missed) :]
    if config.misfire == "skip":
        return in_time
    if config.misfire == "all":
        return (missed + in_time)[-max(config.max_catch_up, len(in_time)) :]
    return in_time or missed[-1:]


def _run(task: CompiledTask, values: Mapping[str, Any], slot: datetime, new_id: str, generation: int | None) -> NewRun:
    slot = slot.astimezone(UTC)
    return prepare_run(task, values, new_id=new_id, trigger="schedule", actor="scheduler", slot=slot, generation=generation)
