"""Quotas: how many runs of a task have started in the window of its start limit.

The count is exact, since each start is a row written in the transaction of its claim, under the lock that all claims take.
"""

import json
from datetime import timedelta
from typing import Any

from optio.model.text import parse_duration
from optio.store.sql.transaction import Row, Transaction, from_micros, span_in_micros
from optio.store.values import Quota

# A start may be this much later than `now`, if its claim began later and got the lock first. Beyond it the clock was set back.
MAX_AHEAD_US = 10_000_000
_USED = "SELECT COUNT(*) AS used, MAX(at) AS last FROM starts WHERE task_id = :task_id AND at > :since"
_STARTS = "SELECT at, run_id FROM starts WHERE task_id = :task_id AND at > :since ORDER BY at, run_id"
_OLD = "DELETE FROM starts WHERE task_id = :task_id AND at <= :old"
_NEW = "INSERT INTO starts (task_id, at, run_id) VALUES (:task_id, :at, :run_id) ON CONFLICT DO NOTHING"

_TAKE_BACK = """
DELETE FROM starts WHERE task_id = :task_id AND run_id = :run_id
AND at = (SELECT MAX(s.at) FROM starts s WHERE s.task_id = :task_id AND s.run_id = :run_id)
"""


def quota_of_row(row: Row) -> Quota:
    """Return the quota in the columns `start_limit`, `start_window` and `used`."""
    return Quota(count=row["start_limit"], window=timedelta(microseconds=row["start_window"]), used=row["used"])


def quota_of_definition(tx: Transaction, task_id: str, digest: str) -> tuple[Quota, int] | None:
    """Return the quota of a task that is no longer served, from one of its definitions, and the time of its last start; None
    without a limit."""
    kept = tx.one("SELECT document FROM definitions WHERE digest = :digest", {"digest": digest})
    written: Any = json.loads(kept["document"])["spec"].get("startLimit")
    if written is None:
        return None
    window = parse_duration(written["per"])
    row = tx.one(_USED, {"task_id": task_id, "since": tx.now - span_in_micros(window)})
    return Quota(count=written["count"], window=window, used=row["used"]), row["last"] or 0


def with_starts(tx: Transaction, task_id: str, quota: Quota) -> Quota:
    """Return the quota with the starts that count in it. A start in the future counts as just now."""
    rows = tx.all(_STARTS, {"task_id": task_id, "since": tx.now - span_in_micros(quota.window)})
    starts = tuple((from_micros(min(row["at"], tx.now)), row["run_id"]) for row in rows)
    return Quota(count=quota.count, window=quota.window, used=len(starts), starts=starts)


def count_start(tx: Transaction, task_id: str, run_id: str, quota: Quota) -> None:
    """Record a start, and delete those that have left the window."""
    tx.run(_OLD, {"task_id": task_id, "old": tx.now - span_in_micros(quota.window)})
    _insert(tx, task_id, run_id, tx.now)


def uncount_start(tx: Transaction, task_id: str, run_id: str) -> None:
    """Delete the last start of a run that was given back before its agent began."""
    tx.run(_TAKE_BACK, {"task_id": task_id, "run_id": run_id})


def clamp_future_starts(tx: Transaction, task_id: str) -> None:
    """Shift starts that lie in the future back to now at the latest, after the clock was set back, so that no run waits longer
    than one window."""
    future = tx.all("SELECT at, run_id FROM starts WHERE task_id = :task_id AND at > :now", {"task_id": task_id, "now": tx.now})
    by = max(row["at"] for row in future) - tx.now
    tx.run("DELETE FROM starts WHERE task_id = :task_id AND at > :now", {"task_id": task_id, "now": tx.now})
    for row in future:
        _insert(tx, task_id, row["run_id"], row["at"] - by)


def _insert(tx: Transaction, task_id: str, run_id: str, at: int) -> None:
    # Two starts of one run at one instant are two starts.
    while not tx.run(_NEW, {"task_id": task_id, "run_id": run_id, "at": at}):
        at -= 1
