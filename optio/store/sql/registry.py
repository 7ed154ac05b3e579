"""Generations and definitions."""

import json

from optio.errors import NotFound
from optio.model.registry import CompiledTask, Registry, canonical
from optio.store.base import GenerationRow
from optio.store.sql.runs import put_definition
from optio.store.sql.transaction import Transaction, when


def activate(tx: Transaction, registry: Registry, commit: str | None) -> GenerationRow:
    """See `Store.activate`."""
    tx.lock("registry")
    current = newest(tx)
    if current is not None and current.digest == registry.digest and current.commit == commit:
        return current
    served = {row["task_id"]: row["digest"] for row in tx.all("SELECT task_id, digest FROM tasks")}
    changed = [task for task in registry.tasks.values() if served.get(task.id) != task.digest]
    for task in changed:
        put_definition(tx, task)
    tx.many(
        "DELETE FROM tasks WHERE task_id = :task_id",
        [{"task_id": task_id} for task_id in served if task_id not in registry.tasks],
    )
    tx.many(
        "INSERT INTO tasks (task_id, digest, max_concurrent) VALUES (:task_id, :digest, :max_concurrent) "
        "ON CONFLICT (task_id) DO UPDATE SET digest = excluded.digest, max_concurrent = excluded.max_concurrent",
        [{"task_id": t.id, "digest": t.digest, "max_concurrent": t.spec.max_concurrent} for t in changed],
    )
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


def newest(tx: Transaction) -> GenerationRow | None:
    """See `Store.generation`."""
    row = tx.one("SELECT * FROM generations ORDER BY id DESC LIMIT 1")
    if row is None:
        return None
    return GenerationRow(
        id=row["id"],
        digest=row["digest"],
        commit=row["commit_id"],
        activated_at=when(row["activated_at"]),
        tasks=json.loads(row["tasks"]),
    )


def definition(tx: Transaction, digest: str) -> CompiledTask:
    """See `Store.definition`."""
    row = tx.one("SELECT document FROM definitions WHERE digest = :digest", {"digest": digest})
    if row is None:
        raise NotFound("definition", digest)
    return CompiledTask.from_json(json.loads(row["document"]))
