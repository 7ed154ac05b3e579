"""Figures of each task for the metrics: its queue depth, read from the small indexes of runs that have not ended, and its last
ends, one look into an index each."""

from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Transaction
from optio.store.values import LastEnd, QueueDepth

_DEPTHS = """
SELECT n.task_id, n.queued, n.running, r.queued_at AS oldest FROM (
    SELECT task_id, SUM(queued) AS queued, SUM(running) AS running, MIN(first) AS first FROM (
        SELECT task_id, COUNT(*) AS queued, 0 AS running, MIN(seq) AS first FROM runs WHERE state = 'queued' GROUP BY task_id
        UNION ALL
        SELECT task_id, 0, COUNT(*), NULL FROM runs WHERE state = 'running' GROUP BY task_id
    ) each_state GROUP BY task_id
) n LEFT JOIN runs r ON r.seq = n.first
ORDER BY n.task_id
"""

_LAST_ENDS = """
SELECT task_id, state, ended_at AS at FROM (
    SELECT t.task_id, s.state, (
        SELECT r.ended_at FROM runs r WHERE r.task_id = t.task_id AND r.state = s.state AND r.ended_at IS NOT NULL
        ORDER BY r.seq DESC LIMIT 1
    ) AS ended_at
    FROM tasks t CROSS JOIN (SELECT 'completed' AS state UNION ALL SELECT 'failed') s
) each_state WHERE ended_at IS NOT NULL ORDER BY task_id, state
"""


def every(tx: Transaction) -> list[QueueDepth]:
    """Return the queue depth of every task with such runs (`Store.depths`)."""
    return [from_row(QueueDepth, row, queued=int(row["queued"]), running=int(row["running"])) for row in tx.all(_DEPTHS)]


def last_ends(tx: Transaction) -> list[LastEnd]:
    """Return when the newest completed and failed run of each served task ended (`Store.last_ends`)."""
    return [from_row(LastEnd, row) for row in tx.all(_LAST_ENDS)]
