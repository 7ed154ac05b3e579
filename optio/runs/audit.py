"""The audit of triggers, for `optio audit`: each slot that was due and each delivery must have one verdict, and each run one
origin.

What was due follows from the generations as they were served, by the same cron code as the scheduler's. Anything that is
recorded but does not follow, or follows but is not recorded, is an unexplained finding. A correct installation has none.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from typing import Literal, TypeVar

from optio.errors import NotFound
from optio.model.registry import CompiledTask
from optio.runs.schedule import expression_of, fingerprint
from optio.scheduling import cron
from optio.store.base import AuditStore
from optio.store.values import (
    DEDUPE_MEMORY,
    AuditedDelivery,
    AuditedRun,
    AuditedSlot,
    AuditPage,
    AuditSpan,
    GenerationRow,
    RetentionPolicy,
    ScheduleRow,
)

# At most so many slots of one task are audited, and so many deliveries and runs of all tasks.
MAX_SLOTS = 100_000
MAX_ROWS = 1_000_000
# Only so many findings are listed; all are counted.
MAX_FINDINGS = 1000
_PAGE_ROWS = 20_000
_MOMENT = timedelta(seconds=1)
_BEGIN, _END = datetime(2000, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
Row = TypeVar("Row", AuditedDelivery, AuditedRun)
# Verdicts of the audit on slots without a row, beside the verdicts that rows have.
PENDING, DISABLED = "pending", "disabled"


@dataclass(frozen=True, slots=True)
class Timetable:
    """A definition's schedule as the audit sees it: `mark` is the fingerprint of the schedule (None without one), and `on` says
    whether it is enabled."""

    mark: str | None
    on: bool = True


# A definition that retention has deleted, or that this version cannot read: its slots are accepted as they are recorded.
UNKNOWN = Timetable("?")
_NONE = Timetable(None)


@dataclass(frozen=True, slots=True)
class TimetableSpan:
    """Consecutive generations in which a task had the same timetable. Its slots in (begin, end] are due by that timetable;
    `first` and `last` are generation ids."""

    first: int
    last: int
    begin: datetime
    end: datetime
    timetable: Timetable


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """An unexplained `slot`, `delivery` or `run`. `at` is when the slot was due, the delivery received or the run created."""

    kind: str
    task_id: str
    id: str
    at: datetime
    message: str


AuditKind = Literal["slot", "delivery", "run"]
_COUNTERS: Mapping[AuditKind, str] = {"slot": "slots", "delivery": "deliveries", "run": "runs"}


@dataclass(slots=True)
class Tally:
    """Counts for one task: verdicts of its slots and webhook requests, and origins of its runs. Requests that were answered as
    an earlier delivery count as `repeated` (same id) or `replayed` (same body under another id)."""

    slots: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """The result of an audit. `findings` are the first of the `unexplained`; `notes` name periods that the audit could not
    check. Since `pending_since`, slots wait for a scheduler."""

    since: datetime
    until: datetime
    tasks: dict[str, Tally] = field(default_factory=dict)
    findings: list[AuditFinding] = field(default_factory=list)
    unexplained: int = 0
    notes: list[str] = field(default_factory=list)
    pending_since: datetime | None = None

    def tally(self, task_id: str) -> Tally:
        """Return the tally of a task, creating an empty one if there is none yet."""
        return self.tasks.setdefault(task_id, Tally())

    def judge(self, kind: AuditKind, task_id: str, row_id: str, at: datetime, word: str, fault: str | None) -> None:
        """Count a slot, delivery or run by its verdict or origin; one with a fault is a finding instead."""
        if fault is None:
            getattr(self.tally(task_id), _COUNTERS[kind])[word] += 1
            return
        self.unexplained += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(AuditFinding(kind=kind, task_id=task_id, id=row_id, at=at, message=fault))


def _period(keep: RetentionPolicy, since: datetime, now: datetime) -> AuditSpan:
    """Return the span from `since` to now, as far back as retention keeps slots. The absence of older rows proves nothing."""

    def before(span: timedelta | None, least: timedelta = timedelta(0)) -> datetime:
        return datetime.min.replace(tzinfo=UTC) if span is None else now - max(span, least)

    slots = before(keep.runs, DEDUPE_MEMORY)
    deliveries = before(keep.deliveries or keep.runs, DEDUPE_MEMORY)
    return AuditSpan(since=max(since, slots), until=now, runs=before(keep.runs), slots=slots, deliveries=deliveries)


def audit(store: AuditStore, *, since: datetime, task_id: str | None = None, keep: RetentionPolicy) -> AuditReport:
    """Audit everything from `since` to now, of one task or of all. Raises NotFound for a task of which nothing was served or
    recorded in that period."""
    # In this order, anything that happens during the audit is seen as done or as pending, and never as missing.
    period = _period(keep, since, store.now())
    report = AuditReport(since=period.since, until=period.until)
    if since < period.slots:
        report.notes.append(f"nothing before {period.slots:%Y-%m-%d %H:%M} UTC was audited: retention may have deleted it")
    timelines = _timelines(store, report.since, task_id)
    if timelines.begin is not None and timelines.begin > report.since:
        report.notes.append(
            f"schedules before {timelines.begin:%Y-%m-%d %H:%M:%S} UTC are unknown: no older generation is stored"
        )
    schedule_rows = store.schedules()
    for audited_id, stretches in sorted(timelines.stretches.items()):
        _audit_slots(store, report, period, audited_id, stretches, schedule_rows.get(audited_id), timelines.taken)
    _audit_deliveries(store, report, period, task_id)
    _count_refusals(store, report, task_id)
    _audit_runs(store, report, period, task_id)
    if task_id is not None and not timelines.stretches and not report.tasks and not report.unexplained:
        raise NotFound("task", task_id, f"none was served since {report.since:%Y-%m-%d %H:%M} UTC")
    return report


# What was due


@dataclass(frozen=True, slots=True)
class _TaskHistory:
    """The timetable spans of each task, the newest generation that schedulers have taken up, and the beginning of the kept
    history."""

    stretches: Mapping[str, Sequence[TimetableSpan]]
    taken: int
    begin: datetime | None


def timetable(task: CompiledTask) -> Timetable:
    """Return the timetable that the scheduler derives from this definition. Raises ValueError or KeyError for a schedule that
    this version cannot read."""
    trigger = task.spec.schedule
    if trigger is None:
        return _NONE
    mark = fingerprint(trigger.config)
    cron.next_fire(*expression_of(mark), _BEGIN)
    return Timetable(mark, trigger.enabled and task.spec.enabled)


def _timelines(store: AuditStore, since: datetime, task_id: str | None) -> _TaskHistory:
    timetables: dict[str, Timetable] = {}

    def look_up(digest: str) -> Timetable:
        if digest not in timetables:
            try:
                timetables[digest] = timetable(store.definition(digest))
            except (NotFound, ValueError, KeyError, OSError):
                timetables[digest] = UNKNOWN
        return timetables[digest]

    begin: datetime | None = None
    taken_id, untaken = 0, False

    def served() -> Iterator[GenerationRow]:
        nonlocal begin, taken_id, untaken
        after = 0
        while rows := store.generations(since=since, after=after):
            for row in rows:
                begin = row.activated_at if begin is None else begin
                untaken = untaken or row.scheduled_at is None
                taken_id = taken_id if untaken else row.id
                after = row.id
                yield row

    spans = timetable_spans(served(), look_up, task_id)
    return _TaskHistory(spans, taken_id, begin)


def timetable_spans(
    generations: Iterable[GenerationRow], look_up: Callable[[str], Timetable], task_id: str | None = None
) -> dict[str, list[TimetableSpan]]:
    """Return how the timetable of each task changed, given the generations in order. If the clock was set back between two
    generations, the earlier spans end where the later one begins."""
    times: list[tuple[int, datetime]] = []
    changes: dict[str, list[tuple[int, Timetable]]] = {}
    for place, row in enumerate(generations):
        times.append((row.id, row.activated_at))
        tasks = row.tasks if task_id is None else {key: row.tasks[key] for key in (task_id,) if key in row.tasks}
        for changed_id, digest in tasks.items():
            _add_timetable(changes.setdefault(changed_id, []), place, look_up(digest))
        for changed_id in changes.keys() - tasks.keys():
            _add_timetable(changes[changed_id], place, _NONE)
    ends = [_END] * (len(times) + 1)
    for place in range(len(times) - 1, -1, -1):
        ends[place] = min(ends[place + 1], times[place][1])
    spans: dict[str, list[TimetableSpan]] = {}
    for changed_id, changes_of_task in changes.items():
        limits = [place for place, _ in changes_of_task] + [len(times)]
        spans[changed_id] = [
            TimetableSpan(times[place][0], times[following - 1][0], times[place][1], ends[following], table)
            for (place, table), following in zip(changes_of_task, limits[1:], strict=True)
        ]
    return spans


def _add_timetable(changes: list[tuple[int, Timetable]], place: int, table: Timetable) -> None:
    if not changes or changes[-1][1] != table:
        changes.append((place, table))


def due_slots(spans: Sequence[TimetableSpan], since: datetime, until: datetime) -> Iterator[tuple[datetime, TimetableSpan]]:
    """Yield the slots in (since, until] with the span that makes them due, oldest first."""
    for stretch in spans:
        if stretch.timetable.mark is None or stretch.timetable == UNKNOWN:
            continue
        for slot in _fires(stretch.timetable.mark, max(stretch.begin, since), min(stretch.end, until)):
            yield slot, stretch


@lru_cache(8)
def _fires(mark: str, after: datetime, until: datetime) -> Sequence[datetime]:
    """Return the first MAX_SLOTS slots in (after, until]. Cached, because many tasks have the same schedule since the same
    generation."""
    slots = takewhile(lambda slot: slot <= until, cron.fires(*expression_of(mark), after))
    return tuple(islice(slots, MAX_SLOTS))


# Slots


def _audit_slots(
    store: AuditStore,
    report: AuditReport,
    period: AuditSpan,
    task_id: str,
    spans: Sequence[TimetableSpan],
    kept: ScheduleRow | None,
    taken_id: int,
) -> None:
    if all(stretch.timetable.mark is None for stretch in spans):
        return
    expected_slots = list(islice(due_slots(spans, report.since, report.until), MAX_SLOTS))
    until = report.until
    if len(expected_slots) == MAX_SLOTS:
        until = expected_slots[-1][0]
        report.notes.append(f"only the first {MAX_SLOTS:,} slots of `{task_id}` were audited, up to {until:%Y-%m-%d %H:%M} UTC")
    settled: dict[datetime, str] = {}
    rows: dict[datetime, AuditedSlot] = {}
    for audited in _slots(store, task_id, report.since, until, period):
        if isinstance(audited, AuditedSlot):
            rows[audited.last] = audited
        else:
            settled[audited[0]] = audited[1]
    ranges = store.audit_ranges(task_id, report.since, until)
    tally = report.tally(task_id).slots
    for slot, stretch in expected_slots:
        verdict = settled.pop(slot, "")
        if verdict:
            tally[verdict] += 1
            continue
        row = rows.pop(slot, None)
        verdict, fault = _judge_slot(slot, stretch, row, ranges, kept, taken_id, period)
        if verdict == PENDING:
            report.pending_since = min(slot, report.pending_since or slot)
        report.judge("slot", task_id, slot.isoformat(), slot, verdict, fault)
    rest = {slot: (verdict, None) for slot, verdict in settled.items()} | {
        slot: (row.verdict, _run_fault(row, period)) for slot, row in rows.items()
    }
    for slot, (verdict, fault) in sorted(rest.items()):
        if not _was_ever_due(spans, slot):
            fault = f"{verdict}, but no schedule of the task has this time"
        report.judge("slot", task_id, slot.isoformat(), slot, verdict, fault)


def _slots(
    store: AuditStore, task_id: str, after: datetime, until: datetime, period: AuditSpan
) -> Iterator[tuple[datetime, str] | AuditedSlot]:
    while rows := store.audit_slots(task_id, after, until, period.runs, _PAGE_ROWS):
        yield from rows
        last = rows[-1]
        after = last.last if isinstance(last, AuditedSlot) else last[0]


def _judge_slot(
    slot: datetime,
    stretch: TimetableSpan,
    row: AuditedSlot | None,
    ranges: Sequence[AuditedSlot],
    kept: ScheduleRow | None,
    taken_id: int,
    period: AuditSpan,
) -> tuple[str, str | None]:
    """Return the verdict of a slot that was due, and what is wrong with it, if anything."""
    if row is not None:
        return row.verdict, _run_fault(row, period)
    for skipped in ranges:
        if skipped.first <= slot <= skipped.last:
            return skipped.verdict, None
    if not stretch.timetable.on:
        return DISABLED, None
    if stretch.first > taken_id:
        return PENDING, None
    live = stretch.last >= taken_id and kept is not None and kept.fingerprint == stretch.timetable.mark
    if live and kept is not None and kept.next_fire is not None and kept.next_fire <= slot:
        return PENDING, None
    return "", "was due and has no verdict"


def _run_fault(row: AuditedSlot, period: AuditSpan) -> str | None:
    if row.verdict != "fired":
        return None
    if row.run_id is None:
        return "fired, but names no run"
    if not row.run_is_there:
        return None if row.at < period.runs else f"fired, but its run {row.run_id} is gone"
    return None if row.run_is_its else f"fired, but run {row.run_id} is not of this slot"


def _was_ever_due(spans: Sequence[TimetableSpan], slot: datetime) -> bool:
    """Return whether the task ever had a schedule with this slot. The exact time is not checked: an edit may precede the commit
    of the slot, and the clock may have been wrong."""
    for stretch in spans:
        if stretch.timetable == UNKNOWN:
            return True
        mark = stretch.timetable.mark
        if mark is not None and cron.next_fire(*expression_of(mark), slot - _MOMENT) == slot:
            return True
    return False


# Deliveries and runs


def _audit_deliveries(store: AuditStore, report: AuditReport, period: AuditSpan, task_id: str | None) -> None:
    first = store.first_delivery(report.since)
    if first is None:
        return

    def page_before(before: int) -> AuditPage[AuditedDelivery] | None:
        return store.audit_deliveries(period, first=first, task_id=task_id, before=before, limit=_PAGE_ROWS)

    for page in _pages(report, page_before, "deliveries"):
        for (audited_id, verdict), count in page.counts.items():
            report.tally(audited_id).deliveries[verdict] += count
        for row in page.doubtful:
            report.judge("delivery", row.task_id, row.id, row.received_at, row.verdict, _delivery_fault(row, period))
    for (audited_id, word), count in store.audit_repeats(period, task_id=task_id).items():
        report.tally(audited_id).deliveries[word] += count


def _count_refusals(store: AuditStore, report: AuditReport, task_id: str | None) -> None:
    """Count the requests that have no delivery, because they were refused and only counted by the minute."""
    for refusal in store.refusals(since=report.since, until=report.until, task_id=task_id):
        report.tally(refusal.task_id).deliveries[refusal.verdict] += refusal.requests


def _delivery_fault(row: AuditedDelivery, period: AuditSpan) -> str | None:
    if row.verdict == "accepted" and row.run_id is None:
        return "accepted, but names no run"
    if row.run_id is None:
        return None
    if not row.run_is_there:
        return None if row.received_at < period.runs else f"{row.verdict}, but its run {row.run_id} is gone"
    if row.verdict == "accepted" and not row.run_is_its:
        return f"accepted, but run {row.run_id} is not of this delivery"
    return None


def _audit_runs(store: AuditStore, report: AuditReport, period: AuditSpan, task_id: str | None) -> None:
    for page in _pages(
        report, lambda before: store.audit_runs(period, task_id=task_id, before=before, limit=_PAGE_ROWS), "runs"
    ):
        for (audited_id, source), count in page.counts.items():
            report.tally(audited_id).runs[source] += count
        for row in page.doubtful:
            report.judge("run", row.task_id, row.id, row.created_at, origin(row), _run_origin_fault(row, period))


def origin(row: AuditedRun) -> str:
    """Return the origin of a run: `manual`, `schedule`, `webhook`, or `replay` for a replayed delivery."""
    return "replay" if row.trigger == "webhook" and (row.actor or "").startswith("replay:") else row.trigger


def _run_origin_fault(row: AuditedRun, period: AuditSpan) -> str | None:
    if row.actor is None:
        return "its origin is unknown: its first event is missing"
    origin_text = origin(row)
    if origin_text == "schedule":
        if row.slot is None:
            return "started by schedule, but names no slot"
        is_there = row.slot_is_its or row.slot < period.slots
        return None if is_there else f"started by schedule, but its slot {row.slot:%Y-%m-%d %H:%M} UTC does not name it"
    if origin_text == "manual":
        return None
    if row.delivery_id is None:
        return f"started by {origin_text}, but names no delivery"
    if row.created_at < period.deliveries and not row.delivery_is_there:
        return None
    if not row.delivery_is_there:
        return f"started by {origin_text}, but its delivery {row.delivery_id} is gone"
    # A replayed delivery may have had a run before, which it names.
    return None if origin_text == "replay" or row.delivery_is_its else f"its delivery {row.delivery_id} does not name it"


def _pages(report: AuditReport, page: Callable[[int], AuditPage[Row] | None], noun: str) -> Iterator[AuditPage[Row]]:
    """Yield the pages with rows of the report's period, newest first, up to MAX_ROWS."""
    before, looked = 2**62, 0
    while (found := page(before)) is not None:
        yield found
        # Stop only after a whole page of older rows, because a clock may have been set between two rows.
        if found.latest <= report.since:
            return
        before, looked = found.last, looked + found.rows
        if looked >= MAX_ROWS:
            report.notes.append(f"only the newest {looked:,} {noun} were audited, back to {found.last_at:%Y-%m-%d %H:%M} UTC")
            return
