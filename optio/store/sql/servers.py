"""Servers: the generation that each live server serves, and whether its own directory equals it."""

from datetime import timedelta

from optio.store.sql.transaction import Transaction, from_micros
from optio.store.values import ServerRow

# A server without a record for this long is gone; servers write one three times as often.
_GONE_AFTER_US = timedelta(seconds=30) // timedelta(microseconds=1)
_NOTE = (
    "INSERT INTO servers (server, generation_id, in_sync, at) VALUES (:server, :generation, :in_sync, :now) "
    "ON CONFLICT (server) DO UPDATE SET generation_id = excluded.generation_id, in_sync = excluded.in_sync, at = excluded.at"
)
# A record further in the future was written before the clock was set back.
_THERE = "at BETWEEN :gone AND :ahead"


def note(tx: Transaction, server: str, generation: int, in_sync: bool) -> None:
    """Record that a server is alive, and delete records of those that are not (`Store.note_server`)."""
    tx.run(_NOTE, {"server": server, "generation": generation, "in_sync": int(in_sync), "now": tx.now})
    tx.run(f"DELETE FROM servers WHERE NOT ({_THERE})", _bounds(tx))  # noqa: S608


def forget(tx: Transaction, server: str) -> None:
    """Delete the record of a server that shuts down (`Store.forget_server`)."""
    tx.run("DELETE FROM servers WHERE server = :server", {"server": server})


def list_present(tx: Transaction) -> list[ServerRow]:
    """List the live servers (`Store.servers`)."""
    rows = tx.all(f"SELECT * FROM servers WHERE {_THERE} ORDER BY server", _bounds(tx))  # noqa: S608
    return [
        ServerRow(
            server=row["server"], generation=row["generation_id"], in_sync=bool(row["in_sync"]), seen_at=from_micros(row["at"])
        )
        for row in rows
    ]


def _bounds(tx: Transaction) -> dict[str, int]:
    return {"gone": tx.now - _GONE_AFTER_US, "ahead": tx.now + _GONE_AFTER_US}
