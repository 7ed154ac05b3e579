"""Pauses: tasks of which nothing starts. A pause belongs to the task id: edits of the task, or its absence, do not end it."""

from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Transaction, from_micros
from optio.store.values import Pause


def pause(tx: Transaction, task_id: str, reason: str, actor: str) -> Pause:
    """Pause a task (`Store.pause`); the reason of a second pause replaces the first."""
    # Claims decide under this lock, so no run starts after this call has returned.
    tx.lock("admission")
    tx.run(
        "INSERT INTO pauses (task_id, reason, actor, at) VALUES (:task_id, :reason, :actor, :now) "
        "ON CONFLICT (task_id) DO UPDATE SET reason = excluded.reason, actor = excluded.actor, at = excluded.at",
        {"task_id": task_id, "reason": reason, "actor": actor, "now": tx.now},
    )
    return Pause(task_id=task_id, reason=reason, actor=actor, at=from_micros(tx.now))


def resume(tx: Transaction, task_id: str) -> Pause | None:
    """End a task's pause (`Store.resume`)."""
    row = tx.hold("SELECT * FROM pauses WHERE task_id = :task_id", {"task_id": task_id})
    if row is None:
        return None
    tx.run("DELETE FROM pauses WHERE task_id = :task_id", {"task_id": task_id})
    return from_row(Pause, row)


def every(tx: Transaction) -> dict[str, Pause]:
    """Return all pauses (`Store.pauses`)."""
    return {row["task_id"]: from_row(Pause, row) for row in tx.all("SELECT * FROM pauses ORDER BY task_id")}
