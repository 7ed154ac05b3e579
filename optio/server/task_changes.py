"""Changes of task files, as the API and the pages make them: one at a time, in the files first, and served before the
answer."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence

from optio.errors import Conflict, Problem, StoreUnavailable
from optio.model import isolation
from optio.model.registry import CompiledTask, Registry
from optio.server.dependencies import Hub
from optio.server.problems import HttpProblem
from optio.tree.served import Snapshot
from optio.tree.writer import StaleTask, WriteResult

log = logging.getLogger(__name__)


def with_file(hub: Hub, task_id: str) -> CompiledTask:
    """Return a task whose file can be changed. Raises NotFound, and Conflict for a held task, which has no file."""
    task = hub.snapshot.registry.task(task_id)
    if task_id in hub.snapshot.held:
        cure = f"put it back, or remove the task with DELETE /api/tasks/{task_id}"
        raise Conflict(f"the file of the task `{task_id}` is gone (`{task.origin.path}`) and its removal is held: {cure}")
    return task


def filed_tasks(snapshot: Snapshot) -> Registry:
    """Return the served tasks that have a file. A new file for a held task brings the task back."""
    return Registry.of({task.id: task for task in snapshot.registry.tasks.values() if task.id not in snapshot.held})


async def write_file(hub: Hub, write: Callable[[], WriteResult]) -> WriteResult:
    """Change a file by `write`, and serve the result. The caller holds `hub.write_lock`. Raises what the writer raises,
    HttpProblem 412 for a task that has changed, Conflict where the directory is not what is served, and StoreUnavailable."""
    # If the store is unavailable, the file would be written but not served.
    await asyncio.to_thread(hub.services.store.check)
    drift = hub.snapshot.drift
    if drift is not None:
        raise Conflict(f"{drift.summary}: {drift.cure}; or change the task through a server that is in sync")
    try:
        result = await asyncio.to_thread(write)
    except StaleTask as err:
        raise HttpProblem("stale-task", str(err)) from err
    try:
        await hub.reload([result.path])
    except StoreUnavailable as err:
        raise StoreUnavailable(f"`{result.path}` is written, and will be served as soon as the store is back: {err}") from err
    if hub.snapshot.drift is not None:
        raise Conflict(
            f"`{result.path}` is written but not served, because another server was faster: {hub.snapshot.drift.cure}"
        )
    return result


async def put_text(hub: Hub, task_id: str, text: str, digests: Collection[str] | None) -> WriteResult:
    """Write a text as the file of a task, new or not, and serve it. With `seen`, the file must have one of these digests. The
    caller holds `hub.write_lock`."""
    snapshot = hub.snapshot
    if task_id in snapshot.registry.tasks and task_id not in snapshot.held:
        task = snapshot.registry.task(task_id)
        return await write_file(hub, lambda: hub.task_writer.replace_file(task, text, digests))
    if digests is not None:
        raise HttpProblem("stale-task", f"the task `{task_id}` has no file now")
    return await write_file(hub, lambda: hub.task_writer.create_file(task_id, text, filed_tasks(snapshot)))


async def delete_task(hub: Hub, task_id: str, digests: Collection[str] | None, actor: str) -> None:
    """Delete a task's file, and serve the tree without it. If the file is already gone and the removal is held, the task is
    released."""
    async with hub.write_lock:
        task = hub.snapshot.registry.task(task_id)
        if task_id in hub.snapshot.held:
            if digests is not None and task.digest not in digests and "*" not in digests:
                raise HttpProblem("stale-task", f"the task `{task_id}` has the digest {task.digest} now")
            await release(hub, (task_id,), actor)
        else:
            await write_file(hub, lambda: hub.task_writer.delete(task, digests))
            # Other servers of this tree see the file disappear, and must not hold its task, which is gone here in any case.
            with contextlib.suppress(StoreUnavailable):
                await asyncio.to_thread(hub.services.store.release_removals, [task_id], actor)


def warnings_of(hub: Hub, result: WriteResult) -> list[Problem]:
    """Return the compiler's warnings about a written task, and one for each part of its environment that this installation's
    executor does not apply."""
    task = hub.snapshot.registry.tasks[result.task_id]
    return [
        *result.warnings,
        *(
            Problem(f"/environment/{name}", text, code="OPT523", hint="set OPTIO_EXECUTOR=kubernetes to run agents as pods")
            for name in isolation.requested_keys(task.spec.environment)
            for text in hub.services.executor.not_applied([name])
        ),
    ]


async def release(hub: Hub, task_ids: Sequence[str], actor: str) -> None:
    """Release held tasks: record it for all servers, and reload without them here. Raises StoreUnavailable."""
    await asyncio.to_thread(hub.services.store.release_removals, task_ids, actor)
    log.warning("%d held tasks were released by %s", len(task_ids), actor)
    await hub.reload(())
