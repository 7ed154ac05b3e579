"""Servers: what each serves, and whether its own directory holds the same."""

from datetime import timedelta

from optio.store.sql.transaction import Transaction, from_micros
from optio.store.values import ServerRow

# A server that has not said for so long that it is there is gone; it says so three times as often.
_GONE_AFTER_US = timedelta(seconds=30) // timedelta(microseconds=1)
_NOTE = (
    "INSERT INTO servers (server, generation_id, in_sync, at) VALUES (:server, :generation, :in_sync, :now) "
    "ON CONFLICT (server) DO UPDATE SET generation_id = excluded.generation_id, in_sync = excluded.in_sync, at = excluded.at"
)
# What was said further ahead than this was said before the clock was set back.
_THERE = "at BETWEEN :gone AND :ahead"


def note(tx: Transaction, server: str, generation: int, in_sync: bool) -> None:
    """Note that a server is there, and forget those that are not (`Store.note_server`)."""
    tx.run(_NOTE, {"server": server, "generation": generation, "in_sync": int(in_sync), "now": tx.now})
    tx.run(f"DELETE FROM servers WHERE NOT ({_THERE})", _bounds(tx))  # noqa: S608


def forget(tx: Transaction, server: str) -> None:
    """Forget a server that goes (`Store.forget_server`)."""
    tx.run("DELETE FROM servers WHERE server = :server", {"server": server})


def list_present(tx: Transaction) -> list[ServerRow]:
    """List the servers that are there (`Store.servers`)."""
    rows = tx.all(f"SELECT * FROM servers WHERE {_THERE} ORDER BY server", _bounds(tx))  # noqa: S608
    return [
        ServerRow(
            server=row["server"], generation=row["generation_id"], in_sync=bool(row["in_sync"]), seen_at=from_micros(row["at"])
        )
        for row in rows
    ]


def _bounds(tx: Transaction) -> dict[str, int]:
    return {"gone": tx.now - _GONE_AFTER_US, "ahead": tx.now + _GONE_AFTER_US}
