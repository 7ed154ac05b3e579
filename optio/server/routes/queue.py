"""The route of the queue: why each queued run waits."""

import asyncio

from litestar import Controller, get
from litestar.params import FromQuery

from optio.runs.admission import HoldReason
from optio.server.auth import role
from optio.server.bodies.queue import QueueBody
from optio.server.dependencies import InjectedHub
from optio.server.routes.runs import Cursor, Limit


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
