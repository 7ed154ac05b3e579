"""Release a held removal: let tasks go whose files are gone in numbers."""

import asyncio
import logging
from typing import Any

from litestar import Controller, Request, post
from litestar.di import NamedDependency

from optio.errors import Conflict, Invalid, Problem
from optio.server import payload
from optio.server.auth import role
from optio.server.hub import Hub
from optio.server.runs import refuse_unknown

log = logging.getLogger(__name__)


class RemovalController(Controller):
    """Routes of `/api/registry/removal`."""

    tags = ("tasks",)

    @post("/api/registry/removal/release", status_code=200, opt=role("admin"))
    async def release(self, request: Request[Any, Any, Any], hub: NamedDependency[Hub]) -> dict[str, Any]:
        """Remove the held tasks, in every server of this database. `digest` is that of `removal` in `GET /api/registry`: if
        the held tasks are others by now, nothing is removed and the answer is 409."""
        document = payload.mapping(await payload.raw(request, hub.services.settings.max_body_bytes))
        refuse_unknown(document, "digest")
        digest = document.get("digest")
        if not isinstance(digest, str):
            hint = "send the `digest` of `removal` in GET /api/registry"
            raise Invalid("the release names no removal", [Problem("/digest", "must be a text", hint=hint)])
        async with hub.turn:
            snapshot = hub.live.current
            if snapshot.removal is None:
                raise Conflict("this server holds no removal: its tasks are served, or gone already")
            if snapshot.removal.digest != digest:
                raise Conflict(f"other tasks are held now: see GET /api/registry, then run `{snapshot.removal.command}`")
            if snapshot.unreadable:
                raise Conflict("the task directory cannot be read now: put it back, even if it is empty, then release again")
            await release(hub, snapshot.removal.tasks, request.state.actor)
            return {
                "digest": digest,
                "count": len(snapshot.removal.tasks),
                "tasks": list(snapshot.removal.tasks),
                "served": len(hub.live.current.registry.tasks),
            }


async def release(hub: Hub, task_ids: tuple[str, ...], actor: str) -> None:
    """Let these held tasks go: note it for all servers, and serve without them here. Raises StoreUnavailable."""
    await asyncio.to_thread(hub.services.store.release_removals, task_ids, actor)
    log.warning("%d held tasks were released by %s", len(task_ids), actor)
    await hub.reload(())
