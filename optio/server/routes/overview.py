"""Routes over many tasks or runs at once: the overview of tasks, their costs, the queue, and the search of the dashboard."""

import asyncio
import re
from typing import Annotated

from litestar import Controller, get
from litestar.params import FromQuery, QueryParameter

from optio.model.run import Run
from optio.model.task import Runtime
from optio.runs.admission import HoldReason
from optio.server.answers.costs import Span, read_costs
from optio.server.auth import role
from optio.server.bodies.costs import CostsBody
from optio.server.bodies.overview import FoundBody, FoundRunBody, FoundTaskBody, OverviewBody, TaskOrder, TaskState
from optio.server.bodies.queue import QueueBody
from optio.server.dependencies import InjectedHub
from optio.server.read_models.overview import TaskFilter
from optio.server.routes.runs import Cursor, Limit
from optio.store.values import RunFilter

_MAX_FOUND = 8
_RUN_ID = re.compile(r"[0-9a-f-]{4,36}")
SearchedText = Annotated[
    str, QueryParameter(name="q", min_length=1, max_length=200, description="words of tasks, or the beginning of a run id")
]
Words = Annotated[
    str, QueryParameter(name="q", max_length=200, description="words in the id, name, owner or description, in any order")
]
# `state` itself is a reserved name of the framework.
State = Annotated[TaskState | None, QueryParameter(name="state")]
Owner = Annotated[str | None, QueryParameter(max_length=200)]


class OverviewController(Controller):
    """The routes `/api/overview`, `/api/costs` and `/api/search`."""

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

    @get("/api/costs", opt=role("viewer"))
    async def get_costs(
        self, hub: InjectedHub, days: FromQuery[Span] = 30, cursor: Cursor = None, limit: Limit = 50
    ) -> CostsBody:
        """Show what the last `days` cost (7, 30 or 90, today included), by day and by task, beside the limits of the policy and
        the worst case of all triggers. An attempt costs on the day of its end, UTC."""
        return await asyncio.to_thread(read_costs, hub, days=days, cursor=cursor, limit=limit)

    @get("/api/search", opt=role("viewer"), problems=("malformed",))
    async def find(self, hub: InjectedHub, text: SearchedText) -> FoundBody:
        """Find served tasks with these words in id, name, owner or description, and runs whose id begins so."""
        words, snapshot = text.lower().split(), hub.snapshot
        tasks = [snapshot.registry.tasks[task_id] for task_id in hub.overview.ids_with_words(snapshot, words)]
        # Those whose id or name has the words come first.
        matching = sorted(tasks, key=lambda task: not all(word in f"{task.id} {task.spec.name}".lower() for word in words))
        runs: list[Run] = []
        if _RUN_ID.fullmatch(text.strip().lower()):
            run_filter = RunFilter(id_prefix=text.strip().lower())
            runs = (await asyncio.to_thread(hub.services.store.runs, run_filter, limit=_MAX_FOUND)).items
        return FoundBody(
            tasks=[FoundTaskBody(id=task.id, name=task.spec.name) for task in matching[:_MAX_FOUND]],
            runs=[FoundRunBody(id=run.id, task_id=run.task_id, state=run.state) for run in runs],
        )


class QueueController(Controller):
    """The route `/api/queue`."""

    tags = ("runs",)

    @get("/api/queue", opt=role("viewer"))
    async def get_queue(
        self,
        hub: InjectedHub,
        reason: FromQuery[HoldReason | None] = None,
        task: FromQuery[str | None] = None,
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> QueueBody:
        """Show what the queued runs wait for, with the position and the earliest start of each. `reason` and `task` choose the
        runs that are listed; the groups count all of them."""
        return await asyncio.to_thread(hub.queue.read, reason=reason, task_id=task, cursor=cursor, limit=limit)
