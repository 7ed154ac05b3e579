"""Routes of health and of the served registry: liveness, readiness, what is served and was served, and the diagnostics of the
tree."""

import asyncio
from dataclasses import replace
from typing import Annotated

from litestar import Controller, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter

from optio.model import isolation
from optio.processes import health
from optio.server import serializers
from optio.server.answers.generations import read_generation, read_generations
from optio.server.answers.health import list_server_settings, read_installation, tree_faults
from optio.server.auth import PUBLIC, role
from optio.server.bodies.changes import GenerationDetailsBody, GenerationPageBody
from optio.server.bodies.drafts import DiagnosticListBody
from optio.server.bodies.health import HealthBody, InstallationBody, SettingListBody
from optio.server.bodies.registry import RegistryBody, ServerBody
from optio.server.dependencies import InjectedHub
from optio.server.loop_bridge import read_small
from optio.version import __version__

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="most generations in the answer")]


class HealthController(Controller):
    """Routes of `/healthz`, `/readyz`, `/api/health`, `/api/settings`, `/api/registry`, `/api/diagnostics` and
    `/api/generations`."""

    tags = ("health",)

    @get(
        "/healthz",
        opt=role(PUBLIC),
        responses={503: ResponseSpec(HealthBody, description="Not alive", generate_examples=False)},
    )
    async def get_health(self, hub: InjectedHub) -> Response[HealthBody]:
        """Tell whether the process answers and its loops run."""
        return _answer(health.alive(hub.services))

    @get(
        "/readyz", opt=role(PUBLIC), responses={503: ResponseSpec(HealthBody, description="Not ready", generate_examples=False)}
    )
    async def get_readiness(self, hub: InjectedHub) -> Response[HealthBody]:
        """Tell whether the store can be used and a generation is served. `degraded` means that the server works, but slower or
        with looser limits."""
        readiness = await read_small(hub.services.store, health.ready, hub.services)
        snapshot = hub.snapshot
        fleet = (f"{problem.text}: {problem.cure}" for problem in hub.fleet.problems)
        readiness = replace(readiness, degraded=(*readiness.degraded, *tree_faults(snapshot), *fleet))
        if snapshot.generation is None:
            readiness = replace(readiness, problems=(*readiness.problems, "no generation is served yet"))
        return _answer(readiness)

    @get("/api/health", opt=role("viewer"))
    async def get_installation(self, hub: InjectedHub) -> InstallationBody:
        """Show the parts of the installation: its processes with their leases, the work of the schedulers, periodic jobs,
        database and broker, with everything that is wrong."""
        return await asyncio.to_thread(read_installation, hub)

    @get("/api/settings", opt=role("admin"))
    async def list_settings(self, hub: InjectedHub) -> SettingListBody:
        """List the settings of the answering server, each with its origin. Secrets are masked."""
        return list_server_settings(hub)

    @get("/api/registry", opt=role("viewer"))
    async def get_registry(self, hub: InjectedHub) -> RegistryBody:
        """Show the generation that all servers serve: its digest, the digest of each task, the held removal, if there is one,
        and which parts of a task's environment this installation's executor does not apply. `drift` says how the directory of
        the answering server differs from the generation, `servers` what each server serves."""
        snapshot, generation = hub.snapshot, hub.snapshot.generation
        notes = {
            task.id: hub.services.executor.not_applied(isolation.requested_isolation(task))
            for task in snapshot.registry.tasks.values()
        }
        return RegistryBody(
            generation=snapshot.number,
            digest=None if generation is None else generation.digest,
            commit=None if generation is None else generation.commit,
            activated_at=None if generation is None else serializers.at(generation.activated_at),
            tasks={} if generation is None else dict(generation.tasks),
            stale=sorted(snapshot.kept),
            removal=serializers.removal(snapshot.removal),
            drift=serializers.drift(snapshot.drift),
            servers=[
                serializers.to_body(ServerBody, row, generation=row.generation or 0, in_sync=row.in_sync is True)
                for row in await read_small(hub.services.store, hub.services.store.servers)
            ],
            not_applied={task_id: texts for task_id, texts in notes.items() if texts},
            version=__version__,
        )

    @get("/api/diagnostics", opt=role("viewer"))
    async def list_diagnostics(self, hub: InjectedHub) -> DiagnosticListBody:
        """List the compiler's diagnostics for the tree on disk, and the tasks that are served by an older definition."""
        snapshot = hub.snapshot
        return DiagnosticListBody(
            diagnostics=[serializers.diagnostic(diagnostic) for diagnostic in snapshot.diagnostics],
            stale=sorted(snapshot.kept),
            removal=serializers.removal(snapshot.removal),
            files=snapshot.files,
        )

    @get("/api/generations", opt=role("viewer"))
    async def list_generations(
        self,
        hub: InjectedHub,
        task: FromQuery[str | None] = None,
        cursor: FromQuery[str | None] = None,
        limit: Limit = 20,
    ) -> GenerationPageBody:
        """List the generations that were served, newest first: how many tasks each added, changed and removed, and how many
        runs were accepted meanwhile. With `task`, only those that added, changed or removed it; a page may then hold fewer than
        `limit`. `drift` says how the files of the answering server differ from the newest."""
        return await asyncio.to_thread(read_generations, hub, cursor, limit, task)

    @get("/api/generations/{number:str}", opt=role("viewer"), problems=("not-found",))
    async def get_generation(
        self, number: FromPath[str], hub: InjectedHub, task: FromQuery[str | None] = None
    ) -> GenerationDetailsBody:
        """Show what a generation did, or with `task` what it did to that one, compared with the generation before it: times,
        money, secrets, hosts, prompts, as `optio plan` told it in the pull request."""
        return await asyncio.to_thread(read_generation, hub, number, task)


def _answer(state: health.Health) -> Response[HealthBody]:
    return Response(HealthBody(**state.to_json()), status_code=state.status)
