"""Chores: what one process at a time does for all, by turns that run out."""

from datetime import timedelta

from optio.store.sql.transaction import Transaction

# Whoever has the turn may take it again; another only when it is over and the pause between two turns has passed.
_TAKE = """
INSERT INTO chores (name, owner, until) VALUES (:name, :owner, :until)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE (chores.until <= :now OR chores.until > :until)
AND (chores.ended_at IS NULL OR chores.ended_at <= :ended OR chores.ended_at > :now)
"""
_HOLD = "UPDATE chores SET until = :until WHERE name = :name AND owner = :owner AND until > :now"
_END = "UPDATE chores SET until = 0, ended_at = :now WHERE name = :name AND owner = :owner AND until > :now"


def take(tx: Transaction, name: str, owner: str, every: timedelta, lease: timedelta) -> bool:
    """See `Store.take_turn`. What lies further ahead than it can was said before the clock was set back."""
    times = {"until": tx.now + _us(lease), "now": tx.now, "ended": tx.now - _us(every)}
    return tx.run(_TAKE, {"name": name, "owner": owner, **times}) == 1


def hold(tx: Transaction, name: str, owner: str, lease: timedelta) -> bool:
    """See `Store.hold_turn`."""
    return tx.run(_HOLD, {"name": name, "owner": owner, "until": tx.now + _us(lease), "now": tx.now}) == 1


def end(tx: Transaction, name: str, owner: str) -> None:
    """See `Store.end_turn`."""
    tx.run(_END, {"name": name, "owner": owner, "now": tx.now})


def progress(tx: Transaction, name: str) -> int:
    """How far the chore has come, in its own measure; 0 at first."""
    row = tx.one("SELECT progress FROM chores WHERE name = :name", {"name": name})
    return 0 if row is None else int(row["progress"])


def advance(tx: Transaction, name: str, to: int) -> None:
    """Note how far it has come; never back."""
    tx.run(
        "INSERT INTO chores (name, owner, until, progress) VALUES (:name, '', 0, :to) "
        "ON CONFLICT (name) DO UPDATE SET progress = excluded.progress WHERE chores.progress < excluded.progress",
        {"name": name, "to": to},
    )


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
