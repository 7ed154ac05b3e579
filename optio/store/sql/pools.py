"""Places: which served tasks want places kept ready, what became of that, and how attempts began."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from optio.model.pool import PROCESS, Pool
from optio.model.registry import CompiledTask
from optio.model.run import AgentPod
from optio.store.sql.transaction import Transaction, dump_json, from_micros, to_micros
from optio.store.values import AgentStart, ClaimedAttempt, PlacedStart, PooledTasks, PoolReport

log = logging.getLogger(__name__)
# A place of which nothing was heard for so long is no place any more.
_FORGET_AFTER = timedelta(days=1)
_NEWEST = "SELECT COALESCE(MAX(id), 0) AS id FROM generations"
# Definitions are canonical JSON. Some that want no pool are read all the same: who reads them looks again.
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
INSERT INTO attempt_pods (run_id, number, namespace, pod, node)
SELECT id, attempt, CAST(:namespace AS TEXT), CAST(:pod AS TEXT), CAST(:node AS TEXT) FROM runs
WHERE id = :id AND state = 'running' AND fence = :fence
ON CONFLICT (run_id, number) DO UPDATE SET namespace = excluded.namespace, pod = excluded.pod, node = excluded.node
"""
_STARTS = """
SELECT task_id, how, at, waited FROM begun WHERE at > :since ORDER BY at DESC LIMIT :most
"""
_ARRIVED = "SELECT r.task_id, r.run_trigger, a.started_at, a.agent_started_at, a.ended_at"
# The runs of a task by their end: the index of all ends is the way to them, not the one of the task's runs, which may be long.
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
    """The number of the newest generation; 0 without any."""
    number: int = tx.one(_NEWEST)["id"]
    return number


def pooled_tasks(tx: Transaction) -> PooledTasks:
    """See `Store.pooled`."""
    tasks = [task for row in tx.all(_POOLED) if (task := _read(row["document"])) is not None and task.spec.warm_pool_size]
    return PooledTasks(generation=newest(tx), tasks=tasks)


def _read(document: str) -> CompiledTask | None:
    """A newer version may write keys that this one does not know: the other tasks have their pools all the same."""
    try:
        return CompiledTask.from_json(json.loads(document))
    except (ValueError, LookupError) as err:
        log.warning("a definition cannot be read, and has no pool: %s", str(err).splitlines()[0])
        return None


def has_begun(tx: Transaction, run_id: str, number: int) -> bool:
    """Return whether it is kept when the agent of this attempt began."""
    found = tx.one(_BEGAN_AT, {"id": run_id, "number": number})
    return found is not None and found["agent_started_at"] is not None


def note_begun(tx: Transaction, beginnings: Sequence[tuple[str, int, AgentStart | None]]) -> None:
    """Keep how these attempts began, unless it is kept already. Processes cost nothing."""
    rows = [
        {"id": run_id, "number": number, "how": began.how, "began": tx.now - _us(began.ago)}
        for run_id, number, began in beginnings
        if began is not None and began.how != PROCESS
    ]
    tx.lot(_BEGUN, _BEGUN_OF, rows)


def note_pod(tx: Transaction, run_id: str, fence: int, pod: AgentPod) -> None:
    """See `Store.note_pod`."""
    tx.run(_NOTE_POD, {"id": run_id, "fence": fence, "namespace": pod.namespace, "pod": pod.name, "node": pod.node})


def starts(tx: Transaction, since: datetime, most: int) -> list[PlacedStart]:
    """See `Store.placed_starts`."""
    rows = tx.all(_STARTS, {"since": to_micros(since), "most": most})
    # Between two looks at a clock it may have been set back.
    return [
        PlacedStart(row["task_id"], row["how"], from_micros(row["at"]), timedelta(microseconds=max(0, row["waited"])))
        for row in rows
    ]


def arrivals(tx: Transaction, since: datetime, task_id: str | None, most: int) -> list[ClaimedAttempt]:
    """See `Store.arrivals`."""
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


def _took(began: int, ended: int | None) -> timedelta | None:
    return None if ended is None else timedelta(microseconds=max(0, ended - began))


def keep(tx: Transaction, place: str, pools: Sequence[Pool]) -> None:
    """See `Store.keep_pools`."""
    tx.run("DELETE FROM pool_reports WHERE at < :before", {"before": tx.now - _us(_FORGET_AFTER)})
    tx.run(
        "INSERT INTO pool_reports (place, at, pools) VALUES (:place, :now, :pools) "
        "ON CONFLICT (place) DO UPDATE SET at = excluded.at, pools = excluded.pools",
        {"place": place, "now": tx.now, "pools": dump_json([asdict(pool) for pool in pools])},
    )


def reports(tx: Transaction) -> list[PoolReport]:
    """See `Store.pool_reports`."""
    rows = tx.all("SELECT place, at, pools FROM pool_reports ORDER BY place")
    return [PoolReport(place=row["place"], at=from_micros(row["at"]), pools=_pools(row["pools"])) for row in rows]


def _pools(text: str) -> tuple[Pool, ...]:
    return tuple(Pool(**{**pool, "tasks": tuple(pool["tasks"])}) for pool in json.loads(text))


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
