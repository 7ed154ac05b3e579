"""Pauses: tasks of which nothing starts. A pause belongs to the id: edits of the task, and its absence, do not end it."""

from optio.store.sql.transaction import Row, Transaction, from_micros
from optio.store.values import Pause


def pause(tx: Transaction, task_id: str, reason: str, actor: str) -> Pause:
    """See `Store.pause`. The last reason counts."""
    # Claims decide under this lock: what starts after the answer has seen the pause.
    tx.lock("admission")
    tx.run(
        "INSERT INTO pauses (task_id, reason, actor, at) VALUES (:task_id, :reason, :actor, :now) "
        "ON CONFLICT (task_id) DO UPDATE SET reason = excluded.reason, actor = excluded.actor, at = excluded.at",
        {"task_id": task_id, "reason": reason, "actor": actor, "now": tx.now},
    )
    return Pause(task_id=task_id, reason=reason, actor=actor, at=from_micros(tx.now))


def resume(tx: Transaction, task_id: str) -> Pause | None:
    """See `Store.resume`."""
    row = tx.hold("SELECT * FROM pauses WHERE task_id = :task_id", {"task_id": task_id})
    if row is None:
        return None
    tx.run("DELETE FROM pauses WHERE task_id = :task_id", {"task_id": task_id})
    return _pause(row)


def every(tx: Transaction) -> dict[str, Pause]:
    """See `Store.pauses`."""
    return {row["task_id"]: _pause(row) for row in tx.all("SELECT * FROM pauses ORDER BY task_id")}


def _pause(row: Row) -> Pause:
    return Pause(task_id=row["task_id"], reason=row["reason"], actor=row["actor"], at=from_micros(row["at"]))
