"""The one place where a run changes its state: by the table, with an event row."""

from collections.abc import Iterable, Mapping
from typing import Any

from optio.errors import Conflict
from optio.model.run import Change, RunState, after
from optio.store.sql.transaction import Lot, Row, Transaction

_INSERT = (
    "INSERT INTO events (run_id, seq, from_state, to_state, reason, message, actor, at) "
    "VALUES (:run_id, :seq, :from_state, :to_state, :reason, :message, :actor, :at)"
)
_BORN = """
INSERT INTO events (run_id, seq, from_state, to_state, reason, message, actor, at)
SELECT lot.run_id, 1, NULL, 'queued', lot.reason, '', lot.actor, :now FROM lot
"""
_BORN_OF = "run_id text, reason text, actor text"


def born(tx: Transaction, run_id: str, trigger: str, actor: str) -> None:
    """The first event of a run."""
    tx.run(_INSERT, _first(tx, run_id, trigger, actor))


def births(born: Iterable[tuple[str, str, str]]) -> Lot:
    """The first events of many runs: (run id, trigger, actor)."""
    return Lot(_BORN_OF, [{"run_id": run_id, "reason": trigger, "actor": actor} for run_id, trigger, actor in born])


def born_many(tx: Transaction, births: Lot) -> None:
    """Keep them."""
    tx.lay(_BORN, births, {"now": tx.now})


def _first(tx: Transaction, run_id: str, trigger: str, actor: str) -> dict[str, Any]:
    return {
        "run_id": run_id, "seq": 1, "from_state": None, "to_state": RunState.QUEUED.value,
        "reason": trigger, "message": "", "actor": actor, "at": tx.now,
    }  # fmt: skip


def move(
    tx: Transaction,
    row: Row,
    change: Change,
    *,
    reason: str,
    actor: str,
    message: str = "",
    columns: Mapping[str, Any] | None = None,
) -> RunState:
    """Apply a change to a run's row, as a compare-and-set on (state, fence); raises Conflict when the table forbids it."""
    state = RunState(row["state"])
    new = after(state, change)
    if new is None:
        raise Conflict(f"the run is {state}: it cannot {change.value.replace('-', ' ')}")
    values = {"state": new.value, "reason": reason, "message": message, **(columns or {})}
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    changed = tx.run(
        f"UPDATE runs SET {assignments}, last_event = last_event + 1 "  # noqa: S608 - column names are ours
        "WHERE id = :run_id AND state = :old_state AND fence = :old_fence",
        {**values, "run_id": row["id"], "old_state": state.value, "old_fence": row["fence"]},
    )
    if changed != 1:
        raise Conflict("the run changed at the same moment: look again")
    tx.run(
        _INSERT,
        {
            "run_id": row["id"], "seq": row["last_event"] + 1, "from_state": state.value, "to_state": new.value,
            "reason": reason, "message": message, "actor": actor, "at": tx.now,
        },
    )  # fmt: skip
    return new
