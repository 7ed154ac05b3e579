"""The route that finds tasks and runs by a few typed letters, for the palette of the dashboard."""

import asyncio
import re
from typing import Annotated

from litestar import Controller, get
from litestar.params import QueryParameter

from optio.model.run import Run
from optio.server.auth import role
from optio.server.bodies.search import FoundBody, FoundRunBody, FoundTaskBody
from optio.server.dependencies import InjectedHub
from optio.store.values import RunFilter

_MAX_FOUND = 8
_RUN_ID = re.compile(r"[0-9a-f-]{4,36}")
Words = Annotated[
    str, QueryParameter(name="q", min_length=1, max_length=200, description="words of tasks, or the beginning of a run id")
]


class SearchController(Controller):
    """Routes of `/api/search`."""

    tags = ("tasks",)

    @get("/api/search", opt=role("viewer"), problems=("malformed",))
    async def find(self, hub: InjectedHub, text: Words) -> FoundBody:
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
