"""Routes of what the file of a task says beyond its definition: who wrote each value, and its tests, which are run."""

import asyncio

from litestar import Controller, get
from litestar.params import FromPath

from optio.server.answers.task_details import read_origins, run_tests_of
from optio.server.auth import role
from optio.server.bodies.task_details import TestListBody, ValueOriginListBody
from optio.server.dependencies import InjectedHub


class TaskDetailController(Controller):
    """Routes of `/api/tasks/{id}/origins` and `/api/tasks/{id}/tests`."""

    tags = ("tasks",)

    @get("/api/tasks/{task_id:str}/origins", opt=role("viewer"), problems=("conflict",))
    async def list_origins(self, task_id: FromPath[str], hub: InjectedHub) -> ValueOriginListBody:
        """List the values of a task, each with the file and the line that set it: the task's own file, a template, or the
        defaults of a directory. The files are those of the answering server."""
        return await asyncio.to_thread(read_origins, hub, hub.snapshot.registry.task(task_id))

    @get("/api/tasks/{task_id:str}/tests", opt=role("viewer"), problems=("conflict",))
    async def run_tests(self, task_id: FromPath[str], hub: InjectedHub) -> TestListBody:
        """Run the tests that the file of a task has under `tests`, as `optio test` does, and show their results. No run is
        started. The files are those of the answering server."""
        return await asyncio.to_thread(run_tests_of, hub, hub.snapshot.registry.task(task_id))
