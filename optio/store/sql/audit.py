"""Reads of an audit: generations in their order, and slots, deliveries and runs, each beside its counterpart. `optio audit`
finds gaps by them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from optio.store.sql.registry import GENERATION, to_generation
from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Row, Transaction, from_micros, to_micros
from optio.store.values import Audited, AuditedDelivery, AuditedRun, AuditedSlot, AuditPage, AuditSpan, GenerationRow

_GENERATIONS = f"""
{GENERATION}
WHERE id > :after AND id >= COALESCE((SELECT MAX(id) FROM generations WHERE activated_at <= :since), 0)
ORDER BY id LIMIT :limit
"""  # noqa: S608
# A run that a person deleted is not missing.
_DELETED = "run-deleted"
# Rows that are in order are counted by the database, so that a month takes seconds; only doubtful ones are read in full.
# Every row that `runs.audit` would report is doubtful, but a doubtful one may be in order: `runs.audit` decides.
_SLOTS = f"""
SELECT slot, verdict, run_id, at, run_task, run_slot, doubtful, CASE WHEN doubtful = 1 THEN COALESCE(run, (
    SELECT once_key FROM once WHERE scope = '{_DELETED}' AND once_key = run_id
)) END AS run
FROM (
    SELECT s.slot, s.verdict, s.run_id, s.at, r.id AS run, COALESCE(r.task_id, s.task_id) AS run_task,
        CASE WHEN r.id IS NULL THEN s.slot ELSE r.slot END AS run_slot,
        CASE WHEN s.verdict <> 'fired' THEN 0
            WHEN s.run_id IS NULL THEN 1
            WHEN r.id IS NULL THEN CASE WHEN s.at < :runs THEN 0 ELSE 1 END
            WHEN r.task_id = s.task_id AND r.slot = s.slot THEN 0
            ELSE 1 END AS doubtful
    FROM slots s LEFT JOIN runs r ON r.id = s.run_id
    WHERE s.task_id = :task_id AND s.slot > :after AND s.slot <= :until ORDER BY s.slot LIMIT :limit
) AS page ORDER BY slot
"""  # noqa: S608
_RANGES = """
SELECT first_slot AS first, last_slot AS last, verdict, at FROM skipped_slots
WHERE task_id = :task_id AND last_slot > :after AND first_slot <= :until ORDER BY first_slot
"""
_FIRST_DELIVERY = "SELECT MIN(seq + 0) AS seq FROM deliveries WHERE received_at > :since"  # by the index of times
_DELIVERIES = """
SELECT d.seq, d.id, d.task_id, d.received_at AS at, d.verdict AS word, d.run_id, r.id AS run, r.delivery_id AS run_delivery,
    CASE WHEN d.run_id IS NULL THEN CASE WHEN d.verdict = 'accepted' THEN 1 ELSE 0 END
        WHEN r.id IS NULL THEN CASE WHEN d.received_at < :runs THEN 0 ELSE 1 END
        WHEN d.verdict <> 'accepted' OR r.delivery_id = d.id THEN 0
        ELSE 1 END AS doubtful
FROM (
    SELECT seq, id, task_id, received_at, verdict, run_id FROM deliveries
    WHERE seq >= :first AND seq < :before {of_task} ORDER BY seq DESC LIMIT :limit
) AS d LEFT JOIN runs r ON r.id = d.run_id
"""
_REPEATS = """
SELECT d.task_id, SUM(p.repeats) AS repeated, SUM(p.replays) AS replayed
FROM delivery_repeats p JOIN deliveries d ON d.id = p.delivery_id
WHERE d.received_at > :since AND d.received_at <= :until {of_task} GROUP BY d.task_id
"""
_RUNS = """
SELECT joined.*, CASE WHEN actor IS NULL THEN 1
    WHEN word = 'manual' THEN 0
    WHEN word = 'schedule' THEN CASE WHEN slot IS NULL THEN 1 WHEN slot_run = id OR slot < :slots THEN 0 ELSE 1 END
    WHEN delivery_id IS NULL THEN 1
    WHEN delivery IS NULL THEN CASE WHEN at < :deliveries THEN 0 ELSE 1 END
    WHEN word = 'replay' OR delivery_run = id THEN 0
    ELSE 1 END AS doubtful
FROM (
    SELECT r.seq, r.id, r.task_id, r.created_at AS at, r.run_trigger, r.slot, r.delivery_id, e.actor,
        s.run_id AS slot_run, d.id AS delivery, d.run_id AS delivery_run,
        CASE WHEN r.run_trigger = 'webhook' AND SUBSTR(e.actor, 1, 7) = 'replay:' THEN 'replay' ELSE r.run_trigger END AS word
    FROM (
        SELECT seq, id, task_id, created_at, run_trigger, slot, delivery_id FROM runs
        WHERE seq < :before {of_task} ORDER BY seq DESC LIMIT :limit
    ) AS r
    LEFT JOIN events e ON e.run_id = r.id AND e.seq = 1
    LEFT JOIN slots s ON s.task_id = r.task_id AND s.slot = r.slot
    LEFT JOIN deliveries d ON d.id = r.delivery_id
) AS joined
"""
_COUNTED = """
SELECT task_id, word, inside, doubtful, COUNT(*) AS n, MIN(seq) AS last, MAX(at) AS latest FROM (
    SELECT page.*, CASE WHEN at > :since AND at <= :until THEN 1 ELSE 0 END AS inside FROM ({rows}) AS page
) AS known GROUP BY task_id, word, inside, doubtful
"""
_DOUBTFUL = f"""
SELECT page.*, o.once_key AS deleted FROM ({{rows}}) AS page
LEFT JOIN once o ON o.scope = '{_DELETED}' AND o.once_key = page.{{run}}
WHERE page.doubtful = 1 AND page.at > :since AND page.at <= :until ORDER BY page.seq DESC
"""  # noqa: S608


def generations(tx: Transaction, *, since: datetime, after: int = 0, limit: int = 20) -> list[GenerationRow]:
    """Read a page of generations from the one served at `since` on (`Store.generations`)."""
    params = {"since": to_micros(since), "after": after, "limit": limit}
    return [to_generation(row) for row in tx.all(_GENERATIONS, params)]


def note_deleted(tx: Transaction, run_id: str) -> None:
    """Record that a person deleted a run, so that an audit does not report it as missing."""
    tx.run(
        "INSERT INTO once (scope, once_key, body_sha256, result, at) VALUES (:scope, :run_id, '', '', :now) "
        "ON CONFLICT (scope, once_key) DO NOTHING",
        {"scope": _DELETED, "run_id": run_id, "now": tx.now},
    )


def slots(
    tx: Transaction, task_id: str, after: datetime, until: datetime, runs: datetime, limit: int = 20_000
) -> list[tuple[datetime, str] | AuditedSlot]:
    """Read a task's slots beside their runs (`Store.audit_slots`)."""
    times = {"after": to_micros(after), "until": to_micros(until), "runs": to_micros(runs)}
    rows = tx.all(_SLOTS, {"task_id": task_id, **times, "limit": limit})
    return [_to_slot(row, task_id) if row["doubtful"] else (from_micros(row["slot"]), row["verdict"]) for row in rows]


def ranges(tx: Transaction, task_id: str, after: datetime, until: datetime) -> list[AuditedSlot]:
    """Read the ranges of skipped slots that overlap a span (`Store.audit_ranges`)."""
    rows = tx.all(_RANGES, {"task_id": task_id, "after": to_micros(after), "until": to_micros(until)})
    return [from_row(AuditedSlot, row, run_id=None, run_is_there=False, run_is_its=False) for row in rows]


def first_delivery(tx: Transaction, since: datetime) -> int | None:
    """Find the first delivery after a time (`Store.first_delivery`)."""
    seq: int | None = tx.one(_FIRST_DELIVERY, {"since": to_micros(since)})["seq"]
    return seq


def deliveries(
    tx: Transaction, span: AuditSpan, *, first: int, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
) -> AuditPage[AuditedDelivery] | None:
    """Read a page of deliveries beside their runs (`Store.audit_deliveries`)."""

    def to_delivery(row: Row) -> AuditedDelivery:
        return from_row(
            AuditedDelivery,
            row,
            received_at=from_micros(row["at"]),
            verdict=row["word"],
            run_is_there=row["run"] is not None or row["deleted"] is not None,
            run_is_its=row["run"] is None or row["run_delivery"] == row["id"],
        )

    params = {"first": first, "before": before, "limit": limit, "runs": to_micros(span.runs)}
    return _page(tx, _DELIVERIES, "deliveries", "run_id", span, task_id, params, to_delivery)


def repeats(tx: Transaction, span: AuditSpan, *, task_id: str | None = None) -> dict[tuple[str, str], int]:
    """Sum up repeats and replays of deliveries by task (`Store.audit_repeats`)."""
    of_task = "" if task_id is None else "AND d.task_id = :task_id"
    params = {
        "since": to_micros(span.since),
        "until": to_micros(span.until),
        **({} if task_id is None else {"task_id": task_id}),
    }
    rows = tx.all(_REPEATS.format(of_task=of_task), params)
    words = ("repeated", "replayed")
    return {(row["task_id"], word): int(row[word]) for row in rows for word in words if row[word]}


def runs(
    tx: Transaction, span: AuditSpan, *, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
) -> AuditPage[AuditedRun] | None:
    """Read a page of runs beside their slots and deliveries (`Store.audit_runs`)."""

    def to_run(row: Row) -> AuditedRun:
        return from_row(
            AuditedRun,
            row,
            created_at=from_micros(row["at"]),
            trigger=row["run_trigger"],
            slot_is_its=row["slot_run"] == row["id"],
            delivery_is_there=row["delivery"] is not None,
            delivery_is_its=row["delivery_run"] == row["id"],
        )

    params = {"before": before, "limit": limit, "slots": to_micros(span.slots), "deliveries": to_micros(span.deliveries)}
    return _page(tx, _RUNS, "runs", "id", span, task_id, params, to_run)


def _page(
    tx: Transaction,
    sql: str,
    table: str,
    run: str,
    span: AuditSpan,
    task_id: str | None,
    params: dict[str, Any],
    convert: Callable[[Row], Audited],
) -> AuditPage[Audited] | None:
    of_task = ""
    if task_id is not None:
        of_task = "AND task_id = :task_id"
        params["task_id"] = task_id
    params |= {"since": to_micros(span.since), "until": to_micros(span.until)}
    rows = sql.format(of_task=of_task)
    groups: list[Row] = tx.all(_COUNTED.format(rows=rows), params)
    if not groups:
        return None
    doubts = any(group["inside"] and group["doubtful"] for group in groups)
    last = min(group["last"] for group in groups)
    at = "received_at" if table == "deliveries" else "created_at"
    return AuditPage(
        counts={
            (counted_group["task_id"], counted_group["word"]): counted_group["n"]
            for counted_group in groups
            if counted_group["inside"] and not counted_group["doubtful"]
        },
        doubtful=[convert(row) for row in tx.all(_DOUBTFUL.format(rows=rows, run=run), params)] if doubts else [],
        rows=sum(group["n"] for group in groups),
        last=last,
        last_at=from_micros(tx.one(f"SELECT {at} AS at FROM {table} WHERE seq = :seq", {"seq": last})["at"]),  # noqa: S608
        latest=from_micros(max(group["latest"] for group in groups)),
    )


def _to_slot(row: Row, task_id: str) -> AuditedSlot:
    slot = from_micros(row["slot"])
    return from_row(
        AuditedSlot,
        row,
        first=slot,
        last=slot,
        run_is_there=row["run"] is not None,
        run_is_its=row["run_task"] == task_id and row["run_slot"] == row["slot"],
    )
