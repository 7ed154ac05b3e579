"""Counts of webhook requests that get no row of their own: repeats of a delivery, and refusals per minute.

A flood costs one row per delivery, and one per minute for each path and verdict. A transaction writes its counts last and in
one order, so that rows in which many servers count are locked briefly, and no two servers deadlock over them. Used by `bulk`
and `store`; `retention` prunes.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Transaction, to_micros
from optio.store.values import MAX_REFUSALS, Refusals

_MINUTE_US = 60_000_000
_REPEATED = """
INSERT INTO delivery_repeats (delivery_id, repeats, replays, at)
SELECT lot.delivery_id, lot.repeats, lot.replays, lot.now FROM lot WHERE TRUE
ON CONFLICT (delivery_id) DO UPDATE SET repeats = delivery_repeats.repeats + excluded.repeats,
    replays = delivery_repeats.replays + excluded.replays, at = excluded.at
"""
_REPEATED_OF = "delivery_id text, repeats bigint, replays bigint, now bigint"
_REFUSED = """
INSERT INTO refused_requests (minute, path, verdict, task_id, requests)
SELECT lot.minute, lot.path, lot.verdict, lot.task_id, lot.requests FROM lot WHERE TRUE
ON CONFLICT (minute, path, verdict) DO UPDATE SET requests = refused_requests.requests + excluded.requests,
    task_id = excluded.task_id
"""
_REFUSED_OF = "minute bigint, path text, verdict text, task_id text, requests bigint"


def write(tx: Transaction) -> None:
    """Write the counts of all operations of this transaction. Call it last."""
    counts = tx.counts
    repeated = sorted(counts.repeats.keys() | counts.replays.keys())
    if repeated:
        rows = [
            {"delivery_id": count, "repeats": counts.repeats[count], "replays": counts.replays[count], "now": tx.now}
            for count in repeated
        ]
        tx.lot(_REPEATED, _REPEATED_OF, rows)
    if counts.refusals:
        minute = tx.now - tx.now % _MINUTE_US
        by_path: dict[tuple[str, str], dict[str, Any]] = {}
        for (path, verdict, task_id), requests in sorted(counts.refusals.items()):
            row = by_path.setdefault((path, verdict), {"minute": minute, "path": path, "verdict": verdict, "requests": 0})
            row["task_id"], row["requests"] = task_id, row["requests"] + requests
        tx.lot(_REFUSED, _REFUSED_OF, list(by_path.values()))


def count_repeat(tx: Transaction, delivery_id: str) -> None:
    """Count a repeat of a delivery (`Store.count_repeat`)."""
    tx.counts.repeats[delivery_id] += 1


def count_refusals(tx: Transaction, counts: Mapping[tuple[str, str, str], int]) -> None:
    """Add to the counts of refused requests (`Store.count_refusals`)."""
    tx.counts.refusals.update(counts)


def refusals(
    tx: Transaction,
    *,
    since: datetime,
    until: datetime | None = None,
    task_id: str | None = None,
    path: str | None = None,
    verdict: str | None = None,
) -> list[Refusals]:
    """Return the counted refusals of a span, summed by path, verdict and task, the largest first (`Store.refusals`)."""
    conditions = ["minute >= :since"]
    params: dict[str, Any] = {"since": to_micros(since) - to_micros(since) % _MINUTE_US, "most": MAX_REFUSALS}
    if until is not None:
        conditions.append("minute <= :until")
        params["until"] = to_micros(until)
    for column, value in (("task_id", task_id), ("path", path), ("verdict", verdict)):
        if value is not None:
            conditions.append(f"{column} = :{column}")
            params[column] = value
    rows = tx.all(
        "SELECT path, verdict, task_id, SUM(requests) AS total, MIN(minute) AS first, MAX(minute) AS last "  # noqa: S608
        f"FROM refused_requests WHERE {' AND '.join(conditions)} GROUP BY path, verdict, task_id "
        "ORDER BY total DESC, path, verdict LIMIT :most",
        params,
    )
    return [from_row(Refusals, row, requests=int(row["total"])) for row in rows]
