"""The queue as admission sees it. A claim reads a few small rows of each task that could start a run, however many are
queued."""

from collections.abc import Sequence

from optio.model.namespace import WorkerScope
from optio.store.sql import namespaces, pauses, processes, quotas, shortages
from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Row, Transaction, from_micros
from optio.store.values import NO_LIMIT, AdmissionView, QueuedRun, Quota, Room, RunningRun

# The queued runs of each task that a claim reads, so that its cost does not grow with the queue.
HEADS_PER_TASK = 16
_COLUMNS = """
    q.id, q.task_id, q.digest, q.seq, q.queued_at, q.not_before, q.dedupe_key, t.served, t.start_limit, t.start_window,
    COALESCE(t.max_concurrent, q.max_concurrent) AS max_concurrent, COALESCE(t.priority, q.priority) AS priority
"""
# A run queued in the future was queued before the clock was set back: its delay is void, so it is due.
# Of two runs with one business key the second waits for the first.
_HEAD = """
FROM runs h WHERE h.state = 'queued' AND h.task_id = t.task_id AND (h.not_before <= :now OR h.queued_at > :now)
    AND (h.dedupe_key IS NULL OR NOT EXISTS (
        SELECT 1 FROM runs b WHERE b.state = 'running' AND b.task_id = h.task_id AND b.dedupe_key = h.dedupe_key
    ))
    ORDER BY h.seq LIMIT {most}
"""
# The first part is a skip scan from task to task. Conditions on a whole task are tested once, and not for each of its
# runs. A task whose starts lie in the future passes although its quota is used up, so that the starts can be corrected.
_TASKS = """
WITH RECURSIVE waiting (task_id) AS (
    SELECT MIN(task_id) FROM runs WHERE state = 'queued'
    UNION ALL
    SELECT (SELECT MIN(r.task_id) FROM runs r WHERE r.state = 'queued' AND r.task_id > w.task_id)
    FROM waiting w WHERE w.task_id IS NOT NULL
)
"""
_HEADS = """
{tasks},
busy (task_id, n) AS (SELECT task_id, COUNT(*) FROM runs WHERE state = 'running' GROUP BY task_id),
ready AS MATERIALIZED (
    SELECT w.task_id, COALESCE(s.max_concurrent - COALESCE(b.n, 0), :heads) AS free,
        s.task_id AS served, s.max_concurrent, s.priority, s.start_limit, s.start_window,
        CASE WHEN s.start_limit IS NOT NULL THEN
            (SELECT COUNT(*) FROM starts c WHERE c.task_id = w.task_id AND c.at > :now - s.start_window) END AS used,
        CASE WHEN s.start_limit IS NOT NULL THEN
            (SELECT MAX(c.at) FROM starts c WHERE c.task_id = w.task_id) END AS last
    FROM waiting w
    LEFT JOIN tasks s ON s.task_id = w.task_id
    LEFT JOIN busy b ON b.task_id = w.task_id
    LEFT JOIN namespaces n ON n.task_id = w.task_id
    WHERE w.task_id IS NOT NULL AND {in_scope}
        AND NOT EXISTS (SELECT 1 FROM pauses p WHERE p.task_id = w.task_id)
        AND (s.max_concurrent IS NULL OR COALESCE(b.n, 0) < s.max_concurrent)
)
SELECT {columns}, t.used, t.last
FROM ready t
JOIN {heads}
WHERE t.start_limit IS NULL OR t.used < t.start_limit OR t.last > :ahead
ORDER BY q.seq
"""
# PostgreSQL is fast with a lateral join. SQLite has none; a list of keys is fast there, with one limit for all tasks.
_EACH = _HEAD.format(most="LEAST(:heads, t.free)")
_EVERY = _HEAD.format(most="MIN(:heads, (SELECT MAX(free) FROM ready))")
_PARTS = {"tasks": _TASKS, "columns": _COLUMNS, "in_scope": namespaces.IN_SCOPE}
_LATERAL = _HEADS.format(**_PARTS, heads=f"LATERAL (SELECT h.* {_EACH}) q ON TRUE")
_LISTED = _HEADS.format(**_PARTS, heads=f"runs q ON q.seq IN (SELECT h.seq {_EVERY})")
_ALL = f"""
SELECT {_COLUMNS} FROM runs q
LEFT JOIN (SELECT task_id, task_id AS served, max_concurrent, priority, start_limit, start_window FROM tasks) t
    ON t.task_id = q.task_id
WHERE q.state = 'queued'
"""  # noqa: S608
_RUNNING = "SELECT id, task_id, dedupe_key, started_at FROM runs WHERE state = 'running'"
_BUSY = f"""
FROM (SELECT task_id, COUNT(*) AS n FROM runs WHERE state = 'running' GROUP BY task_id) busy
LEFT JOIN namespaces n ON n.task_id = busy.task_id WHERE {namespaces.IN_SCOPE}
"""  # noqa: S608
_COUNTS = f"SELECT busy.task_id, busy.n {_BUSY}"
_WAITING = f"""
SELECT 1 FROM waiting w LEFT JOIN namespaces n ON n.task_id = w.task_id
WHERE w.task_id IS NOT NULL AND {namespaces.IN_SCOPE}
"""  # noqa: S608
# Running runs are counted only where some run waits.
_WAITS = f"{_TASKS} SELECT (SELECT COALESCE(SUM(busy.n), 0) {_BUSY}) AS running WHERE EXISTS ({_WAITING})"


def is_waiting(tx: Transaction, scope: WorkerScope) -> bool:
    """Return whether there is anything to claim in the scope, apart from limits on running runs."""
    return tx.one(f"{_TASKS} {_WAITING} LIMIT 1", namespaces.parameters(scope)) is not None


def waits(tx: Transaction, scope: WorkerScope, room: Room) -> bool:
    """Return whether there is anything to claim, and room for it, judged without a lock."""
    row = tx.one(_WAITS, namespaces.parameters(scope))
    return row is not None and room(int(row["running"])) > 0


def heads(tx: Transaction, room: Room, place: str, scope: WorkerScope) -> AdmissionView:
    """Return the view for a claim, under the lock: of each task in the scope that could start a run the first few that are due,
    or as many as there is room for; an empty view where there is none."""
    running = {row["task_id"]: row["n"] for row in tx.all(_COUNTS, namespaces.parameters(scope))}
    most = min(HEADS_PER_TASK, room(sum(running.values())))
    if most <= 0:
        return AdmissionView(now=from_micros(tx.now), running=running)
    rows, found = _heads(tx, most, scope)
    odd = {task_id for task_id, (_, last) in found.items() if last > tx.now + quotas.MAX_AHEAD_US}
    if odd:
        for task_id in odd:
            quotas.clamp_future_starts(tx, task_id)
        rows, found = _heads(tx, most, scope)
    return AdmissionView(
        now=from_micros(tx.now),
        waiting=[_waiting(row) for row in rows],
        running=running,
        quotas={task_id: quota for task_id, (quota, _) in found.items()},
        shortages=shortages.every(tx, place),
        heads=most,
    )


def _heads(tx: Transaction, most: int, scope: WorkerScope) -> tuple[list[Row], dict[str, tuple[Quota, int]]]:
    """Return the first rows of each task's queue, and each limited task's quota with the time of its last start."""
    sql = _LATERAL if tx.lateral else _LISTED
    rows = tx.all(sql, {"now": tx.now, "heads": most, "ahead": tx.now + quotas.MAX_AHEAD_US, **namespaces.parameters(scope)})
    found = {row["task_id"]: (quotas.quota_of_row(row), row["last"] or 0) for row in rows if row["start_limit"] is not None}
    return rows, found | _unserved(tx, rows)


def _unserved(tx: Transaction, rows: Sequence[Row]) -> dict[str, tuple[Quota, int]]:
    """Return the quotas of removed tasks, whose queued runs keep the limit of their definition."""
    gone = {row["task_id"]: row["digest"] for row in reversed(rows) if row["served"] is None}
    found = {task_id: quotas.quota_of_definition(tx, task_id, digest) for task_id, digest in gone.items()}
    return {task_id: quota for task_id, quota in found.items() if quota is not None}


def everything(tx: Transaction) -> AdmissionView:
    """Return the whole queue and everything that holds runs back (`Store.admission`)."""
    occupants = sorted(tx.all(_RUNNING), key=lambda row: (row["started_at"] or tx.now, row["id"]))
    running: dict[str, int] = {}
    for row in occupants:
        running[row["task_id"]] = running.get(row["task_id"], 0) + 1
    rows = sorted(tx.all(_ALL), key=lambda row: row["seq"])
    limited = {row["task_id"]: quotas.quota_of_row({**dict(row), "used": 0}) for row in rows if row["start_limit"] is not None}
    limited |= {task_id: quota for task_id, (quota, _) in _unserved(tx, rows).items()}
    return AdmissionView(
        now=from_micros(tx.now),
        waiting=[_waiting(row) for row in rows],
        running=running,
        quotas={task_id: quotas.with_starts(tx, task_id, quota) for task_id, quota in limited.items()},
        pauses=pauses.every(tx),
        shortages=shortages.every(tx),
        namespaces=namespaces.every(tx),
        served=processes.served_namespaces(tx),
        occupants=[from_row(RunningRun, row, run_id=row["id"]) for row in occupants],
        heads=NO_LIMIT,
    )


def _waiting(row: Row) -> QueuedRun:
    return from_row(QueuedRun, row, run_id=row["id"])
