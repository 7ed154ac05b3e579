"""Routes of health and of the served registry: liveness, readiness, the generation that is served, and the diagnostics of the
tree."""

import asyncio
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.errors import OptioError
from optio.model import isolation
from optio.model.drift import DRIFT_GRACE_S
from optio.model.fleet import FleetState, find_problems
from optio.processes import health
from optio.server import serializers
from optio.server.auth import PUBLIC, role
from optio.server.bodies.diagnostics import DiagnosticListBody
from optio.server.bodies.health import (
    HealthBody,
    InstallationBody,
    JobBody,
    PartBody,
    ScheduleStateBody,
    SettingBody,
    SettingListBody,
)
from optio.server.bodies.registry import RegistryBody
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


def warnings_of(hub: Hub) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with the fleet, the tree or a service while the server works, without
    asking the store."""
    yield from (problem.detail for problem in hub.fleet.problems)
    yield from _own_warnings(hub)


def _own_warnings(hub: Hub) -> Iterator[str]:
    files = _broken_files(hub.snapshot.diagnostics)
    if files:
        yield f"{files} {'file has' if files == 1 else 'files have'} errors: last good definitions are served"
    yield from tree_faults(hub.snapshot)
    yield from health.slower(hub.services)


class _BrokenFiles:
    """The number of files that have errors, counted once for each check of the tree."""

    def __init__(self) -> None:
        self._known: tuple[tuple[Diagnostic, ...], int] = ((), 0)

    def __call__(self, diagnostics: tuple[Diagnostic, ...]) -> int:
        known, count = self._known
        if known is not diagnostics:
            count = len({each.path for each in diagnostics if each.severity is Severity.ERROR})
            self._known = (diagnostics, count)
        return count


_broken_files = _BrokenFiles()


class HealthController(Controller):
    """Routes of `/healthz`, `/readyz`, `/api/health`, `/api/settings`, `/api/registry` and `/api/diagnostics`."""

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
        snapshot = hub.snapshot
        fleet = (f"{problem.text}: {problem.cure}" for problem in hub.fleet.problems)
        found = replace(found, degraded=(*found.degraded, *tree_faults(snapshot), *fleet))
        if snapshot.generation is None:
            found = replace(found, problems=(*found.problems, "no generation is served yet"))
        return _answer(found)

    @get("/api/health", opt=role("viewer"))
    async def get_installation(self, hub: NamedDependency[Hub]) -> InstallationBody:
        """Show the parts of the installation: its processes with their leases, the work of the schedulers, periodic jobs,
        database and broker, with everything that is wrong."""
        return await asyncio.to_thread(read_installation, hub)

    @get("/api/settings", opt=role("admin"))
    async def list_settings(self, hub: NamedDependency[Hub]) -> SettingListBody:
        """List the settings of the answering server, each with its origin. Secrets are masked."""
        return list_server_settings(hub)

    @get("/api/registry", opt=role("viewer"))
    async def get_registry(self, hub: NamedDependency[Hub]) -> RegistryBody:
        """Show the generation that all servers serve: its digest, the digest of each task, the held removal, if there is one,
        and which parts of a task's environment this installation's executor does not apply. `drift` says how the directory of
        the answering server differs from the generation, `servers` what each server serves."""
        snapshot = hub.snapshot
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
        snapshot = hub.snapshot
        return DiagnosticListBody(
            diagnostics=[serializers.diagnostic(diagnostic) for diagnostic in snapshot.diagnostics],
            stale=sorted(snapshot.kept),
            removal=serializers.removal(snapshot.removal),
            files=snapshot.files,
        )


def read_installation(hub: Hub) -> InstallationBody:
    """Return the health of the installation. A database that cannot be read is a problem of the answer, not an error."""
    services, snapshot = hub.services, hub.snapshot
    found = health.ready(services)
    fleet, unreadable = FleetState(now=datetime.now(UTC), queued={}), None
    try:
        fleet = hub.fleet.read()
    except OptioError as err:
        unreadable = str(err)
    problems = [*found.problems, *([] if snapshot.generation is not None else ["no generation is served yet"])]
    degraded = [*(problem.summary for problem in find_problems(fleet)), *_own_warnings(hub)]
    return InstallationBody(
        **replace(found, problems=tuple(problems), degraded=tuple(degraded)).to_json(),
        **serializers.fleet(fleet),
        schedules=None if unreadable is not None else _schedule_state(fleet),
        jobs=[
            JobBody(
                job=row.job,
                owner=row.owner,
                lease_until=serializers.at_if_known(row.lease_until),
                ended_at=serializers.at_if_known(row.ended_at),
            )
            for row in fleet.jobs
        ],
        parts=list(_parts(hub, unreadable)),
        executor=services.settings.executor,
        versions={"optio": __version__, "python": platform.python_version()},
    )


def _schedule_state(fleet: FleetState) -> ScheduleStateBody:
    return ScheduleStateBody(
        generation=fleet.generation,
        adopted_at=serializers.at_if_known(fleet.adopted_at),
        next_fire=serializers.at_if_known(fleet.next_fire),
        overdue=fleet.is_overdue,
    )


def _parts(hub: Hub, unreadable: str | None) -> Iterator[PartBody]:
    services = hub.services
    database = "SQLite" if services.settings.database is not None else "PostgreSQL"
    shared = "in this machine" if services.settings.redis_url is None else "Redis"
    yield PartBody(part="database", kind=database, problem=unreadable)
    yield PartBody(part="broker", kind=shared, problem=services.broker.problem())
    yield PartBody(part="rate limits", kind=shared, problem=services.rate.problem())


def list_server_settings(hub: Hub) -> SettingListBody:
    """Return the settings of this server, in the order of the manual."""
    rows = hub.services.settings.shown()
    return SettingListBody(
        items=[SettingBody(name=name, value=value, origin=origin, help=text) for name, value, origin, text in rows]
    )


def _answer(found: health.Health) -> Response[HealthBody]:
    return Response(HealthBody(**found.to_json()), status_code=found.status)
