"""Generations and definitions."""

import json
from datetime import timedelta
from typing import Any

from optio.errors import NotFound
from optio.model.registry import CompiledTask, Registry, canonical
from optio.store.base import GenerationRow
from optio.store.sql import namespaces
from optio.store.sql.runs import put_definitions
from optio.store.sql.transaction import Row, Transaction, maybe, when

_SERVED = "SELECT task_id, digest, max_concurrent, priority, start_limit, start_window FROM tasks"
_PUT = """
INSERT INTO tasks (task_id, digest, max_concurrent, priority, start_limit, start_window)
SELECT lot.task_id, lot.digest, lot.max_concurrent, lot.priority, lot.start_limit, lot.start_window FROM lot WHERE TRUE
ON CONFLICT (task_id) DO UPDATE SET digest = excluded.digest, max_concurrent = excluded.max_concurrent,
    priority = excluded.priority, start_limit = excluded.start_limit, start_window = excluded.start_window
"""
_PUT_OF = "task_id text, digest text, max_concurrent integer, priority integer, start_limit integer, start_window bigint"
GENERATION = (
    "SELECT id, digest, commit_id, activated_at, tasks, "
    "(SELECT at FROM taken_up WHERE generation_id = generations.id) AS scheduled_at FROM generations"
)
# They are taken up in order.
UNTAKEN = "id > COALESCE((SELECT MAX(generation_id) FROM taken_up), 0)"


def activate(tx: Transaction, registry: Registry, commit: str | None) -> GenerationRow:
    """See `Store.activate`."""
    tx.lock("registry")
    current = newest(tx)
    if current is not None and current.digest == registry.digest and current.commit == commit:
        return current
    served = {row["task_id"]: dict(row) for row in tx.all(_SERVED)}
    # An older version, which may run beside this one, keeps a digest without all that belongs to it.
    changed = [task for task in registry.tasks.values() if served.get(task.id) != _row(task)]
    put_definitions(tx, changed)
    tx.many(
        "DELETE FROM tasks WHERE task_id = :task_id",
        [{"task_id": task_id} for task_id in served if task_id not in registry.tasks],
    )
    tx.lot(_PUT, _PUT_OF, [_row(task) for task in changed])
    namespaces.put(tx, registry.tasks.values())
    tx.run(
        "INSERT INTO generations (digest, commit_id, activated_at, tasks) VALUES (:digest, :commit, :now, :tasks)",
        {
            "digest": registry.digest,
            "commit": commit,
            "now": tx.now,
            "tasks": canonical({t.id: t.digest for t in registry.tasks.values()}),
        },
    )
    made = newest(tx)
    assert made is not None  # noqa: S101 - inserted one statement before
    return made


def _row(task: CompiledTask) -> dict[str, Any]:
    """What admission must know of a task that is served."""
    limit = task.spec.start_limit
    return {
        "task_id": task.id,
        "digest": task.digest,
        "max_concurrent": task.spec.max_concurrent,
        "priority": task.spec.priority,
        "start_limit": None if limit is None else limit.count,
        "start_window": None if limit is None else limit.window // timedelta(microseconds=1),
    }


def newest(tx: Transaction) -> GenerationRow | None:
    """See `Store.generation`."""
    row = tx.one(f"{GENERATION} ORDER BY id DESC LIMIT 1")
    return None if row is None else to_generation(row)


def untaken(tx: Transaction) -> list[GenerationRow]:
    """See `Store.untaken`."""
    rows = tx.all(f"{GENERATION} WHERE {UNTAKEN} ORDER BY id LIMIT 100")
    return [to_generation(row) for row in rows]


def to_generation(row: Row) -> GenerationRow:
    """A generation."""
    return GenerationRow(
        id=row["id"],
        digest=row["digest"],
        commit=row["commit_id"],
        activated_at=when(row["activated_at"]),
        tasks=json.loads(row["tasks"]),
        scheduled_at=maybe(row["scheduled_at"]),
    )


def definition(tx: Transaction, digest: str) -> CompiledTask:
    """See `Store.definition`."""
    row = tx.one("SELECT document FROM definitions WHERE digest = :digest", {"digest": digest})
    if row is None:
        raise NotFound("definition", digest)
    return CompiledTask.from_json(json.loads(row["document"]))
