"""Processes: the row that each server, worker, scheduler and gateway renews every ten seconds and deletes when it stops in
order, and what waits for them. What is wrong with them is decided by `model.fleet`.

Processes of the version before know the tables `servers` and `workers` alone. So parts write these as well, and rows that only
stand there are read from there.
"""

from collections.abc import Mapping
from typing import Any

from optio.model.fleet import FORGOTTEN_AFTER, LATE_AFTER, SILENT_AFTER, FleetState, JobRow, ProcessKind, ProcessRow
from optio.model.fleet import served_namespaces as namespaces_of
from optio.model.namespace import WorkerScope
from optio.process_identity import is_gone, process_name
from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Row, Transaction, from_micros, optional_from_micros, span_in_micros
from optio.version import __version__

_NOTE = """
INSERT INTO processes (kind, name, process, version, started_at, at, namespace, capacity, generation_id, in_sync)
VALUES (:kind, :name, :process, :version, :now, :now, :namespace, :capacity, :generation, :in_sync)
ON CONFLICT (kind, name) DO UPDATE SET
    started_at = CASE WHEN processes.process = excluded.process THEN processes.started_at ELSE excluded.started_at END,
    process = excluded.process, version = excluded.version, at = excluded.at, namespace = excluded.namespace,
    capacity = excluded.capacity, generation_id = excluded.generation_id, in_sync = excluded.in_sync
"""
# With those that it has replaced: they are not missed again when it stops.
_FORGET = """
DELETE FROM processes WHERE kind = :kind AND (name = :name OR (at < :gone AND at < (
    SELECT MAX(p.started_at) FROM processes p WHERE p.kind = :kind AND p.name = :name
)))
"""
# A heartbeat further in the future was written before the clock was set back.
_THERE = "at BETWEEN :gone AND :ahead"
# Tables of the version before, with their columns and parameters.
_OLDER: dict[ProcessKind, tuple[str, str, str]] = {
    ProcessKind.SERVER: ("servers", "server, generation_id, in_sync, at", ":name, :generation, :in_sync, :now"),
    ProcessKind.WORKER: ("workers", "worker, namespace, at", ":name, :namespace, :now"),
}
_ROWS = """
SELECT kind, name, process, version, started_at, at, namespace, capacity, generation_id, in_sync FROM processes
UNION ALL SELECT 'server', server, server, NULL, NULL, at, NULL, NULL, generation_id, in_sync FROM servers
WHERE at BETWEEN :gone AND :ahead
AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.kind = 'server' AND p.name = servers.server)
UNION ALL SELECT 'worker', worker, worker, NULL, NULL, at, namespace, NULL, NULL, NULL FROM workers
WHERE at BETWEEN :gone AND :ahead
AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.kind = 'worker' AND p.name = workers.worker)
ORDER BY 1, 2
"""
_OWNERS = "SELECT owner, COUNT(*) AS running, MIN(lease_until) AS until FROM runs WHERE state = 'running' GROUP BY owner"
_JOBS = "SELECT name, owner, until, ended_at FROM chores WHERE owner <> '' ORDER BY name"
_QUEUED = """
SELECT COALESCE(n.namespace, '') AS namespace, COUNT(*) AS runs FROM runs r LEFT JOIN namespaces n ON n.task_id = r.task_id
WHERE r.state = 'queued' GROUP BY 1
"""
_SLOTS = "SELECT MIN(next_fire) AS at, SUM(CASE WHEN next_fire < :late THEN 1 ELSE 0 END) AS late FROM schedules"
_METERED = """
SELECT COUNT(*) AS agents FROM runs r JOIN attempt_keys k ON k.run_id = r.id AND k.number = r.attempt WHERE r.state = 'running'
"""
_GENERATION = """
SELECT id, activated_at, (SELECT at FROM taken_up WHERE generation_id = generations.id) AS scheduled_at FROM generations
ORDER BY id DESC LIMIT 1
"""


def note_server(tx: Transaction, server: str, generation: int, in_sync: bool) -> None:
    """Record that a server is alive (`Store.note_server`)."""
    _note(tx, ProcessKind.SERVER, server, generation=generation, in_sync=int(in_sync))


def note_worker(tx: Transaction, worker: str, scope: WorkerScope, capacity: int | None = None) -> None:
    """Record that a worker is alive, with its scope (`Store.note_worker`)."""
    _note(tx, ProcessKind.WORKER, worker, namespace=scope.namespace, capacity=capacity)


def note_scheduler(tx: Transaction, scheduler: str) -> None:
    """Record that a scheduler is alive (`Store.note_scheduler`)."""
    _note(tx, ProcessKind.SCHEDULER, scheduler)


def note_gateway(tx: Transaction, gateway: str) -> None:
    """Record that a gateway is alive (`Store.note_gateway`)."""
    _note(tx, ProcessKind.GATEWAY, gateway)


def forget(tx: Transaction, kind: ProcessKind, name: str) -> None:
    """Delete the row of a part that stops (`Store.forget_process`)."""
    tx.run(_FORGET, {"kind": kind.value, "name": name, "gone": tx.now - span_in_micros(SILENT_AFTER)})
    if kind in _OLDER:
        table, columns, _ = _OLDER[kind]
        tx.run(f"DELETE FROM {table} WHERE {columns.partition(',')[0]} = :name", {"name": name})  # noqa: S608


def servers(tx: Transaction) -> list[ProcessRow]:
    """List the live servers (`Store.servers`)."""
    return [row for row in _rows(tx) if row.is_live and row.kind is ProcessKind.SERVER]


def served_namespaces(tx: Transaction) -> frozenset[str] | None:
    """Return the namespaces that live workers serve (`Store.served_namespaces`)."""
    return namespaces_of(_rows(tx))


def read(tx: Transaction) -> FleetState:
    """Return all processes, and what waits for them (`Store.fleet`)."""
    owned = {row["owner"]: row for row in tx.all(_OWNERS) if row["owner"]}
    slots = tx.one(_SLOTS, {"late": tx.now - span_in_micros(LATE_AFTER)})
    newest, metered = tx.one(_GENERATION), tx.one(_METERED)
    return FleetState(
        now=from_micros(tx.now),
        processes=_rows(tx, owned),
        jobs=[_job(tx, row) for row in tx.all(_JOBS)],
        queued={row["namespace"]: row["runs"] for row in tx.all(_QUEUED)},
        next_fire=None if slots is None else optional_from_micros(slots["at"]),
        late_slots=0 if slots is None else int(slots["late"] or 0),
        generation=None if newest is None else newest["id"],
        activated_at=None if newest is None else from_micros(newest["activated_at"]),
        adopted_at=None if newest is None else optional_from_micros(newest["scheduled_at"]),
        metered=0 if metered is None else metered["agents"],
    )


def _note(tx: Transaction, kind: ProcessKind, name: str, **facts: Any) -> None:
    unknown = {"namespace": None, "capacity": None, "generation": None, "in_sync": None}
    values = {"name": name, "now": tx.now, **unknown, **facts}
    tx.run(_NOTE, {"kind": kind.value, "process": process_name(), "version": __version__, **values})
    bounds = _bounds(tx)
    tx.run(f"DELETE FROM processes WHERE NOT ({_THERE})", {**bounds, "gone": tx.now - span_in_micros(FORGOTTEN_AFTER)})  # noqa: S608
    if kind in _OLDER:
        table, columns, parameters = _OLDER[kind]
        key, *other_columns = columns.split(", ")
        changes = ", ".join(f"{column} = excluded.{column}" for column in other_columns)
        tx.run(f"INSERT INTO {table} ({columns}) VALUES ({parameters}) ON CONFLICT ({key}) DO UPDATE SET {changes}", values)  # noqa: S608
        tx.run(f"DELETE FROM {table} WHERE NOT ({_THERE})", bounds)  # noqa: S608


def _rows(tx: Transaction, owned: Mapping[str, Row] | None = None) -> list[ProcessRow]:
    bounds = _bounds(tx)
    leases = {} if owned is None else owned
    found = []
    for row in tx.all(_ROWS, bounds):
        own = leases.get(row["name"]) if row["kind"] == ProcessKind.WORKER else None
        found.append(
            from_row(
                ProcessRow,
                row,
                is_live=bounds["gone"] <= row["at"] <= bounds["ahead"] and not is_gone(row["process"]),
                seen_at=from_micros(row["at"]),
                generation=row["generation_id"],
                **_leases(own),
            )
        )
    known = {row.name for row in found if row.kind is ProcessKind.WORKER}
    # Workers that are gone, of which nothing but their leases is left.
    for name in sorted(leases.keys() - known):
        row = ProcessRow(kind=ProcessKind.WORKER, name=name, process=name, is_live=False, **_leases(leases[name]))
        found.append(row)
    return found


def _leases(row: Row | None) -> dict[str, Any]:
    if row is None:
        return {"running": 0, "lease_until": None}
    return {"running": row["running"], "lease_until": optional_from_micros(row["until"])}


def _job(tx: Transaction, row: Row) -> JobRow:
    return JobRow(
        job=row["name"],
        owner=row["owner"],
        lease_until=from_micros(row["until"]) if row["until"] > tx.now else None,
        ended_at=optional_from_micros(row["ended_at"]),
    )


def _bounds(tx: Transaction) -> dict[str, int]:
    return {"gone": tx.now - span_in_micros(SILENT_AFTER), "ahead": tx.now + span_in_micros(SILENT_AFTER)}
