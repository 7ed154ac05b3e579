"""Schedules: the next slot of each schedule, and one verdict for every slot. The verdict's row is what makes a slot fire once,
whichever scheduler comes first."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from optio.errors import Conflict
from optio.model.run import Page
from optio.store.sql import runs
from optio.store.sql.group_commit import DiskUse
from optio.store.sql.records import cursor_after, cursor_seq, page_size
from optio.store.sql.rows import from_row
from optio.store.sql.transaction import BulkRows, Row, Transaction, optional_from_micros, to_micros
from optio.store.values import (
    EVERY_SLOT,
    ClosedSchedule,
    Firing,
    ScheduleRow,
    SkippedSlots,
    SlotCounts,
    SlotFilter,
    SlotRow,
    SlotVerdict,
)

# Nothing is inserted for a definition that is not served, nor for a slot that has a verdict: in a row of its own, or because
# the schedule has gone on to a later one.
_SLOT = """
INSERT INTO slots (task_id, slot, verdict, run_id, at)
SELECT t.task_id, :slot, :verdict, :run_id, :now FROM tasks t
WHERE t.task_id = :task_id AND t.digest = :digest AND NOT EXISTS (
    SELECT 1 FROM schedules s WHERE s.task_id = t.task_id AND COALESCE(s.next_fire > CAST(:slot AS BIGINT), TRUE)
)
ON CONFLICT (task_id, slot) DO NOTHING
"""
_SLOTS = """
INSERT INTO slots (task_id, slot, verdict, run_id, at)
SELECT t.task_id, lot.slot, lot.verdict, lot.run_id, :now FROM lot
JOIN tasks t ON t.task_id = lot.task_id AND t.digest = lot.digest
WHERE NOT EXISTS (SELECT 1 FROM schedules s WHERE s.task_id = t.task_id AND COALESCE(s.next_fire > lot.slot, TRUE))
ORDER BY t.task_id, lot.slot
ON CONFLICT (task_id, slot) DO NOTHING
"""
_SLOTS_OF = "task_id text, digest text, slot bigint, verdict text, run_id text"
_CLOSED = """
INSERT INTO slots (task_id, slot, verdict, run_id, at) VALUES (:task_id, :slot, :verdict, NULL, :now)
ON CONFLICT (task_id, slot) DO NOTHING
"""
_SKIPPED = """
INSERT INTO skipped_slots (task_id, first_slot, last_slot, slots, verdict, at)
VALUES (:task_id, :first, :last, :slots, :verdict, :now) ON CONFLICT (task_id, first_slot) DO NOTHING
"""
# Never backwards, because one of two schedulers may be far behind.
_NEXT = """
UPDATE schedules SET next_fire = lot.next FROM lot
WHERE schedules.task_id = lot.task_id AND schedules.next_fire < COALESCE(lot.next, schedules.next_fire + 1)
"""
_NEXT_OF = "task_id text, next bigint"
_INSERT = "INSERT INTO schedules (task_id, fingerprint, next_fire) VALUES (:task_id, :fingerprint, :next_fire) "
_PUT_NEW = _INSERT + "ON CONFLICT (task_id) DO NOTHING"
_PUT = _INSERT + "ON CONFLICT (task_id) DO UPDATE SET fingerprint = excluded.fingerprint, next_fire = excluded.next_fire"
_DROP = "DELETE FROM schedules WHERE task_id = :task_id"
_AS_SEEN = "task_id = :task_id AND fingerprint = :seen_fingerprint AND COALESCE(next_fire, -1) = :seen_next"
_PUT_SEEN = f"UPDATE schedules SET fingerprint = :fingerprint, next_fire = :next_fire WHERE {_AS_SEEN}"  # noqa: S608
_DROP_SEEN = f"DELETE FROM schedules WHERE {_AS_SEEN}"  # noqa: S608
# In two parts, because each has its own partial index.
_ACTIVE = """
SELECT 1 FROM runs WHERE state = 'queued' AND task_id = :task_id
UNION ALL SELECT 1 FROM runs WHERE state = 'running' AND task_id = :task_id LIMIT 1
"""
_ALL_ACTIVE = """
SELECT t.task_id FROM tasks t WHERE t.task_id {tasks} AND (
    EXISTS (SELECT 1 FROM runs r WHERE r.state = 'queued' AND r.task_id = t.task_id)
    OR EXISTS (SELECT 1 FROM runs r WHERE r.state = 'running' AND r.task_id = t.task_id)
)
"""
_TAKE_UP = (
    "INSERT INTO taken_up (generation_id, at) SELECT id, :now FROM generations WHERE id = :id "
    "ON CONFLICT (generation_id) DO NOTHING"
)
# In `skipped_slots.slots`: the slots were not counted.
_UNCOUNTED = 0


def every(tx: Transaction) -> dict[str, ScheduleRow]:
    """Return all stored schedules (`Store.schedules`)."""
    return {row["task_id"]: from_row(ScheduleRow, row) for row in tx.all("SELECT * FROM schedules")}


def schedule_generation(
    tx: Transaction, generation: int, put: Sequence[ScheduleRow], drop: Sequence[str], closings: Sequence[ClosedSchedule] = ()
) -> bool:
    """Change the schedules to those of a generation, once (`Store.schedule_generation`)."""
    # Of two schedulers at the same moment one waits here for the other, and then finds the work done.
    if not tx.run(_TAKE_UP, {"id": generation, "now": tx.now}):
        return False
    for closing in closings:
        tx.many(_CLOSED, [_verdict(closing.task_id, verdict, tx.now) for verdict in closing.verdicts])
        _keep_skipped(tx, closing.task_id, closing.skipped)
    change(tx, put, drop)
    return True


def change(
    tx: Transaction, put: Sequence[ScheduleRow], drop: Sequence[str], *, seen: Mapping[str, ScheduleRow] | None = None
) -> None:
    """Store and delete schedules (`Store.change_schedules`)."""
    if seen is None:
        tx.many(_PUT, [_row(row) for row in put])
        tx.many(_DROP, [{"task_id": task_id} for task_id in drop])
        return
    for row in put:
        before = seen.get(row.task_id)
        if before is None:
            tx.run(_PUT_NEW, _row(row))
        elif tx.run(_PUT_SEEN, {**_row(row), **_seen(before)}):
            _open_again(tx, row, before)
    for task_id in drop:
        tx.run(_DROP_SEEN, {"task_id": task_id, **_seen(seen[task_id])})


def _open_again(tx: Transaction, row: ScheduleRow, before: ScheduleRow) -> None:
    """Delete slots that a clock which ran ahead recorded as missed: they are still to come."""
    if row.fingerprint != before.fingerprint or row.next_fire is None:
        return
    # By the store's clock: a scheduler that is a moment behind must not reopen slots that were recorded in time.
    names = {"task_id": row.task_id, "next": max(to_micros(row.next_fire), tx.now + 1)}
    tx.run("DELETE FROM slots WHERE task_id = :task_id AND slot >= :next AND run_id IS NULL", names)
    tx.run("DELETE FROM skipped_slots WHERE task_id = :task_id AND first_slot >= :next", names)
    tx.run(
        "UPDATE skipped_slots SET last_slot = :next - 1, slots = :none WHERE task_id = :task_id AND last_slot >= :next",
        {**names, "none": _UNCOUNTED},
    )


class FireSchedule:
    """The operation of `Store.fire`. Rows are made in its constructor, on the caller's thread."""

    __slots__ = ("_firing", "_keys", "_rows", "_task", "_verdicts")
    disk_use = DiskUse.NOTHING

    def __init__(self, firing: Firing) -> None:
        self._firing = firing
        self._task = {"task_id": firing.task_id, "digest": firing.digest}
        self._rows = {run.slot: runs.columns(run) for run in firing.runs}
        self._keys = {run.slot: key for run in firing.runs if (key := runs.business_key(run)) is not None}
        self._verdicts = [
            {
                **self._task,
                "slot": to_micros(verdict.slot),
                "verdict": verdict.verdict,
                "run_id": self._rows[verdict.slot]["id"] if verdict.slot in self._rows else None,
            }
            for verdict in firing.verdicts
        ]

    def __call__(self, tx: Transaction) -> list[str]:
        """Fire the slots of one schedule."""
        firing = self._firing
        run_ids: list[str] = []
        checked = False
        for verdict, row in zip(firing.verdicts, self._verdicts, strict=True):
            run = self._rows.get(verdict.slot)
            # A run that this firing has started counts as active too.
            if firing.unless_active and run is not None and tx.one(_ACTIVE, self._task) is not None:
                run, row = None, {**row, "verdict": "overlap", "run_id": None}
            fresh = tx.run(_SLOT, {**row, "now": tx.now})
            if fresh:
                checked = True
                if run is not None and not self._is_duplicate(tx, verdict.slot, row):
                    runs.insert(tx, run, self._actor)
                    run_ids.append(run["id"])
        if not checked:
            self._check(tx)
        _keep_skipped(tx, firing.task_id, firing.skipped)
        tx.lot(_NEXT, _NEXT_OF, [self._next])
        return run_ids

    def _check(self, tx: Transaction) -> None:
        """Raise Conflict when another definition of the task is served."""
        if tx.one("SELECT 1 FROM tasks WHERE task_id = :task_id AND digest = :digest", self._task) is None:
            raise self._changed()

    def _changed(self) -> Conflict:
        return Conflict(f"the task `{self._firing.task_id}` has changed")

    def _is_duplicate(self, tx: Transaction, slot: datetime, row: Row) -> bool:
        """Return whether another run holds the business key of this slot's run; the slot is given that verdict then."""
        key = self._keys.get(slot)
        standing = None if key is None else key.take(tx).duplicate_of
        if standing is None:
            return False
        tx.run(
            "UPDATE slots SET verdict = 'duplicate', run_id = :standing WHERE task_id = :task_id AND slot = :slot",
            {**row, "standing": standing},
        )
        return True

    @property
    def _runs(self) -> list[str]:
        return [row["id"] for row in self._rows.values()]

    @property
    def _actor(self) -> str:
        return self._firing.runs[0].actor

    @property
    def _next(self) -> dict[str, Any]:
        following = self._firing.next_fire
        return {"task_id": self._firing.task_id, "next": None if following is None else to_micros(following)}

    @property
    def _plain(self) -> bool:
        # Of two runs of one firing the first would be active when the second is tested.
        overlaps = self._firing.unless_active and len(self._rows) > 1
        return not overlaps and self._firing.skipped is None and not self._keys

    def _judged(self, *, overlap: bool) -> list[dict[str, Any]]:
        """Return the rows of the slots with their verdicts, `overlap` where a run of the task is active."""
        if not overlap:
            return self._verdicts
        return [row if row["run_id"] is None else {**row, "verdict": "overlap", "run_id": None} for row in self._verdicts]


class FireSchedules:
    """The operation of `Store.ready`. Everything that can be made before the transaction is made in its constructor."""

    __slots__ = ("_lots", "_plain", "_rest", "parts")
    disk_use = DiskUse.NOTHING

    def __init__(self, parts: Sequence[FireSchedule]) -> None:
        self.parts = parts
        # In one order everywhere, so that two schedulers cannot deadlock.
        ordered = sorted(parts, key=lambda part: part._firing.task_id)
        self._plain = [part for part in ordered if part._plain]
        self._rest = [part for part in ordered if not part._plain]
        self._lots = _FiringRows(self._plain, {run_id for part in self._plain for run_id in part._runs})
        self._lots.make()

    @property
    def weight(self) -> int:
        """Return the number of operations that this one combines."""
        return len(self.parts)

    def __call__(self, tx: Transaction) -> list[list[str] | Exception]:
        """Fire all schedules; return for each the runs that started, or its exception."""
        results = self._together(tx)
        for part in self._rest:
            try:
                results[id(part)] = part(tx)
            except Conflict as err:  # it has changed nothing
                results[id(part)] = err
        return [results[id(part)] for part in self.parts]

    @staticmethod
    def together(tx: Transaction, lots: Sequence["FireSchedules"]) -> list[list[list[str] | Exception]]:
        """Fire several such operations as one, so that rows are locked in one order."""
        results = iter(FireSchedules([part for lot in lots for part in lot.parts])(tx))
        return [list(islice(results, len(lot.parts))) for lot in lots]

    def _together(self, tx: Transaction) -> dict[int, list[str] | Exception]:
        """Fire the plain schedules in four statements, or five: many schedules are due at one moment."""
        lots, results = self._lots, dict[int, list[str] | Exception]()
        fired = self._plain
        active = _active(tx, [fire for fire in fired if fire._firing.unless_active])
        if active:
            lots = _FiringRows(
                fired, {run for fire in fired if fire._firing.task_id not in active for run in fire._runs}, active
            )
        if tx.bulk_run(_SLOTS, lots.slots, {"now": tx.now}) != len(lots.slots.rows):
            # Some slots have a verdict already, or belong to a task that has changed.
            served_ids = _served(tx, fired)
            results = {id(fire): fire._changed() for fire in fired if fire._firing.task_id not in served_ids}
            fired = [fire for fire in fired if id(fire) not in results]
            lots = _FiringRows(fired, _kept_runs(tx, lots.slots.rows))
        runs.insert_many(tx, lots.runs)
        tx.bulk_run(_NEXT, lots.following)
        return results | {id(fire): [run_id for run_id in fire._runs if run_id in lots.started] for fire in fired}


class _FiringRows:
    """The rows to insert for plain firings that start the given runs; `active` are tasks that have an active run."""

    __slots__ = ("following", "runs", "slots", "started")

    def __init__(self, fires: Sequence[FireSchedule], started: Collection[str], active: Collection[str] = ()) -> None:
        self.started = started
        slots = [row for fire in fires for row in fire._judged(overlap=fire._firing.task_id in active)]
        self.slots = BulkRows(_SLOTS_OF, slots)
        rows = [(row, fire._actor) for fire in fires for row in fire._rows.values() if row["id"] in started]
        self.runs = runs.BulkRuns(rows)
        self.following = BulkRows(_NEXT_OF, [fire._next for fire in fires])

    def make(self) -> None:
        """Encode the rows for the database, ahead of the transaction."""
        for lot in (self.slots, self.runs.rows, self.runs.births, self.following):
            _ = lot.text


# A range whose slots were not counted has 0 of them.
_RANGE = "first_slot AS first, last_slot AS last, NULLIF(slots, 0) AS count, verdict"
_SLOT_PAGE = (
    "SELECT slot AS first, slot AS last, 1 AS count, verdict, run_id, at FROM slots "
    "WHERE task_id = :task_id AND slot < :before AND slot >= :since AND slot <= :until{} ORDER BY slot DESC LIMIT :limit"
)
_RANGE_PAGE = (
    f"SELECT {_RANGE}, NULL AS run_id, at FROM skipped_slots "  # noqa: S608
    "WHERE task_id = :task_id AND last_slot < :before AND last_slot >= :since AND first_slot <= :until{} "
    "ORDER BY last_slot DESC LIMIT :limit"
)


def slots(tx: Transaction, task_id: str, where: SlotFilter = EVERY_SLOT, *, cursor: str | None = None, limit: int = 50) -> Page:
    """Return a page of a task's slots, newest first (`Store.slots`)."""
    limit = page_size(limit)
    names: dict[str, Any] = {
        "task_id": task_id,
        "before": 2**62 if cursor is None else cursor_seq(cursor),
        "limit": limit + 1,
        "since": 0 if where.since is None else to_micros(where.since),
        "until": 2**62 if where.until is None else to_micros(where.until),
    }
    of_verdict = ""
    if where.verdict is not None:
        of_verdict = " AND verdict = :verdict"
        names["verdict"] = where.verdict
    single = tx.all(_SLOT_PAGE.format(of_verdict), names)
    ranges = tx.all(_RANGE_PAGE.format(of_verdict), names)
    rows = sorted([*single, *ranges], key=lambda row: -row["last"])
    items = [from_row(SlotRow, row) for row in rows[:limit]]
    return Page(items=items, next=cursor_after(to_micros(items[-1].last)) if len(rows) > limit else None)


def _active(tx: Transaction, fires: Sequence[FireSchedule]) -> set[str]:
    """Return those of the tasks that have a queued or running run."""
    if not fires:
        return set()
    tasks, names = _in_list(fire._firing.task_id for fire in fires)
    return {row["task_id"] for row in tx.all(_ALL_ACTIVE.format(tasks=tasks), names)}


def _served(tx: Transaction, fires: Sequence[FireSchedule]) -> set[str]:
    """Return the tasks whose served definitions are still those that the firings were computed from."""
    tasks, names = _in_list(fire._firing.task_id for fire in fires)
    rows = tx.all(f"SELECT task_id, digest FROM tasks WHERE task_id {tasks}", names)  # noqa: S608
    digests = {row["task_id"]: row["digest"] for row in rows}
    return {fire._firing.task_id for fire in fires if digests.get(fire._firing.task_id) == fire._firing.digest}


def _kept_runs(tx: Transaction, run_rows: Sequence[Row]) -> set[str]:
    """Return the runs whose slots were inserted just now."""
    tasks, names = _in_list(row["task_id"] for row in run_rows)
    names |= {"first": min(row["slot"] for row in run_rows), "last": max(row["slot"] for row in run_rows)}
    known_rows = tx.all(
        f"SELECT run_id FROM slots WHERE task_id {tasks} AND slot >= :first AND slot <= :last AND run_id IS NOT NULL",  # noqa: S608
        names,
    )
    return {row["run_id"] for row in known_rows}


def _in_list(values: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """Return an `IN (...)` for a statement, and its parameters."""
    names: dict[str, Any] = {f"t{place}": value for place, value in enumerate(values)}
    return f"IN ({', '.join(f':{name}' for name in names)})", names


def _keep_skipped(tx: Transaction, task_id: str, skipped: SkippedSlots | None) -> None:
    if skipped is not None:
        count = _UNCOUNTED if skipped.count is None else skipped.count
        names = {"first": to_micros(skipped.first), "last": to_micros(skipped.last), "slots": count, "verdict": skipped.verdict}
        tx.run(_SKIPPED, {"task_id": task_id, **names, "now": tx.now})


def _verdict(task_id: str, verdict: SlotVerdict, now: int) -> dict[str, Any]:
    return {"task_id": task_id, "slot": to_micros(verdict.slot), "verdict": verdict.verdict, "now": now}


def _row(row: ScheduleRow) -> dict[str, Any]:
    following = None if row.next_fire is None else to_micros(row.next_fire)
    return {"task_id": row.task_id, "fingerprint": row.fingerprint, "next_fire": following}


def _seen(row: ScheduleRow) -> dict[str, Any]:
    return {"seen_fingerprint": row.fingerprint, "seen_next": -1 if row.next_fire is None else to_micros(row.next_fire)}


_COUNTS = """
SELECT (s.slot - :since) / 3600000000 AS hour, s.verdict AS verdict, COUNT(*) AS slots FROM slots s
WHERE s.verdict <> 'fired' AND s.slot >= :since AND s.slot < :until
AND EXISTS (SELECT 1 FROM tasks t WHERE t.task_id = s.task_id) GROUP BY 1, 2
"""
_RANGES_IN = f"""
SELECT {_RANGE} FROM skipped_slots k JOIN tasks t ON t.task_id = k.task_id
WHERE k.last_slot >= :since AND k.first_slot < :until ORDER BY k.first_slot
"""  # noqa: S608


def count_slots(tx: Transaction, since: datetime, until: datetime) -> SlotCounts:
    """Count the outcomes of slots that started no run in a span (`Store.slot_counts`)."""
    bounds = {"since": to_micros(since), "until": to_micros(until)}
    settled = tx.one("SELECT MIN(next_fire) AS at FROM schedules")
    return SlotCounts(
        hours=[(row["hour"], row["verdict"], row["slots"]) for row in tx.all(_COUNTS, bounds)],
        skipped=[from_row(SkippedSlots, row) for row in tx.all(_RANGES_IN, bounds)],
        settled=None if settled is None else optional_from_micros(settled["at"]),
    )
