"""The route of the overview: many tasks at once, with their last runs and the totals of 30 days."""

import asyncio
from typing import Annotated

from litestar import Controller, get
from litestar.params import FromQuery, QueryParameter

from optio.model.task import Runtime
from optio.server.auth import role
from optio.server.bodies.overview import OverviewBody, TaskOrder, TaskState
from optio.server.dependencies import InjectedHub
from optio.server.read_models.overview import TaskFilter
from optio.server.routes.runs import Cursor, Limit

Words = Annotated[
    str, QueryParameter(name="q", max_length=200, description="words in the id, name, owner or description, in any order")
]
# `state` itself is a reserved name of the framework.
State = Annotated[TaskState | None, QueryParameter(name="state")]
Owner = Annotated[str | None, QueryParameter(max_length=200)]


class OverviewController(Controller):
    """The route `/api/overview`."""

    tags = ("tasks",)

    @get("/api/overview", opt=role("viewer"))
    async def get_overview(
        self,
        hub: InjectedHub,
        words: Words = "",
        state_name: State = None,
        owner: Owner = None,
        runtime: FromQuery[Runtime | None] = None,
        order: FromQuery[TaskOrder] = "id",
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> OverviewBody:
        """List the served tasks with their state, last runs, and success, time and cost of 30 days. `order` is by `id`, `name`,
        `next` fire or `cost`, the highest first. The costs of that order may be a minute old."""
        task_filter = TaskFilter(words=words, state=state_name, owner=owner or None, runtime=runtime)
        return await asyncio.to_thread(hub.overview.read, hub.snapshot, task_filter, order=order, cursor=cursor, limit=limit)
