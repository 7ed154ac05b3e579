"""The route that releases a held removal: it lets tasks go whose files disappeared in large numbers (see
`optio.model.removal`)."""

import asyncio

from litestar import Controller, post

from optio.errors import Conflict
from optio.model.removal import removal_digest
from optio.server import request_body
from optio.server.auth import role
from optio.server.bodies.registry import ReleasedBody, ReleaseRemoval
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.task_changes import release


class RemovalController(Controller):
    """Routes of `/api/registry/removal`."""

    tags = ("tasks",)

    @post(
        "/api/registry/removal/release",
        status_code=200,
        opt=role("admin"),
        body=ReleaseRemoval,
        examples=[{"digest": "5d0c1f9a77e2"}],
        body_required=True,
        problems=("conflict",),
    )
    async def release_removal(self, request: Incoming, hub: InjectedHub) -> ReleasedBody:
        """Remove the held tasks, in every server of this database. `digest` is that of `removal` in `GET /api/registry`: if
        the held tasks are others by now, nothing is removed and the answer is 409."""
        digest = (await request_body.read_as(request, hub, ReleaseRemoval)).digest
        async with hub.write_lock:
            task_ids = await _find(hub, digest)
            await release(hub, task_ids, request.state.actor)
            task_count = len(hub.snapshot.registry.tasks)
            return ReleasedBody(digest=digest, count=len(task_ids), tasks=task_ids, served=task_count)


async def _find(hub: Hub, digest: str) -> list[str]:
    """Return the ids of the held tasks that the digest names. Another server alone may hold them, so the store is asked too.
    Raises Conflict."""
    snapshot = hub.snapshot
    if snapshot.removal is not None and snapshot.removal.digest == digest:
        if snapshot.unreadable:
            raise Conflict("the task directory cannot be read now: put it back, even if it is empty, then release again")
        return list(snapshot.removal.tasks)
    rows = await asyncio.to_thread(hub.services.store.removals)
    held_ids = sorted(task_id for task_id, row in rows.items() if row.released_at is None)
    if held_ids and removal_digest(held_ids) == digest:
        return held_ids
    if snapshot.removal is not None:
        raise Conflict(f"other tasks are held now: see GET /api/registry, then run `{snapshot.removal.command}`")
    raise Conflict("no such removal is held: its tasks are served, or gone already")
