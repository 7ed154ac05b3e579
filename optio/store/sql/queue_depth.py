"""Queue depths: how many runs of each task are queued and running, read from the small indexes of runs that have not ended."""

from optio.store.sql.transaction import Transaction, optional_from_micros
from optio.store.values import QueueDepth

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


def every(tx: Transaction) -> list[QueueDepth]:
    """Return the queue depth of every task with such runs (`Store.depths`)."""
    return [
        QueueDepth(
            task_id=row["task_id"],
            queued=int(row["queued"]),
            running=int(row["running"]),
            oldest=optional_from_micros(row["oldest"]),
        )
        for row in tx.all(_DEPTHS)
    ]
