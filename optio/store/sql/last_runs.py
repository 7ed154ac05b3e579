"""The last runs and the queued runs of some tasks, in one statement each, for lists of tasks."""

from collections.abc import Sequence

from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Transaction, dump_json
from optio.store.values import LastRun

_COLUMNS = "r.task_id, r.id, r.state, r.reason, r.created_at, r.started_at, r.ended_at"
_NEWEST = "FROM runs h WHERE h.task_id = t.value ORDER BY h.seq DESC LIMIT :most"
# PostgreSQL is fast with a lateral join. SQLite has none; a list of keys is fast there.
_LATERAL = f"""
SELECT {_COLUMNS} FROM json_array_elements_text(CAST(:ids AS json)) t (value)
CROSS JOIN LATERAL (SELECT h.* {_NEWEST}) r ORDER BY r.seq DESC
"""  # noqa: S608
_LISTED = f"SELECT {_COLUMNS} FROM json_each(:ids) t JOIN runs r ON r.seq IN (SELECT h.seq {_NEWEST}) ORDER BY r.seq DESC"  # noqa: S608
_QUEUED = """
SELECT task_id, COUNT(*) AS n FROM runs WHERE state = 'queued' AND task_id IN (SELECT value FROM {among}) GROUP BY task_id
"""


def last_runs(tx: Transaction, task_ids: Sequence[str], most: int) -> dict[str, list[LastRun]]:
    """Return the newest runs of each of these tasks, newest first (`Store.last_runs`)."""
    by_task: dict[str, list[LastRun]] = {}
    for row in tx.all(_LATERAL if tx.lateral else _LISTED, {"ids": dump_json(list(task_ids)), "most": most}):
        started_at, ended_at = row["started_at"], row["ended_at"]
        duration_s = None if started_at is None or ended_at is None else (ended_at - started_at) / 1e6
        by_task.setdefault(row["task_id"], []).append(from_row(LastRun, row, duration_s=duration_s))
    return by_task


def queued_runs(tx: Transaction, task_ids: Sequence[str]) -> dict[str, int]:
    """Return the number of queued runs of those of these tasks that have any (`Store.queued_runs`)."""
    among = "json_array_elements_text(CAST(:ids AS json))" if tx.lateral else "json_each(:ids)"
    rows = tx.all(_QUEUED.format(among=among), {"ids": dump_json(list(task_ids))})
    return {row["task_id"]: int(row["n"]) for row in rows}
