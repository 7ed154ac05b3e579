"""The parts of an installation that are alive, by the records that they leave: for people who look at its health."""

from optio.store.sql.namespaces import alive_bounds
from optio.store.sql.transaction import Transaction, from_micros, optional_from_micros
from optio.store.values import JobRow, LiveParts, WorkerRow

_WORKERS = "SELECT worker, namespace, at FROM workers WHERE at BETWEEN :gone AND :ahead"
_OWNERS = "SELECT owner, COUNT(*) AS running, MIN(lease_until) AS until FROM runs WHERE state = 'running' GROUP BY owner"
_JOBS = "SELECT name, owner, until, ended_at FROM chores WHERE owner <> '' ORDER BY name"


def read(tx: Transaction) -> LiveParts:
    """Return all parts (`Store.live_parts`)."""
    seen = {row["worker"]: row for row in tx.all(_WORKERS, alive_bounds(tx))}
    owned = {row["owner"]: row for row in tx.all(_OWNERS) if row["owner"]}
    workers = []
    for name in sorted({*seen, *owned}):
        note, runs = seen.get(name), owned.get(name)
        workers.append(
            WorkerRow(
                worker=name,
                namespace=None if note is None else note["namespace"],
                seen_at=None if note is None else from_micros(note["at"]),
                running=0 if runs is None else runs["running"],
                lease_until=None if runs is None else optional_from_micros(runs["until"]),
            )
        )
    jobs = [
        JobRow(
            job=row["name"],
            owner=row["owner"],
            lease_until=from_micros(row["until"]) if row["until"] > tx.now else None,
            ended_at=optional_from_micros(row["ended_at"]),
        )
        for row in tx.all(_JOBS)
    ]
    first = tx.one("SELECT MIN(next_fire) AS at FROM schedules")
    due = None if first is None else optional_from_micros(first["at"])
    return LiveParts(now=from_micros(tx.now), workers=workers, jobs=jobs, next_fire=due)
