"""Namespaces of tasks.

A task's namespace is that of the policy as it is served now, also for runs of older definitions: queued runs go where the
operator says. A removed task keeps its last one, so that none of its runs gets into another namespace.
"""

from collections.abc import Collection, Iterable
from typing import Any

from optio.model.namespace import WorkerScope
from optio.model.registry import CompiledTask
from optio.store.sql.transaction import Transaction

# A task is in a worker's scope, where `n` is its row of `namespaces`.
IN_SCOPE = "(:any_namespace = 1 OR COALESCE(n.namespace, '') = :namespace)"
_PUT = """
INSERT INTO namespaces (task_id, namespace) SELECT lot.task_id, lot.namespace FROM lot WHERE TRUE
ON CONFLICT (task_id) DO UPDATE SET namespace = excluded.namespace
"""
_TAKE = "DELETE FROM namespaces WHERE task_id IN (SELECT lot.task_id FROM lot)"
_FORGET = """
DELETE FROM namespaces WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.task_id = namespaces.task_id)
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.task_id = namespaces.task_id)
"""


def parameters(scope: WorkerScope) -> dict[str, Any]:
    """Return the parameters of `IN_SCOPE` for a worker."""
    return {"any_namespace": int(scope.namespace is None), "namespace": scope.namespace or ""}


def put(tx: Transaction, changed_tasks: Iterable[CompiledTask], removed_ids: Collection[str]) -> None:
    """Store the namespaces of changed tasks; call it after the rows of `tasks` were changed."""
    rows = [{"task_id": task.id, "namespace": task.namespace} for task in changed_tasks]
    tx.lot(_PUT, "task_id text, namespace text", [row for row in rows if row["namespace"] is not None])
    tx.lot(_TAKE, "task_id text", [row for row in rows if row["namespace"] is None])
    if removed_ids:
        tx.run(_FORGET)


def every(tx: Transaction) -> dict[str, str]:
    """Return the namespaces of all tasks that have one (`Store.namespaces`)."""
    return {row["task_id"]: row["namespace"] for row in tx.all("SELECT task_id, namespace FROM namespaces")}
