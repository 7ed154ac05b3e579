"""Answers about what is tried out before it counts: the text of a task file, a run, and a trial delivery."""

import asyncio
from datetime import UTC, datetime

from optio.model.registry import CompiledTask
from optio.runs.admission import Hold, hold_of_new
from optio.server.dependencies import Hub
from optio.server.task_changes import filed_tasks
from optio.store.values import QueuedRun
from optio.tree.drafts import Draft, check_draft

_MAX_EVENT_LENGTH = 200


def forecast_wait(hub: Hub, task: CompiledTask) -> Hold | None:
    """Return why a run of the task would wait if it was started now; None if a worker would take it at once."""
    view = hub.services.store.admission()
    run = QueuedRun(
        run_id="new",
        task_id=task.id,
        seq=1 + max((queued_run.seq for queued_run in view.waiting), default=0),
        queued_at=view.now,
        not_before=view.now,
        max_concurrent=task.spec.max_concurrent,
        priority=task.spec.priority,
    )
    return hold_of_new(run, task.namespace or "", view, max_running=hub.services.settings.max_workflow_concurrent)


def is_event(event: object) -> bool:
    """Return whether this can be sent as the name of an event."""
    return isinstance(event, str) and 0 < len(event) <= _MAX_EVENT_LENGTH and event.isascii() and event.isprintable()


async def check_text(hub: Hub, text: str, task_id: str | None) -> Draft:
    """Return the draft of a new task, or of the file of a task. Raises NotFound."""
    snapshot = hub.snapshot
    task = None if task_id is None else snapshot.registry.task(task_id)
    root = hub.services.settings.tasks
    return await asyncio.to_thread(check_draft, root, text, filed_tasks(snapshot), datetime.now(UTC), task)
