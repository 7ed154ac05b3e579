"""Counts of webhook requests that get no row of their own: repeats of a delivery, and refusals in each minute.

A flood costs one row for a delivery, and one a minute for each path and verdict. Used by `deliveries` and `store`; `retention`
prunes.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from optio.store.base import MAX_REFUSALS, Refusals
from optio.store.sql.transaction import Transaction, micros, when

_MINUTE = 60_000_000
_REPEAT = """
INSERT INTO delivery_repeats (delivery_id, repeats, replays, at) VALUES (:delivery_id, :repeats, :replays, :now)
ON CONFLICT (delivery_id) DO UPDATE SET repeats = delivery_repeats.repeats + excluded.repeats,
    replays = delivery_repeats.replays + excluded.replays, at = excluded.at
"""
_REFUSE = """
INSERT INTO refused_requests (minute, path, verdict, task_id, requests) VALUES (:minute, :path, :verdict, :task_id, :requests)
ON CONFLICT (minute, path, verdict) DO UPDATE SET requests = refused_requests.requests + excluded.requests,
    task_id = excluded.task_id
"""


def count_repeat(tx: Transaction, delivery_id: str) -> None:
    """Count a request that had the id and the body of this delivery."""
    tx.run(_REPEAT, {"delivery_id": delivery_id, "repeats": 1, "replays": 0, "now": tx.now})


def count_replay(tx: Transaction, delivery_id: str) -> None:
    """Count a request that had the signed body of this delivery under another id."""
    tx.run(_REPEAT, {"delivery_id": delivery_id, "repeats": 0, "replays": 1, "now": tx.now})


def count_refusals(tx: Transaction, counts: Mapping[tuple[str, str, str], int]) -> None:
    """Add to the counts of this minute; the keys are (path, verdict, task id)."""
    minute = tx.now - tx.now % _MINUTE
    # In one order, so that no two servers wait for each other crosswise.
    rows = [
        {"minute": minute, "path": path, "verdict": verdict, "task_id": task_id, "requests": count}
        for (path, verdict, task_id), count in sorted(counts.items())
    ]
    tx.many(_REFUSE, rows)


def refusals(
    tx: Transaction, since: datetime, until: datetime | None, task_id: str | None, path: str | None, verdict: str | None
) -> list[Refusals]:
    """Return the sums of a time by path, verdict and task, the largest first."""
    conditions = ["minute >= :since"]
    params: dict[str, Any] = {"since": micros(since) - micros(since) % _MINUTE, "most": MAX_REFUSALS}
    if until is not None:
        conditions.append("minute <= :until")
        params["until"] = micros(until)
    for column, wanted in (("task_id", task_id), ("path", path), ("verdict", verdict)):
        if wanted is not None:
            conditions.append(f"{column} = :{column}")
            params[column] = wanted
    rows = tx.all(
        "SELECT path, verdict, task_id, SUM(requests) AS total, MIN(minute) AS first, MAX(minute) AS last "  # noqa: S608
        f"FROM refused_requests WHERE {' AND '.join(conditions)} GROUP BY path, verdict, task_id "
        "ORDER BY total DESC, path, verdict LIMIT :most",
        params,
    )
    return [
        Refusals(
            path=row["path"],
            verdict=row["verdict"],
            task_id=row["task_id"],
            requests=int(row["total"]),
            first=when(row["first"]),
            last=when(row["last"]),
        )
        for row in rows
    ]
