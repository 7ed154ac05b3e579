"""What an audit reads: generations as they followed each other, and slots, deliveries and runs, each beside its counterpart."""

from typing import Any

from optio.store.base import AuditedDelivery, AuditedRun, AuditedSlot, GenerationRow
from optio.store.sql.registry import GENERATION, to_generation
from optio.store.sql.transaction import Row, Transaction, maybe, when

_GENERATIONS = f"""
{GENERATION}
WHERE id > :after AND id >= COALESCE((SELECT MAX(id) FROM generations WHERE activated_at <= :since), 0)
ORDER BY id LIMIT :limit
"""  # noqa: S608
# A run that somebody has deleted by hand is not lost.
_DELETED = "run-deleted"
_SLOTS = f"""
SELECT s.slot, s.verdict, s.run_id, s.at, COALESCE(r.id, o.once_key) AS run,
    COALESCE(r.task_id, s.task_id) AS run_task, CASE WHEN r.id IS NULL THEN s.slot ELSE r.slot END AS run_slot
FROM slots s LEFT JOIN runs r ON r.id = s.run_id LEFT JOIN once o ON o.scope = '{_DELETED}' AND o.once_key = s.run_id
WHERE s.task_id = :task_id AND s.slot > :after AND s.slot <= :until ORDER BY s.slot LIMIT :limit
"""  # noqa: S608
_RANGES = """
SELECT first_slot, last_slot, verdict, at FROM skipped_slots
WHERE task_id = :task_id AND last_slot > :after AND first_slot <= :until ORDER BY first_slot
"""
_DELIVERIES = f"""
SELECT d.seq, d.id, d.task_id, d.received_at, d.verdict, d.run_id, COALESCE(r.id, o.once_key) AS run,
    CASE WHEN r.id IS NULL THEN d.id ELSE r.delivery_id END AS run_delivery, p.repeats, p.replays
FROM deliveries d LEFT JOIN delivery_repeats p ON p.delivery_id = d.id
LEFT JOIN runs r ON r.id = d.run_id LEFT JOIN once o ON o.scope = '{_DELETED}' AND o.once_key = d.run_id
WHERE d.seq < :before {{of_task}} ORDER BY d.seq DESC LIMIT :limit
"""  # noqa: S608
_RUNS = """
SELECT r.seq, r.id, r.task_id, r.created_at, r.run_trigger, r.slot, r.delivery_id, e.actor,
    s.run_id AS slot_run, d.id AS delivery, d.run_id AS delivery_run
FROM runs r
LEFT JOIN events e ON e.run_id = r.id AND e.seq = 1
LEFT JOIN slots s ON s.task_id = r.task_id AND s.slot = r.slot
LEFT JOIN deliveries d ON d.id = r.delivery_id
WHERE r.seq < :before {of_task} ORDER BY r.seq DESC LIMIT :limit
"""


def generations(tx: Transaction, since: int, after: int, limit: int) -> list[GenerationRow]:
    """See `Store.generations`."""
    return [to_generation(row) for row in tx.all(_GENERATIONS, {"since": since, "after": after, "limit": limit})]


def note_deleted(tx: Transaction, run_id: str) -> None:
    """Remember that a run is gone by somebody's will."""
    tx.run(
        "INSERT INTO once (scope, once_key, body_sha256, result, at) VALUES (:scope, :run_id, '', '', :now) "
        "ON CONFLICT (scope, once_key) DO NOTHING",
        {"scope": _DELETED, "run_id": run_id, "now": tx.now},
    )


def slots(tx: Transaction, task_id: str, after: int, until: int, limit: int) -> list[AuditedSlot]:
    """See `Store.audit_slots`."""
    rows = tx.all(_SLOTS, {"task_id": task_id, "after": after, "until": until, "limit": limit})
    return [_to_slot(row, task_id) for row in rows]


def ranges(tx: Transaction, task_id: str, after: int, until: int) -> list[AuditedSlot]:
    """See `Store.audit_ranges`."""
    rows = tx.all(_RANGES, {"task_id": task_id, "after": after, "until": until})
    return [
        AuditedSlot(
            first=when(row["first_slot"]),
            last=when(row["last_slot"]),
            verdict=row["verdict"],
            run_id=None,
            at=when(row["at"]),
            run_is_there=False,
            run_is_its=False,
        )
        for row in rows
    ]


def deliveries(tx: Transaction, task_id: str | None, before: int, limit: int) -> list[AuditedDelivery]:
    """See `Store.audit_deliveries`."""
    return [
        AuditedDelivery(
            seq=row["seq"],
            id=row["id"],
            task_id=row["task_id"],
            received_at=when(row["received_at"]),
            verdict=row["verdict"],
            run_id=row["run_id"],
            run_is_there=row["run"] is not None,
            run_is_its=row["run_delivery"] == row["id"],
            repeats=row["repeats"] or 0,
            replays=row["replays"] or 0,
        )
        for row in _newest(tx, _DELIVERIES, "d", task_id, before, limit)
    ]


def runs(tx: Transaction, task_id: str | None, before: int, limit: int) -> list[AuditedRun]:
    """See `Store.audit_runs`."""
    return [
        AuditedRun(
            seq=row["seq"],
            id=row["id"],
            task_id=row["task_id"],
            created_at=when(row["created_at"]),
            trigger=row["run_trigger"],
            slot=maybe(row["slot"]),
            delivery_id=row["delivery_id"],
            actor=row["actor"],
            slot_is_its=row["slot_run"] == row["id"],
            delivery_is_there=row["delivery"] is not None,
            delivery_is_its=row["delivery_run"] == row["id"],
        )
        for row in _newest(tx, _RUNS, "r", task_id, before, limit)
    ]


def _newest(tx: Transaction, sql: str, table: str, task_id: str | None, before: int, limit: int) -> list[Row]:
    params: dict[str, Any] = {"before": before, "limit": limit}
    of_task = ""
    if task_id is not None:
        of_task = f"AND {table}.task_id = :task_id"
        params["task_id"] = task_id
    rows: list[Row] = tx.all(sql.format(of_task=of_task), params)
    return rows


def _to_slot(row: Row, task_id: str) -> AuditedSlot:
    slot = when(row["slot"])
    return AuditedSlot(
        first=slot,
        last=slot,
        verdict=row["verdict"],
        run_id=row["run_id"],
        at=when(row["at"]),
        run_is_there=row["run"] is not None,
        run_is_its=row["run_task"] == task_id and row["run_slot"] == row["slot"],
    )
