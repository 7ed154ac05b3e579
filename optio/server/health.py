"""Is it alive, is it ready, what does it serve, what is wrong with the tree."""

import asyncio
import logging
from typing import Any

from litestar import Controller, Response, get
from litestar.di import NamedDependency

from optio.errors import OptioError
from optio.server import views
from optio.server.auth import PUBLIC, role
from optio.server.hub import Hub
from optio.version import __version__

log = logging.getLogger(__name__)


class HealthController(Controller):
    """See the module."""

    tags = ("health",)

    @get("/healthz", opt=role(PUBLIC))
    async def alive(self) -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @get("/readyz", opt=role(PUBLIC))
    async def ready(self, hub: NamedDependency[Hub]) -> Response[dict[str, Any]]:
        """The store can be used and a generation is served. `degraded` says that it works, slower or with looser limits."""
        problems = []
        try:
            await asyncio.to_thread(hub.services.store.check)
        except OptioError as err:
            # Anyone may ask: the log tells more.
            log.warning("not ready: %s", err)
            problems.append("the store cannot be used")
        if hub.live.current.generation is None:
            problems.append("no generation is served yet")
        status = 503 if problems else 200
        degraded = []
        if hub.services.broker.problem() is not None:
            degraded.append("Redis cannot be used: runs start by sweeps, live logs lag")
        if hub.services.rate.problem() is not None:
            degraded.append("Redis cannot be used: each server counts webhook requests by itself")
        word = "unavailable" if problems else "degraded" if degraded else "ok"
        return Response({"status": word, "problems": problems + degraded}, status_code=status)

    @get("/api/registry", opt=role("viewer"))
    async def registry(self, hub: NamedDependency[Hub]) -> dict[str, Any]:
        """The generation that is served: its digest, and the digest of each task."""
        snapshot = hub.live.current
        return {**views.generation(snapshot.generation), "stale": sorted(snapshot.kept), "version": __version__}

    @get("/api/diagnostics", opt=role("viewer"))
    async def diagnostics(self, hub: NamedDependency[Hub]) -> dict[str, Any]:
        """What the compiler says about the tree on disk, and the tasks that are served by an older definition."""
        snapshot = hub.live.current
        return {
            "diagnostics": [diagnostic.to_json() for diagnostic in snapshot.diagnostics],
            "stale": sorted(snapshot.kept),
            "files": snapshot.files,
        }
