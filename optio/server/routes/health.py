"""Routes of health and of the served registry: liveness, readiness, the generation that is served, and the diagnostics of the
tree."""

import time
from collections.abc import Iterator
from dataclasses import replace

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from optio.model import isolation
from optio.model.drift import DRIFT_GRACE_S
from optio.processes import health
from optio.server import serializers
from optio.server.auth import PUBLIC, role
from optio.server.bodies import DiagnosticListBody, HealthBody, RegistryBody
from optio.server.dependencies import Hub
from optio.server.loop_bridge import read_small
from optio.tree.served import Snapshot
from optio.version import __version__


def tree_faults(snapshot: Snapshot) -> Iterator[str]:
    """Yield the reasons for which a server that serves this is degraded."""
    if snapshot.removal is not None:
        yield snapshot.removal.summary
    if snapshot.unreadable:
        yield "the task directory cannot be read: nothing in it is taken up"
    if snapshot.drift is not None and time.monotonic() - snapshot.drift.since > DRIFT_GRACE_S:
        yield snapshot.drift.summary


class HealthController(Controller):
    """Routes of `/healthz`, `/readyz`, `/api/registry` and `/api/diagnostics`."""

    tags = ("health",)

    @get(
        "/healthz",
        opt=role(PUBLIC),
        responses={503: ResponseSpec(HealthBody, description="Not alive", generate_examples=False)},
    )
    async def get_health(self, hub: NamedDependency[Hub]) -> Response[HealthBody]:
        """Tell whether the process answers and its loops run."""
        return _answer(health.alive(hub.services))

    @get(
        "/readyz", opt=role(PUBLIC), responses={503: ResponseSpec(HealthBody, description="Not ready", generate_examples=False)}
    )
    async def get_readiness(self, hub: NamedDependency[Hub]) -> Response[HealthBody]:
        """Tell whether the store can be used and a generation is served. `degraded` means that the server works, but slower or
        with looser limits."""
        found = await read_small(hub.services.store, health.ready, hub.services)
        snapshot = hub.live.current
        found = replace(found, degraded=(*found.degraded, *tree_faults(snapshot)))
        if snapshot.generation is None:
            found = replace(found, problems=(*found.problems, "no generation is served yet"))
        return _answer(found)

    @get("/api/registry", opt=role("viewer"))
    async def get_registry(self, hub: NamedDependency[Hub]) -> RegistryBody:
        """Show the generation that all servers serve: its digest, the digest of each task, the held removal, if there is one,
        and which parts of a task's environment this installation's executor does not apply. `drift` says how the directory of
        the answering server differs from the generation, `servers` what each server serves."""
        snapshot = hub.live.current
        notes = {
            task.id: hub.services.executor.not_applied(isolation.requested_isolation(task))
            for task in snapshot.registry.tasks.values()
        }
        return RegistryBody(
            **serializers.generation(snapshot.generation),
            stale=sorted(snapshot.kept),
            removal=serializers.removal(snapshot.removal),
            drift=serializers.drift(snapshot.drift),
            servers=[serializers.server(row) for row in await read_small(hub.services.store, hub.services.store.servers)],
            not_applied={task_id: texts for task_id, texts in notes.items() if texts},
            version=__version__,
        )

    @get("/api/diagnostics", opt=role("viewer"))
    async def list_diagnostics(self, hub: NamedDependency[Hub]) -> DiagnosticListBody:
        """List the compiler's diagnostics for the tree on disk, and the tasks that are served by an older definition."""
        snapshot = hub.live.current
        return DiagnosticListBody(
            diagnostics=[serializers.diagnostic(diagnostic) for diagnostic in snapshot.diagnostics],
            stale=sorted(snapshot.kept),
            removal=serializers.removal(snapshot.removal),
            files=snapshot.files,
        )


def _answer(found: health.Health) -> Response[HealthBody]:
    return Response(HealthBody(**found.to_json()), status_code=found.status)
