"""Replay guards: for each task and signed body, the delivery that brought it first.

A guard is taken in the transaction that inserts the delivery, before the delivery itself. So of several at one moment the
unique key lets one through; the others wait for its commit and find it. Used by `runs` and `deliveries`; `retention` prunes.
"""

from collections.abc import Sequence
from typing import Any

from optio.store.sql.transaction import Row, Transaction, span_in_micros
from optio.store.values import NewDelivery

# A guard older than the window, by the task's present setting, is replaced.
_TAKE = """
INSERT INTO replay_guards (task_id, digest, delivery_id, run_id, at, until) {values}
ON CONFLICT (task_id, digest) DO UPDATE
SET delivery_id = excluded.delivery_id, run_id = excluded.run_id, at = excluded.at, until = excluded.until
WHERE replay_guards.at <= excluded.at - (excluded.until - excluded.at)
"""
_VALUES = ":task_id, :digest, :delivery_id, :run_id, :now, :until"
_TAKE_ONE = _TAKE.format(values=f"VALUES ({_VALUES})")
_TAKE_MANY = _TAKE.format(values=f"SELECT {_VALUES.replace(':', 'lot.')} FROM lot WHERE TRUE")  # noqa: S608
_BULK_COLUMNS = "task_id text, digest text, delivery_id text, run_id text, now bigint, until bigint"
_HOLDER = "SELECT delivery_id, run_id FROM replay_guards WHERE task_id = :task_id AND digest = :digest"
_RELEASE = "DELETE FROM replay_guards WHERE task_id = :task_id AND digest = :digest AND delivery_id = :delivery_id"
_SETTLE = (
    "UPDATE replay_guards SET run_id = :run_id WHERE task_id = :task_id AND digest = :digest AND delivery_id = :delivery_id"
)


def columns(delivery: NewDelivery, run_id: str | None) -> dict[str, Any] | None:
    """Return the row without its times, which depend on the transaction; None for a delivery without a guard."""
    if delivery.guard is None:
        return None
    return {
        "task_id": delivery.task_id,
        "digest": delivery.guard.digest,
        "delivery_id": delivery.id,
        "run_id": run_id,
        "span": span_in_micros(delivery.guard.window),
    }


def take(tx: Transaction, row: dict[str, Any]) -> Row | None:
    """Take the guard; if another delivery holds it, return that one and the run that it started."""
    # The failed insert locks a conflicting guard; if it was deleted all the same, the next pass takes it.
    while not tx.run(_TAKE_ONE, _timed(tx, row)):
        holder = _holder(tx, row)
        if holder is not None:
            return holder
    return None


def take_many(tx: Transaction, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Take guards of different bodies, in the order of the rows; return the ids of the deliveries that hold theirs now."""
    if tx.lot(_TAKE_MANY, _BULK_COLUMNS, [_timed(tx, row) for row in rows]) == len(rows):
        return {row["delivery_id"] for row in rows}
    return {row["delivery_id"] for row in rows if (holder := _holder(tx, row)) and holder["delivery_id"] == row["delivery_id"]}


def release(tx: Transaction, row: dict[str, Any]) -> None:
    """Delete a guard that was taken in this transaction: its delivery starts nothing after all."""
    tx.run(_RELEASE, {name: row[name] for name in ("task_id", "digest", "delivery_id")})


def settle(tx: Transaction, row: dict[str, Any], run_id: str) -> None:
    """Record the run that the delivery was joined to, instead of its own."""
    tx.run(_SETTLE, {"run_id": run_id, **{name: row[name] for name in ("task_id", "digest", "delivery_id")}})


def _holder(tx: Transaction, row: dict[str, Any]) -> Row | None:
    held_row: Row | None = tx.one(_HOLDER, {"task_id": row["task_id"], "digest": row["digest"]})
    return held_row


def _timed(tx: Transaction, row: dict[str, Any]) -> dict[str, Any]:
    times = {name: row[name] for name in ("task_id", "digest", "delivery_id", "run_id")}
    return {**times, "now": tx.now, "until": tx.now + row["span"]}
