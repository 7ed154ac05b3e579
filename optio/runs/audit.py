"""The audit of triggers: each slot that was due and each delivery has one verdict, each run has one origin.

What was due follows from the generations as they were served, by the same cron as the scheduler's. Whatever is found and does
not follow, or follows and is not found, is unexplained; there must be none.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from typing import TypeVar

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

# Of one task so many slots are looked at, and so many deliveries and runs of all.
MAX_SLOTS = 100_000
MAX_ROWS = 1_000_000
# So many findings are told one by one; all are counted.
MAX_FINDINGS = 1000
_PAGE_ROWS = 20_000
_MOMENT = timedelta(seconds=1)
_BEGIN, _END = datetime(2000, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
Row = TypeVar("Row", AuditedDelivery, AuditedRun)
# What the audit says of slots that have no row, beside the verdicts that rows have.
PENDING, DISABLED = "pending", "disabled"


@dataclass(frozen=True, slots=True)
class Timetable:
    """What a definition says about the clock: the fingerprint of its schedule (None: it has none), and whether it is on."""

    mark: str | None
    on: bool = True


# A definition that is kept no longer, or that this version cannot read: whatever happened then is taken as it is.
UNKNOWN = Timetable("?")
_NONE = Timetable(None)


@dataclass(frozen=True, slots=True)
class TimetableSpan:
    """Generations in a row in which a task's timetable was one and the same: slots in (begin, end] are due by it."""

    first: int
    last: int
    begin: datetime
    end: datetime
    timetable: Timetable


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """Something unexplained: of a `slot`, a `delivery` or a `run`, and when it was due, received or made."""

    kind: str
    task_id: str
    id: str
    at: datetime
    message: str


@dataclass(slots=True)
class Tally:
    """How often each verdict was given to the slots and webhook requests of a task, and where its runs come from. Requests that
    were answered as an earlier delivery are `repeated` (its id) or `replayed` (its body under another id)."""

    slots: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """`findings` are the first of the `unexplained`; `notes` say where the audit could not look. Since `pending_since` slots
    wait for a scheduler."""

    since: datetime
    until: datetime
    tasks: dict[str, Tally] = field(default_factory=dict)
    findings: list[AuditFinding] = field(default_factory=list)
    unexplained: int = 0
    notes: list[str] = field(default_factory=list)
    pending_since: datetime | None = None

    def tally(self, task_id: str) -> Tally:
        """The task's, made when it is asked for."""
        return self.tasks.setdefault(task_id, Tally())

    def find(self, finding: AuditFinding) -> None:
        """Count it, and keep it if there is room."""
        self.unexplained += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


@dataclass(frozen=True, slots=True)
class _Horizon:
    """What is older may have been deleted by retention."""

    runs: datetime
    slots: datetime
    deliveries: datetime

    @classmethod
    def of(cls, keep: RetentionPolicy, now: datetime) -> "_Horizon":
        """By the settings."""
        never = datetime.min.replace(tzinfo=UTC)

        def before(span: timedelta | None) -> datetime:
            return never if span is None else now - max(span, DEDUPE_MEMORY)

        runs = never if keep.runs is None else now - keep.runs
        return cls(runs=runs, slots=before(keep.runs), deliveries=before(keep.deliveries or keep.runs))

    def span(self, report: "AuditReport") -> AuditSpan:
        """The report's time, for the store."""
        return AuditSpan(since=report.since, until=report.until, runs=self.runs, slots=self.slots, deliveries=self.deliveries)


def audit(store: AuditStore, *, since: datetime, task_id: str | None = None, keep: RetentionPolicy) -> AuditReport:
    """Everything from `since` to now, of one task or of all; raises NotFound for a task that there was none of."""
    # In this order: what happens while we look is then seen as done, or as not yet to be done, and never as left out.
    until = store.now()
    horizon = _Horizon.of(keep, until)
    report = AuditReport(since=max(since, horizon.slots), until=until)
    if since < horizon.slots:
        report.notes.append(f"what was before {horizon.slots:%Y-%m-%d %H:%M} UTC is kept no longer")
    seen = _timelines(store, report.since, task_id)
    if seen.begin is not None and seen.begin > report.since:
        report.notes.append(f"nothing was served before {seen.begin:%Y-%m-%d %H:%M:%S} UTC, as far as it is kept")
    kept = store.schedules()
    for each, stretches in sorted(seen.stretches.items()):
        _audit_slots(store, report, horizon, each, stretches, kept.get(each), seen.taken)
    _audit_deliveries(store, report, horizon, task_id)
    _count_refusals(store, report, task_id)
    _audit_runs(store, report, horizon, task_id)
    if task_id is not None and not seen.stretches and not report.tasks and not report.unexplained:
        raise NotFound("task", task_id, f"none was served since {report.since:%Y-%m-%d %H:%M} UTC")
    return report


# What was due


@dataclass(frozen=True, slots=True)
class _TaskHistory:
    """The stretches of each task, the newest generation that schedulers have taken up, and where the history begins."""

    stretches: Mapping[str, Sequence[TimetableSpan]]
    taken: int
    begin: datetime | None


def timetable(task: CompiledTask) -> Timetable:
    """What the scheduler makes of this definition; raises ValueError or KeyError for a schedule that nobody here can read."""
    trigger = task.spec.schedule
    if trigger is None:
        return _NONE
    mark = fingerprint(trigger.config)
    cron.next_fire(*expression_of(mark), _BEGIN)
    return Timetable(mark, trigger.enabled and task.spec.enabled)


def _timelines(store: AuditStore, since: datetime, task_id: str | None) -> _TaskHistory:
    known: dict[str, Timetable] = {}

    def look_up(digest: str) -> Timetable:
        if digest not in known:
            try:
                known[digest] = timetable(store.definition(digest))
            except (NotFound, ValueError, KeyError, OSError):
                known[digest] = UNKNOWN
        return known[digest]

    begin: datetime | None = None
    taken, untaken = 0, False

    def served() -> Iterator[GenerationRow]:
        nonlocal begin, taken, untaken
        after = 0
        while rows := store.generations(since=since, after=after):
            for row in rows:
                begin = row.activated_at if begin is None else begin
                untaken = untaken or row.scheduled_at is None
                taken = taken if untaken else row.id
                after = row.id
                yield row

    found = timetable_spans(served(), look_up, task_id)
    return _TaskHistory(found, taken, begin)


def timetable_spans(
    generations: Iterable[GenerationRow], look_up: Callable[[str], Timetable], task_id: str | None = None
) -> dict[str, list[TimetableSpan]]:
    """How the timetable of each task changed, from generations in their order. A clock that was set back between two of them
    ends the earlier ones when the later one begins."""
    times: list[tuple[int, datetime]] = []
    changes: dict[str, list[tuple[int, Timetable]]] = {}
    for place, row in enumerate(generations):
        times.append((row.id, row.activated_at))
        tasks = row.tasks if task_id is None else {key: row.tasks[key] for key in (task_id,) if key in row.tasks}
        for each, digest in tasks.items():
            _add_timetable(changes.setdefault(each, []), place, look_up(digest))
        for each in changes.keys() - tasks.keys():
            _add_timetable(changes[each], place, _NONE)
    ends = [_END] * (len(times) + 1)
    for place in range(len(times) - 1, -1, -1):
        ends[place] = min(ends[place + 1], times[place][1])
    found: dict[str, list[TimetableSpan]] = {}
    for each, own in changes.items():
        limits = [place for place, _ in own] + [len(times)]
        found[each] = [
            TimetableSpan(times[place][0], times[following - 1][0], times[place][1], ends[following], table)
            for (place, table), following in zip(own, limits[1:], strict=True)
        ]
    return found


def _add_timetable(own: list[tuple[int, Timetable]], place: int, table: Timetable) -> None:
    if not own or own[-1][1] != table:
        own.append((place, table))


def due_slots(own: Sequence[TimetableSpan], since: datetime, until: datetime) -> Iterator[tuple[datetime, TimetableSpan]]:
    """The slots in (since, until] with the stretch that they are due by, oldest first."""
    for stretch in own:
        if stretch.timetable.mark is None or stretch.timetable == UNKNOWN:
            continue
        for slot in _fires(stretch.timetable.mark, max(stretch.begin, since), min(stretch.end, until)):
            yield slot, stretch


@lru_cache(8)
def _fires(mark: str, after: datetime, until: datetime) -> Sequence[datetime]:
    """The first MOST_SLOTS slots in (after, until]. Many tasks have the same schedule since the same generation."""
    slots = takewhile(lambda slot: slot <= until, cron.fires(*expression_of(mark), after))
    return tuple(islice(slots, MAX_SLOTS))


# Slots


def _audit_slots(
    store: AuditStore,
    report: AuditReport,
    horizon: _Horizon,
    task_id: str,
    own: Sequence[TimetableSpan],
    kept: ScheduleRow | None,
    taken: int,
) -> None:
    if all(stretch.timetable.mark is None for stretch in own):
        return
    expected = list(islice(due_slots(own, report.since, report.until), MAX_SLOTS))
    until = report.until
    if len(expected) == MAX_SLOTS:
        until = expected[-1][0]
        report.notes.append(f"of `{task_id}` the first {MAX_SLOTS:,} slots were looked at, up to {until:%Y-%m-%d %H:%M} UTC")
    settled: dict[datetime, str] = {}
    rows: dict[datetime, AuditedSlot] = {}
    for each in _slots(store, task_id, report.since, until, horizon):
        if isinstance(each, AuditedSlot):
            rows[each.last] = each
        else:
            settled[each[0]] = each[1]
    ranges = store.audit_ranges(task_id, report.since, until)
    tally = report.tally(task_id).slots
    for slot, stretch in expected:
        verdict = settled.pop(slot, "")
        if verdict:
            tally[verdict] += 1
            continue
        row = rows.pop(slot, None)
        verdict, fault = _judge_slot(slot, stretch, row, ranges, kept, taken, horizon)
        if verdict == PENDING:
            report.pending_since = min(slot, report.pending_since or slot)
        if fault is None:
            tally[verdict] += 1
        else:
            report.find(AuditFinding(kind="slot", task_id=task_id, id=slot.isoformat(), at=slot, message=fault))
    left = {slot: (verdict, None) for slot, verdict in settled.items()} | {
        slot: (row.verdict, _run_fault(row, horizon)) for slot, row in rows.items()
    }
    for slot, (verdict, fault) in sorted(left.items()):
        if not _was_ever_due(own, slot):
            fault = f"{verdict}, but no schedule of the task has this time"
        if fault is None:
            tally[verdict] += 1
        else:
            report.find(AuditFinding(kind="slot", task_id=task_id, id=slot.isoformat(), at=slot, message=fault))


def _slots(
    store: AuditStore, task_id: str, after: datetime, until: datetime, horizon: _Horizon
) -> Iterator[tuple[datetime, str] | AuditedSlot]:
    while rows := store.audit_slots(task_id, after, until, horizon.runs, _PAGE_ROWS):
        yield from rows
        last = rows[-1]
        after = last.last if isinstance(last, AuditedSlot) else last[0]


def _judge_slot(
    slot: datetime,
    stretch: TimetableSpan,
    row: AuditedSlot | None,
    ranges: Sequence[AuditedSlot],
    kept: ScheduleRow | None,
    taken: int,
    horizon: _Horizon,
) -> tuple[str, str | None]:
    """What became of a slot that was due, and what is wrong with that."""
    if row is not None:
        return row.verdict, _run_fault(row, horizon)
    for skipped in ranges:
        if skipped.first <= slot <= skipped.last:
            return skipped.verdict, None
    if not stretch.timetable.on:
        return DISABLED, None
    if stretch.first > taken:
        return PENDING, None
    live = stretch.last >= taken and kept is not None and kept.fingerprint == stretch.timetable.mark
    if live and kept is not None and kept.next_fire is not None and kept.next_fire <= slot:
        return PENDING, None
    return "", "was due and has no verdict"


def _run_fault(row: AuditedSlot, horizon: _Horizon) -> str | None:
    if row.verdict != "fired":
        return None
    if row.run_id is None:
        return "fired, but names no run"
    if not row.run_is_there:
        return None if row.at < horizon.runs else f"fired, but its run {row.run_id} is gone"
    return None if row.run_is_its else f"fired, but run {row.run_id} is not of this slot"


def _was_ever_due(own: Sequence[TimetableSpan], slot: datetime) -> bool:
    """Whether the task has had a schedule with this slot. When exactly is another matter: an edit may come just before the
    slot is committed, and the clock may have been wrong."""
    for stretch in own:
        if stretch.timetable == UNKNOWN:
            return True
        mark = stretch.timetable.mark
        if mark is not None and cron.next_fire(*expression_of(mark), slot - _MOMENT) == slot:
            return True
    return False


# Deliveries and runs


def _audit_deliveries(store: AuditStore, report: AuditReport, horizon: _Horizon, task_id: str | None) -> None:
    span = horizon.span(report)
    first = store.first_delivery(report.since)
    if first is None:
        return

    def page_before(before: int) -> AuditPage[AuditedDelivery] | None:
        return store.audit_deliveries(span, first=first, task_id=task_id, before=before, limit=_PAGE_ROWS)

    for page in _pages(report, page_before, "deliveries"):
        for (each, verdict), count in page.counts.items():
            report.tally(each).deliveries[verdict] += count
        for row in page.doubtful:
            fault = _delivery_fault(row, horizon)
            if fault is None:
                report.tally(row.task_id).deliveries[row.verdict] += 1
            else:
                report.find(AuditFinding(kind="delivery", task_id=row.task_id, id=row.id, at=row.received_at, message=fault))
    for (each, word), count in store.audit_repeats(span, task_id=task_id).items():
        report.tally(each).deliveries[word] += count


def _count_refusals(store: AuditStore, report: AuditReport, task_id: str | None) -> None:
    """Requests that have no delivery: they were refused, and counted by the minute."""
    for each in store.refusals(since=report.since, until=report.until, task_id=task_id):
        report.tally(each.task_id).deliveries[each.verdict] += each.requests


def _delivery_fault(row: AuditedDelivery, horizon: _Horizon) -> str | None:
    if row.verdict == "accepted" and row.run_id is None:
        return "accepted, but names no run"
    if row.run_id is None:
        return None
    if not row.run_is_there:
        return None if row.received_at < horizon.runs else f"{row.verdict}, but its run {row.run_id} is gone"
    if row.verdict == "accepted" and not row.run_is_its:
        return f"accepted, but run {row.run_id} is not of this delivery"
    return None


def _audit_runs(store: AuditStore, report: AuditReport, horizon: _Horizon, task_id: str | None) -> None:
    span = horizon.span(report)
    for page in _pages(report, lambda before: store.audit_runs(span, task_id=task_id, before=before, limit=_PAGE_ROWS), "runs"):
        for (each, source), count in page.counts.items():
            report.tally(each).runs[source] += count
        for row in page.doubtful:
            fault = _run_origin_fault(row, horizon)
            if fault is None:
                report.tally(row.task_id).runs[origin(row)] += 1
            else:
                report.find(AuditFinding(kind="run", task_id=row.task_id, id=row.id, at=row.created_at, message=fault))


def origin(row: AuditedRun) -> str:
    """Where a run comes from: `manual`, `schedule`, `webhook`, or `replay` of a webhook's delivery."""
    return "replay" if row.trigger == "webhook" and (row.actor or "").startswith("replay:") else row.trigger


def _run_origin_fault(row: AuditedRun, horizon: _Horizon) -> str | None:
    if row.actor is None:
        return "nobody asked for it: its first event is missing"
    where = origin(row)
    if where == "schedule":
        if row.slot is None:
            return "started by schedule, but names no slot"
        there = row.slot_is_its or row.slot < horizon.slots
        return None if there else f"started by schedule, but its slot {row.slot:%Y-%m-%d %H:%M} UTC does not name it"
    if where == "manual":
        return None
    if row.delivery_id is None:
        return f"started by {where}, but names no delivery"
    if row.created_at < horizon.deliveries and not row.delivery_is_there:
        return None
    if not row.delivery_is_there:
        return f"started by {where}, but its delivery {row.delivery_id} is gone"
    # What is replayed may have had a run before.
    return None if where == "replay" or row.delivery_is_its else f"its delivery {row.delivery_id} does not name it"


def _pages(report: AuditReport, page: Callable[[int], AuditPage[Row] | None], what: str) -> Iterator[AuditPage[Row]]:
    """The pages that have rows of the report's time, newest first."""
    before, looked = 2**62, 0
    while (found := page(before)) is not None:
        yield found
        # By a whole page, for a clock may have been set between two rows.
        if found.latest <= report.since:
            return
        before, looked = found.last, looked + found.rows
        if looked >= MAX_ROWS:
            report.notes.append(f"the newest {looked:,} {what} were looked at, back to {found.last_at:%Y-%m-%d %H:%M} UTC")
            return
