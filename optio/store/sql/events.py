"""State changes of runs: the only code that writes a run's state, by the table in `model.run`, each change with an event
row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optio.errors import Conflict
from optio.model.run import RunChange, RunState, next_state
from optio.store.sql import daily_totals
from optio.store.sql.transaction import BulkRows, Row, Transaction

_INSERT = (
    "INSERT INTO events (run_id, seq, from_state, to_state, reason, message, actor, at) "
    "VALUES (:run_id, :seq, :from_state, :to_state, :reason, :message, :actor, :at)"
)
_CREATED = """
INSERT INTO events (run_id, seq, from_state, to_state, reason, message, actor, at)
SELECT lot.run_id, 1, NULL, 'queued', lot.reason, '', lot.actor, :now FROM lot
"""
_CREATED_COLUMNS = "run_id text, reason text, actor text"
_CHANGED = """
INSERT INTO events (run_id, seq, from_state, to_state, reason, message, actor, at)
SELECT lot.id, lot.seq, lot.old_state, lot.state, lot.reason, lot.message, lot.actor, :now FROM lot
"""
_CHANGED_COLUMNS = "id text, seq bigint, old_state text, state text, reason text, message text, actor text"
# The text columns that a change may set; all others are numbers.
_TEXTS = {
    "state", "reason", "message", "owner", "place", "result_text", "result_json", "usage", "cost", "cost_source",
    "cost_before",
}  # fmt: skip


def record_creation(tx: Transaction, run_id: str, trigger: str, actor: str, message: str = "") -> None:
    """Insert the first event of a run: queued, with its trigger as the reason."""
    tx.run(_INSERT, _first(tx, run_id, trigger, actor, message))


def creation_rows(created_runs: Iterable[tuple[str, str, str]]) -> BulkRows:
    """Return the rows of the first events of many runs, given as (run id, trigger, actor), for `record_creations`."""
    return BulkRows(
        _CREATED_COLUMNS, [{"run_id": run_id, "reason": trigger, "actor": actor} for run_id, trigger, actor in created_runs]
    )


def record_creations(tx: Transaction, births: BulkRows) -> None:
    """Insert the first events of many runs in one statement."""
    tx.bulk_run(_CREATED, births, {"now": tx.now})


def _first(tx: Transaction, run_id: str, trigger: str, actor: str, message: str) -> dict[str, Any]:
    return {
        "run_id": run_id, "seq": 1, "from_state": None, "to_state": RunState.QUEUED.value,
        "reason": trigger, "message": message, "actor": actor, "at": tx.now,
    }  # fmt: skip


def reason_of(tx: Transaction, run_id: str, seq: int) -> str | None:
    """Return the reason of a run's event; None when there is no such event."""
    row = tx.one("SELECT reason FROM events WHERE run_id = :id AND seq = :seq", {"id": run_id, "seq": seq})
    return None if row is None else row["reason"]


def record_starts(tx: Transaction, starts: Sequence[Mapping[str, Any]]) -> None:
    """Record that agents began: each `began` then, as the `event` with that number of the run `id`. No state changes by it."""
    state = RunState.RUNNING.value
    rows = [
        {
            "run_id": start["id"], "seq": start["event"], "from_state": state, "to_state": state, "reason": "started",
            "message": "", "actor": start["actor"] or "worker", "at": start["began"],
        }
        for start in starts
    ]  # fmt: skip
    if rows:
        tx.many(_INSERT, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A change to a run's row, which was read and is locked since; `columns` are set together with the state."""

    row: Row
    change: RunChange
    reason: str
    actor: str
    message: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)

    def state(self) -> RunState:
        """Return the state that the change leads to; raise Conflict when the table forbids it."""
        state = RunState(self.row["state"])
        new = next_state(state, self.change)
        if new is None:
            raise Conflict(f"the run is {state}: it cannot {self.change.value.replace('-', ' ')}")
        return new


def change_state(
    tx: Transaction,
    row: Row,
    change: RunChange,
    *,
    reason: str,
    actor: str,
    message: str = "",
    columns: Mapping[str, Any] | None = None,
) -> RunState:
    """Apply a change to a run's row, as a compare-and-set on (state, fence), and return the new state; raise Conflict when the
    table forbids it."""
    move = StateChange(row=row, change=change, reason=reason, actor=actor, message=message, columns=columns or {})
    return change_states(tx, [move])[0]


def change_states(tx: Transaction, moves: Sequence[StateChange]) -> list[RunState]:
    """Apply changes to many runs, all of which set the same columns, in two statements however many they are."""
    if not moves:
        return []
    states = [move.state() for move in moves]
    rows = [
        {
            **move.columns,
            "id": move.row["id"], "state": state.value, "reason": move.reason, "message": move.message, "actor": move.actor,
            "old_state": move.row["state"], "old_fence": move.row["fence"], "seq": move.row["last_event"] + 1,
        }
        for move, state in zip(moves, states, strict=True)
    ]  # fmt: skip
    names = ["state", "reason", "message", *moves[0].columns]
    assignments = ", ".join(f"{name} = lot.{name}" for name in names)
    types = ", ".join(f"{name} {'text' if name in _TEXTS else 'bigint'}" for name in names)
    changed_ids = tx.lot(
        f"UPDATE runs SET {assignments}, last_event = lot.seq FROM lot "  # noqa: S608 - column names are ours
        "WHERE runs.id = lot.id AND runs.state = lot.old_state AND runs.fence = lot.old_fence",
        f"id text, old_state text, old_fence bigint, seq bigint, {types}",
        rows,
    )
    if changed_ids != len(moves):
        raise Conflict("the run changed at the same moment: try again")
    tx.bulk_run(_CHANGED, BulkRows(_CHANGED_COLUMNS, rows), {"now": tx.now})
    for move, state in zip(moves, states, strict=True):
        if state.terminal or move.change is RunChange.RETRY_BY_HAND:
            daily_totals.count_state(tx, move.row, state, move.columns["ended_at"])
    return states


# The run returns to its state before the last event, except for the used attempt number and fence.
_TAKE_BACK = """
UPDATE runs SET state = 'queued', reason = :reason, message = :message, last_event = last_event - 1{columns}
WHERE id = :id AND state = :state AND fence = :fence
"""


def revert_last_event(tx: Transaction, move: StateChange) -> None:
    """Apply a change that leads back to the state before the run's last event, and delete that event instead of adding one. So
    a run that waits for a day has as many events as one that waits for a minute. Raise Conflict as `change_state` does."""
    move.state()
    event_key = {"id": move.row["id"], "seq": move.row["last_event"], "state": move.row["state"], "fence": move.row["fence"]}
    columns = "".join(f", {name} = :{name}" for name in move.columns)
    values = {**event_key, **move.columns, "reason": move.reason, "message": move.message}
    if tx.run(_TAKE_BACK.format(columns=columns), values) != 1:
        raise Conflict("the run changed at the same moment: try again")
    tx.run("DELETE FROM events WHERE run_id = :id AND seq = :seq", event_key)
