"""Schedules: the next slot of each, and one verdict for every slot."""

from collections.abc import Callable, Sequence

from optio.errors import Conflict
from optio.store.base import Firing, ScheduleRow
from optio.store.sql import runs
from optio.store.sql.transaction import Transaction, maybe, micros

# Nothing is inserted for a definition that is not served, nor for a slot that has its verdict.
_SLOT = """
INSERT INTO slots (task_id, slot, verdict, run_id, at)
SELECT task_id, :slot, :verdict, :run_id, :now FROM tasks WHERE task_id = :task_id AND digest = :digest
ON CONFLICT (task_id, slot) DO NOTHING
"""
# In two parts, for each has its own partial index.
_ACTIVE = """
SELECT 1 FROM runs WHERE state = 'queued' AND task_id = :task_id
UNION ALL SELECT 1 FROM runs WHERE state = 'running' AND task_id = :task_id LIMIT 1
"""


def every(tx: Transaction) -> dict[str, ScheduleRow]:
    """See `Store.schedules`."""
    return {
        row["task_id"]: ScheduleRow(task_id=row["task_id"], fingerprint=row["fingerprint"], next_fire=maybe(row["next_fire"]))
        for row in tx.all("SELECT * FROM schedules")
    }


def change(tx: Transaction, put: Sequence[ScheduleRow], drop: Sequence[str]) -> None:
    """See `Store.change_schedules`."""
    tx.many(
        "INSERT INTO schedules (task_id, fingerprint, next_fire) VALUES (:task_id, :fingerprint, :next_fire) "
        "ON CONFLICT (task_id) DO UPDATE SET fingerprint = excluded.fingerprint, next_fire = excluded.next_fire",
        [
            {
                "task_id": row.task_id,
                "fingerprint": row.fingerprint,
                "next_fire": None if row.next_fire is None else micros(row.next_fire),
            }
            for row in put
        ],
    )
    tx.many("DELETE FROM schedules WHERE task_id = :task_id", [{"task_id": task_id} for task_id in drop])


def fire(firing: Firing) -> Callable[[Transaction], list[str]]:
    """See `Store.fire`. Rows are made here, by the caller's thread."""
    task = {"task_id": firing.task_id, "digest": firing.digest}
    by_slot = {run.slot: run for run in firing.runs}
    rows = {run.id: runs.columns(run) for run in firing.runs}

    def operation(tx: Transaction) -> list[str]:
        started: list[str] = []
        checked = False
        for verdict in firing.verdicts:
            # What this very firing has started is active too.
            blocked = firing.unless_active and verdict.slot in by_slot and _active(tx, firing.task_id)
            run = None if blocked else by_slot.get(verdict.slot)
            fresh = tx.run(
                _SLOT,
                {
                    **task,
                    "slot": micros(verdict.slot),
                    "verdict": "overlap" if blocked else verdict.verdict,
                    "run_id": run.id if run else None,
                    "now": tx.now,
                },
            )
            if fresh:
                checked = True
                if run is not None:
                    runs.insert(tx, rows[run.id], run.actor)
                    started.append(run.id)
        if not checked and tx.one("SELECT 1 FROM tasks WHERE task_id = :task_id AND digest = :digest", task) is None:
            raise Conflict(f"the task `{firing.task_id}` has changed")
        tx.run(
            "UPDATE schedules SET next_fire = :next WHERE task_id = :task_id",
            {"next": None if firing.next_fire is None else micros(firing.next_fire), "task_id": firing.task_id},
        )
        return started

    return operation


def _active(tx: Transaction, task_id: str) -> bool:
    return tx.one(_ACTIVE, {"task_id": task_id}) is not None
