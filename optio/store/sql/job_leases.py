"""Job leases: periodic jobs such as pruning that one process at a time does for all. The table is called `chores`."""

from datetime import timedelta

from optio.store.sql.transaction import Transaction, span_in_micros

# The holder may take its lease again; another owner only when it is over and the pause between two turns has passed.
_TAKE = """
INSERT INTO chores (name, owner, until) VALUES (:name, :owner, :until)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE (chores.until <= :now OR chores.until > :until)
AND (chores.ended_at IS NULL OR chores.ended_at <= :ended OR chores.ended_at > :now)
"""
_HOLD = "UPDATE chores SET until = :until WHERE name = :name AND owner = :owner AND until > :now"
_END = "UPDATE chores SET until = 0, ended_at = :now WHERE name = :name AND owner = :owner AND until > :now"


def take(tx: Transaction, name: str, owner: str, every: timedelta, lease: timedelta) -> bool:
    """Take a job lease if it is free and due (`Store.acquire_job_lease`). A lease or end that lies too far in the future was
    written before the clock was set back, and does not count."""
    times = {"until": tx.now + span_in_micros(lease), "now": tx.now, "ended": tx.now - span_in_micros(every)}
    return tx.run(_TAKE, {"name": name, "owner": owner, **times}) == 1


def hold(tx: Transaction, name: str, owner: str, lease: timedelta) -> bool:
    """Extend a job lease (`Store.renew_job_lease`)."""
    return tx.run(_HOLD, {"name": name, "owner": owner, "until": tx.now + span_in_micros(lease), "now": tx.now}) == 1


def end(tx: Transaction, name: str, owner: str) -> None:
    """Release a job lease (`Store.release_job_lease`)."""
    tx.run(_END, {"name": name, "owner": owner, "now": tx.now})


def progress(tx: Transaction, name: str) -> int:
    """Return how far the job has come, in its own measure; 0 at first."""
    row = tx.one("SELECT progress FROM chores WHERE name = :name", {"name": name})
    return 0 if row is None else int(row["progress"])


def advance(tx: Transaction, name: str, to: int) -> None:
    """Record how far the job has come; never backwards."""
    tx.run(
        "INSERT INTO chores (name, owner, until, progress) VALUES (:name, '', 0, :to) "
        "ON CONFLICT (name) DO UPDATE SET progress = excluded.progress WHERE chores.progress < excluded.progress",
        {"name": name, "to": to},
    )
