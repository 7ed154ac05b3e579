"""Generations and definitions: activation of a new generation, and reads of what is served."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from optio.errors import Conflict, NotFound
from optio.model.registry import CompiledTask, Registry
from optio.store.sql import namespaces, processes
from optio.store.sql.rows import from_row
from optio.store.sql.runs import put_definitions
from optio.store.sql.transaction import Row, Transaction, dump_json, span_in_micros
from optio.store.values import Activated, GenerationHead, GenerationRow

log = logging.getLogger(__name__)
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
_NEWEST = GENERATION.replace(" tasks,", "") + " ORDER BY id DESC LIMIT 1"
_HEADS = GENERATION.replace(" tasks,", "") + " WHERE id < :before ORDER BY id DESC LIMIT :limit"
_INSERT = "INSERT INTO generations (digest, commit_id, activated_at, tasks) VALUES (:digest, :commit, :now, :tasks)"
_DEFINITIONS = "SELECT d.digest, d.document FROM tasks t JOIN definitions d ON d.digest = t.digest"
# Schedulers adopt generations in order.
UNTAKEN = "id > COALESCE((SELECT MAX(generation_id) FROM taken_up), 0)"


class Activate:
    """The operation of `Store.activate`. Everything that needs no read is prepared here, on the caller's thread: for 10,000
    tasks that takes longer than the transaction."""

    def __init__(self, registry: Registry, commit: str | None, after: Activated | None, server: str | None) -> None:
        self._registry, self._commit, self._after, self._server = registry, commit, after, server
        self._tasks = {task.id: task.digest for task in registry.tasks.values()}
        self._document = dump_json(self._tasks)
        self._changes = None if after is None or after.registry is None else _changes(after.registry.tasks, registry.tasks)

    def __call__(self, tx: Transaction) -> GenerationRow:
        """Make the generation; raise Conflict when a generation other than `after` is the newest."""
        tx.lock("registry")
        newest = tx.one(_NEWEST)
        if newest is not None and (newest["digest"], newest["commit_id"]) == (self._registry.digest, self._commit):
            return self._noted(tx, to_generation(newest, self._tasks))
        if self._after is not None and self._after.id != (0 if newest is None else newest["id"]):
            raise Conflict("another server activated a generation at the same moment")
        changed_tasks, removed_ids = self._changes or _changes_of_rows(tx, self._registry.tasks)
        put_definitions(tx, changed_tasks)
        tx.many("DELETE FROM tasks WHERE task_id = :task_id", [{"task_id": task_id} for task_id in removed_ids])
        tx.lot(_PUT, _PUT_OF, [_row(task) for task in changed_tasks])
        namespaces.put(tx, changed_tasks, removed_ids)
        values = {"digest": self._registry.digest, "commit": self._commit, "now": tx.now, "tasks": self._document}
        tx.run(_INSERT, values)
        return self._noted(tx, to_generation(tx.one(_NEWEST), self._tasks))

    def _noted(self, tx: Transaction, generation: GenerationRow) -> GenerationRow:
        if self._server is not None:
            processes.note_server(tx, self._server, generation.id, in_sync=True)
        return generation


def _changes(before: Mapping[str, CompiledTask], after: Mapping[str, CompiledTask]) -> tuple[list[CompiledTask], list[str]]:
    """Return the tasks that are new or changed, and the ids of those that are gone."""
    changed_tasks = [
        task
        for task_id, task in after.items()
        if (old_task := before.get(task_id)) is not task and (old_task is None or old_task.digest != task.digest)
    ]
    return changed_tasks, [task_id for task_id in before if task_id not in after]


def _changes_of_rows(tx: Transaction, after: Mapping[str, CompiledTask]) -> tuple[list[CompiledTask], list[str]]:
    """Return the same changes, against what the database has as served."""
    served_rows = {row["task_id"]: dict(row) for row in tx.all(_SERVED)}
    # All columns are compared: an older version, which may run beside this one, writes a digest without some of them.
    changed_tasks = [task for task in after.values() if served_rows.get(task.id) != _row(task)]
    return changed_tasks, [task_id for task_id in served_rows if task_id not in after]


def _row(task: CompiledTask) -> dict[str, Any]:
    """Return the columns of a served task that admission needs."""
    limit = task.spec.start_limit
    return {
        "task_id": task.id,
        "digest": task.digest,
        "max_concurrent": task.spec.max_concurrent,
        "priority": task.spec.priority,
        "start_limit": None if limit is None else limit.count,
        "start_window": None if limit is None else span_in_micros(limit.window),
    }


def newest(tx: Transaction) -> GenerationRow | None:
    """Return the newest generation (`Store.generation`)."""
    row = tx.one(f"{GENERATION} ORDER BY id DESC LIMIT 1")
    return None if row is None else to_generation(row)


def unscheduled_generation(tx: Transaction) -> list[GenerationRow]:
    """Return generations whose schedules are not adopted yet (`Store.unscheduled_generation`)."""
    rows = tx.all(f"{GENERATION} WHERE {UNTAKEN} ORDER BY id LIMIT 100")
    return [to_generation(row) for row in rows]


def to_generation(row: Row, tasks: Mapping[str, str] | None = None) -> GenerationRow:
    """Return the generation of a row; `tasks` saves reading them where they are known."""
    return from_row(GenerationRow, row, commit=row["commit_id"], tasks=json.loads(row["tasks"]) if tasks is None else tasks)


def list_heads(tx: Transaction, before: int, limit: int) -> list[GenerationHead]:
    """Return generations older than `before`, newest first (`Store.generation_heads`)."""
    rows = tx.all(_HEADS, {"before": before, "limit": limit})
    return [from_row(GenerationHead, row, commit=row["commit_id"]) for row in rows]


def tasks_of(tx: Transaction, generation: int) -> dict[str, str]:
    """Return the digests of a generation's tasks (`Store.generation_tasks`); raise NotFound."""
    row = tx.one("SELECT tasks FROM generations WHERE id = :id", {"id": generation})
    if row is None:
        raise NotFound("generation", str(generation))
    digests: dict[str, str] = json.loads(row["tasks"])
    return digests


def definition(tx: Transaction, digest: str) -> CompiledTask:
    """Return a definition by its digest (`Store.definition`); raise NotFound."""
    row = tx.one("SELECT document FROM definitions WHERE digest = :digest", {"digest": digest})
    if row is None:
        raise NotFound("definition", digest)
    return CompiledTask.from_json(json.loads(row["document"]))


def served_definitions(tx: Transaction) -> dict[str, CompiledTask]:
    """Read all definitions of the newest generation in one query (`Store.served_definitions`)."""
    tasks: dict[str, CompiledTask] = {}
    for row in tx.all(_DEFINITIONS):
        try:
            tasks[row["digest"]] = CompiledTask.from_json(json.loads(row["document"]))
        except (ValueError, LookupError) as err:
            log.warning("the definition %s cannot be read: %s", row["digest"], str(err).splitlines()[0])
    return tasks
