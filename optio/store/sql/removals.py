"""Held removals: tasks whose files are gone and that are still served, and which of them a person has released.

All servers of a database share these rows, so one release reaches each of them. A release counts for an hour: a server that
sees the same removal later than others lets the tasks go too, and a removal of another day is held again.
"""

from collections.abc import Collection
from datetime import timedelta

from optio.store.sql.rows import from_row
from optio.store.sql.transaction import BulkRows, Transaction, span_in_micros
from optio.store.values import RemovalRow

RELEASE_VALID = timedelta(hours=1)
_COLUMNS = "task_id text"
_HOLD = """
INSERT INTO held_removals (task_id, held_at) SELECT lot.task_id, :now FROM lot WHERE TRUE
ON CONFLICT (task_id) DO UPDATE SET held_at = excluded.held_at, released_at = NULL, released_by = NULL
WHERE held_removals.released_at < :valid
"""
_RELEASE = """
INSERT INTO held_removals (task_id, held_at, released_at, released_by)
SELECT lot.task_id, :now, :now, :actor FROM lot WHERE TRUE
ON CONFLICT (task_id) DO UPDATE SET released_at = excluded.released_at, released_by = excluded.released_by
"""


def every(tx: Transaction) -> dict[str, RemovalRow]:
    """Return held removals with the releases that still count (`Store.removals`)."""
    rows = tx.all(
        "SELECT * FROM held_removals WHERE released_at IS NULL OR released_at >= :valid", {"valid": _release_cutoff(tx)}
    )
    return {row["task_id"]: from_row(RemovalRow, row) for row in rows}


def hold(tx: Transaction, task_ids: Collection[str]) -> dict[str, RemovalRow]:
    """Record that tasks are held, and return their rows (`Store.hold_removals`)."""
    tx.lock("registry")
    tx.bulk_run(_HOLD, _task_rows(task_ids), {"now": tx.now, "valid": _release_cutoff(tx)})
    ids = set(task_ids)
    return {task_id: row for task_id, row in every(tx).items() if task_id in ids}


def release(tx: Transaction, task_ids: Collection[str], actor: str) -> None:
    """Release tasks for removal (`Store.release_removals`)."""
    tx.lock("registry")
    tx.run("DELETE FROM held_removals WHERE released_at < :valid", {"valid": _release_cutoff(tx)})
    tx.bulk_run(_RELEASE, _task_rows(task_ids), {"now": tx.now, "actor": actor})


def drop(tx: Transaction, task_ids: Collection[str]) -> None:
    """Delete holds and releases (`Store.drop_removals`)."""
    tx.lock("registry")
    tx.bulk_run("DELETE FROM held_removals WHERE task_id IN (SELECT lot.task_id FROM lot)", _task_rows(task_ids))


def _task_rows(task_ids: Collection[str]) -> BulkRows:
    return BulkRows(_COLUMNS, [{"task_id": task_id} for task_id in sorted(task_ids)])


def _release_cutoff(tx: Transaction) -> int:
    return tx.now - span_in_micros(RELEASE_VALID)
