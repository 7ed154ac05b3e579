"""Tasks as they are served."""

from typing import Any

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from optio.errors import NotFound
from optio.model.registry import CompiledTask
from optio.server import views
from optio.server.auth import role
from optio.server.hub import Hub


class TaskController(Controller):
    """See the module."""

    tags = ("tasks",)

    @get("/api/tasks", opt=role("viewer"))
    async def every(self, hub: NamedDependency[Hub]) -> dict[str, Any]:
        """All tasks of the generation that is served."""
        snapshot = hub.live.current
        return {"items": [views.task(task, snapshot) for task in snapshot.registry.tasks.values()], "next": None}

    @get("/api/tasks/{task_id:str}", opt=role("viewer"))
    async def show(self, task_id: FromPath[str], hub: NamedDependency[Hub]) -> dict[str, Any]:
        """One task."""
        return views.task(served(hub, task_id), hub.live.current)

    @get("/api/tasks/{task_id:str}/triggers", opt=role("viewer"))
    async def triggers(self, task_id: FromPath[str], hub: NamedDependency[Hub]) -> dict[str, Any]:
        """What may start the task, at most one trigger of each type."""
        return {"items": views.triggers(served(hub, task_id)), "next": None}


def served(hub: Hub, task_id: str) -> CompiledTask:
    """The task as it is served now; raises NotFound."""
    task = hub.live.current.registry.tasks.get(task_id)
    if task is None:
        raise NotFound("task", task_id)
    return task
