"""Business keys: the one run that holds each key, however many requests come at once.

A request that finds a run holding the key changes nothing and waits for no lock. A run's row is always locked before the row of
its key.
"""

from dataclasses import dataclass
from typing import Any

from optio.errors import Conflict
from optio.model.run import RunChange, RunState
from optio.model.task import Dedupe
from optio.store.sql import events
from optio.store.sql.transaction import Row, Transaction, span_in_micros

_ACTIVE = (RunState.QUEUED, RunState.RUNNING)
_STANDS = """
SELECT d.run_id, d.until, r.state FROM dedupe d LEFT JOIN runs r ON r.id = d.run_id
WHERE d.task_id = :task_id AND d.dedupe_key = :key
"""
_FIRST = (
    "INSERT INTO dedupe (task_id, dedupe_key, run_id, until) VALUES (:task_id, :key, :run_id, :until) "
    "ON CONFLICT (task_id, dedupe_key) DO NOTHING"
)
_NEXT = (
    "UPDATE dedupe SET run_id = :run_id, until = :until WHERE task_id = :task_id AND dedupe_key = :key AND run_id = :standing"
)
_FORGET = "DELETE FROM dedupe WHERE task_id = :task_id AND dedupe_key = :key AND run_id = :run_id"
_WAITS = "SELECT id, task_id, state, fence, last_event, started_at, ended_at FROM runs WHERE id = :id"
_OVER = """
SELECT d.task_id, d.dedupe_key AS key, d.run_id FROM dedupe d LEFT JOIN runs r ON r.id = d.run_id
WHERE d.until <= :now AND (r.state IS NULL OR r.state NOT IN ('queued', 'running')) LIMIT :most
"""


@dataclass(frozen=True, slots=True)
class DedupeResult:
    """The result of taking a key: the run of which this one is a duplicate, or the queued run that was superseded, or
    neither."""

    duplicate_of: str | None = None
    superseded: str | None = None


@dataclass(frozen=True, slots=True)
class DedupeKey:
    """The business key that a new run asks for, and the `dedupe` rule of its task."""

    task_id: str
    key: str
    rule: Dedupe
    run_id: str
    actor: str

    def take(self, tx: Transaction) -> DedupeResult:
        """Take the key for the new run, unless a run holds it that the rule does not replace."""
        window = self.rule.window_span
        until = None if window is None else tx.now + span_in_micros(window)
        key_row: dict[str, Any] = {"task_id": self.task_id, "key": self.key, "run_id": self.run_id, "until": until}
        superseded: str | None = None
        # Each pass that fails means that another transaction has changed the key at this moment.
        while True:
            row = tx.one(_STANDS, {"task_id": self.task_id, "key": self.key})
            if row is None:
                if tx.run(_FIRST, key_row):
                    return DedupeResult(superseded=superseded)
                continue
            if self.rule.on_duplicate == "replace":
                if row["state"] == RunState.QUEUED and self._supersede(tx, row["run_id"]):
                    superseded = row["run_id"]
            elif _is_standing(row, tx.now):
                return DedupeResult(duplicate_of=row["run_id"])
            if tx.run(_NEXT, {**key_row, "standing": row["run_id"]}):
                return DedupeResult(superseded=superseded)

    def _supersede(self, tx: Transaction, run_id: str) -> bool:
        row = tx.hold(_WAITS, {"id": run_id})
        if row is None or row["state"] != RunState.QUEUED:
            return False
        message = f"run {self.run_id} has the same key and takes its place"
        events.change_state(
            tx, row, RunChange.CANCEL, reason="superseded", actor=self.actor, message=message, columns={"ended_at": tx.now}
        )
        return True


def _is_standing(row: Row, now: int) -> bool:
    if row["state"] is None:
        return False  # the run was deleted, so no request can be answered with it
    return row["state"] in _ACTIVE or (row["until"] is not None and row["until"] > now)


def release(tx: Transaction, run: Row) -> None:
    """Free the key of a run that has ended, unless the rule's window keeps it for some time."""
    if run["dedupe_key"] is not None:
        tx.run(f"{_FORGET} AND (until IS NULL OR until <= :now)", {**_key_of(run), "now": tx.now})


def successor_of(tx: Transaction, run: Row) -> str | None:
    """Return the active run that has taken this one's key while it was running; None if none has."""
    if run["dedupe_key"] is None:
        return None
    row = tx.one(_STANDS, {"task_id": run["task_id"], "key": run["dedupe_key"]})
    return row["run_id"] if row is not None and row["run_id"] != run["id"] and row["state"] in _ACTIVE else None


def retake(tx: Transaction, run: Row) -> None:
    """Take the key of an ended run that is to be queued again; raise Conflict when another run with the key is active."""
    if run["dedupe_key"] is None:
        return
    key_row = {**_key_of(run), "until": None}
    while True:
        row = tx.one(_STANDS, {"task_id": run["task_id"], "key": run["dedupe_key"]})
        if row is None:
            if tx.run(_FIRST, key_row):
                return
        elif row["run_id"] != run["id"] and row["state"] in _ACTIVE:
            raise Conflict(f"run {row['run_id']} with the same key is {row['state']}: wait for it, or cancel it")
        elif tx.run(_NEXT, {**key_row, "standing": row["run_id"]}):
            return


def prune(tx: Transaction, most: int) -> int:
    """Delete keys whose window is over and whose runs have ended, at most `most`; return their number."""
    # Each with its condition again: a key that a run has taken at this moment is not over.
    over = [{**dict(row), "now": tx.now} for row in tx.all(_OVER, {"now": tx.now, "most": most})]
    return tx.many(f"{_FORGET} AND until <= :now", over)


def _key_of(run: Row) -> dict[str, Any]:
    return {"task_id": run["task_id"], "key": run["dedupe_key"], "run_id": run["id"]}
