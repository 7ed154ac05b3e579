"""Warm pools and starts: the served tasks that want warm pods, the reports on pools, and how attempts began."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from optio.model.pool import PROCESS, Pool
from optio.model.registry import CompiledTask
from optio.model.run import AgentPod, Lease
from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Transaction, dump_json, from_micros, span_in_micros, to_micros
from optio.store.values import AgentStart, ClaimedAttempt, PlacedStart, PooledTasks, PoolReport

log = logging.getLogger(__name__)
# A place without news for this long no longer exists.
_FORGET_AFTER = timedelta(days=1)
_NEWEST = "SELECT COALESCE(MAX(id), 0) AS id FROM generations"
# A text search in canonical JSON. It finds some definitions without a pool too, which the reader filters out.
_POOLED = """
SELECT d.document FROM tasks t JOIN definitions d ON d.digest = t.digest
WHERE REPLACE(d.document, '"warmPoolSize":0', '') LIKE '%"warmPoolSize":%' ORDER BY t.task_id
"""
_BEGUN = """
INSERT INTO begun (run_id, number, task_id, how, at, waited)
SELECT a.run_id, a.number, r.task_id, lot.how, lot.began, lot.began - a.started_at
FROM lot JOIN attempts a ON a.run_id = lot.id AND a.number = lot.number JOIN runs r ON r.id = a.run_id
WHERE TRUE ON CONFLICT (run_id, number) DO NOTHING
"""
_BEGUN_OF = "id text, number bigint, how text, began bigint"
_BEGAN_AT = "SELECT agent_started_at FROM attempts WHERE run_id = :id AND number = :number"
_NOTE_POD = """
INSERT INTO attempt_pods (run_id, number, namespace, pod, node, image)
SELECT id, attempt, CAST(:namespace AS TEXT), CAST(:pod AS TEXT), CAST(:node AS TEXT), CAST(:image AS TEXT) FROM runs
WHERE id = :id AND state = 'running' AND fence = :fence
ON CONFLICT (run_id, number) DO UPDATE SET namespace = excluded.namespace, pod = excluded.pod, node = excluded.node,
    image = excluded.image
"""
_STARTS = """
SELECT task_id, how, at, waited FROM begun WHERE at > :since ORDER BY at DESC LIMIT :most
"""
_ARRIVED = "SELECT r.task_id, r.run_trigger, a.started_at, a.agent_started_at, a.ended_at"
# A task's runs by their end, through the index of all ends: the index of the task's own runs may be much longer.
_ARRIVALS = """
{arrived} FROM (
    SELECT id, task_id, run_trigger FROM runs WHERE ended_at > :since{of_task} ORDER BY ended_at DESC LIMIT :most
) r JOIN attempts a ON a.run_id = r.id WHERE a.started_at > :since
UNION ALL {arrived} FROM runs r JOIN attempts a ON a.run_id = r.id
WHERE r.state = 'running' AND a.started_at > :since{of_task}
UNION ALL {arrived} FROM runs r JOIN attempts a ON a.run_id = r.id
WHERE r.state = 'queued' AND r.attempt > 0 AND a.started_at > :since{of_task}
ORDER BY started_at DESC LIMIT :most
"""


def newest(tx: Transaction) -> int:
    """Return the id of the newest generation; 0 without any (`Store.newest_generation`)."""
    number: int = tx.one(_NEWEST)["id"]
    return number


def pooled_tasks(tx: Transaction) -> PooledTasks:
    """Return the served tasks that want warm pods (`Store.pooled_tasks`)."""
    tasks = [task for row in tx.all(_POOLED) if (task := _read(row["document"])) is not None and task.spec.warm_pool_size]
    return PooledTasks(generation=newest(tx), tasks=tasks)


def _read(document: str) -> CompiledTask | None:
    """Return the task, or None where a newer version has written keys that this one does not know: the other tasks have their
    pools all the same."""
    try:
        return CompiledTask.from_json(json.loads(document))
    except (ValueError, LookupError) as err:
        log.warning("a definition cannot be read, and has no pool: %s", str(err).splitlines()[0])
        return None


def has_begun(tx: Transaction, run_id: str, number: int) -> bool:
    """Return whether the start of this attempt's agent is recorded."""
    row = tx.one(_BEGAN_AT, {"id": run_id, "number": number})
    return row is not None and row["agent_started_at"] is not None


def note_begun(tx: Transaction, beginnings: Sequence[tuple[str, int, AgentStart | None]]) -> None:
    """Record how these attempts began, unless it is recorded. Agents as processes are not counted: pools do not concern
    them."""
    rows = [
        {"id": run_id, "number": number, "how": started_at.how, "began": tx.now - span_in_micros(started_at.ago)}
        for run_id, number, started_at in beginnings
        if started_at is not None and started_at.how != PROCESS
    ]
    tx.lot(_BEGUN, _BEGUN_OF, rows)


def note_pod(tx: Transaction, lease: Lease, pod: AgentPod) -> None:
    """Record the pod of an attempt (`Store.note_pod`)."""
    lease_key = {"id": lease.run_id, "fence": lease.fence}
    tx.run(_NOTE_POD, {**lease_key, "namespace": pod.namespace, "pod": pod.name, "node": pod.node, "image": pod.image})


def starts(tx: Transaction, since: datetime, most: int = 100_000) -> list[PlacedStart]:
    """Read starts in pods (`Store.placed_starts`)."""
    rows = tx.all(_STARTS, {"since": to_micros(since), "most": most})
    # The clock may have been set back between the two readings.
    return [from_row(PlacedStart, row, waited=timedelta(microseconds=max(0, row["waited"]))) for row in rows]


def arrivals(tx: Transaction, since: datetime, *, task_id: str | None = None, most: int = 100_000) -> list[ClaimedAttempt]:
    """Read claimed attempts (`Store.arrivals`)."""
    params: dict[str, Any] = {"since": to_micros(since), "most": most}
    if task_id is not None:
        params["task_id"] = task_id
    sql = _ARRIVALS.format(arrived=_ARRIVED, of_task="" if task_id is None else " AND task_id || '' = :task_id")
    return [
        ClaimedAttempt(
            row["task_id"],
            row["run_trigger"],
            from_micros(row["started_at"]),
            _took(row["agent_started_at"] or row["started_at"], row["ended_at"]),
        )
        for row in tx.all(sql, params)
    ]


def _took(started_at: int, ended_at: int | None) -> timedelta | None:
    return None if ended_at is None else timedelta(microseconds=max(0, ended_at - started_at))


def keep(tx: Transaction, place: str, pools: Sequence[Pool]) -> None:
    """Replace the report on a place's pools (`Store.keep_pools`)."""
    tx.run("DELETE FROM pool_reports WHERE at < :before", {"before": tx.now - span_in_micros(_FORGET_AFTER)})
    tx.run(
        "INSERT INTO pool_reports (place, at, pools) VALUES (:place, :now, :pools) "
        "ON CONFLICT (place) DO UPDATE SET at = excluded.at, pools = excluded.pools",
        {"place": place, "now": tx.now, "pools": dump_json([asdict(pool) for pool in pools])},
    )


def reports(tx: Transaction) -> list[PoolReport]:
    """Read the last report of each place, for a day (`Store.pool_reports`)."""
    rows = tx.all("SELECT place, at, pools FROM pool_reports ORDER BY place")
    return [PoolReport(place=row["place"], at=from_micros(row["at"]), pools=_pools(row["pools"])) for row in rows]


def _pools(text: str) -> tuple[Pool, ...]:
    return tuple(Pool(**{**pool, "tasks": tuple(pool["tasks"])}) for pool in json.loads(text))
