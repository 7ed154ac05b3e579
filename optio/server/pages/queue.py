"""The page of the queue: what the queued runs wait for."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Literal

from litestar import Response, get
from litestar.params import FromQuery, QueryParameter

from optio.runs.admission import HoldReason
from optio.server.auth import role
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.pages.rendering import Pages, page

_PAGE = 50
# Each reason in words, and what lets its runs start.
REASONS: Mapping[str | None, tuple[str, str]] = {
    None: ("about to start", "a worker takes them at once"),
    "paused": ("paused", "somebody ends the pause of the task"),
    "no_worker": ("no worker", "a worker starts that serves their namespace"),
    "delayed": ("delayed", "the time of their next attempt comes"),
    "same_key": ("same key", "the run that has their business key ends"),
    "start_limit": ("start limit", "earlier starts leave the window of startLimit"),
    "task_limit": ("task limit", "a run of the task ends (maxConcurrent)"),
    "no_room": ("no room", "the cluster has room"),
    "refused": ("refused", "the cluster or the machine starts agents again"),
    "secret_source": ("secrets", "their secrets can be read again"),
    "priority": ("priority", "runs of higher priority have started"),
    "global_limit": ("global limit", "any run ends (OPTIO_MAX_WORKFLOW_CONCURRENT)"),
}
Word = Annotated[str, QueryParameter(max_length=200)]


class QueuePages(Pages):
    """Routes of `/queue`."""

    @get("/queue", opt=role("viewer"))
    async def queue_page(
        self,
        request: Incoming,
        hub: InjectedHub,
        reason: FromQuery[Literal["", HoldReason]] = "",
        task: Word = "",
        cursor: Word = "",
    ) -> Response[str]:
        """Show what the queued runs wait for, and the runs that wait, oldest first."""
        queue = await asyncio.to_thread(
            hub.queue.read, reason=reason or None, task_id=task or None, cursor=cursor or None, limit=_PAGE
        )
        return page(request, "queue.html", found=queue, filters={"reason": reason, "task": task}, reasons=REASONS)
