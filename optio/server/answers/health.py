"""Answers about the health of the installation, and the settings of this server."""

import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.errors import OptioError
from optio.model.drift import DRIFT_GRACE_S
from optio.model.fleet import FleetState, find_problems
from optio.processes import health
from optio.server import serializers
from optio.server.bodies.health import InstallationBody, JobBody, PartBody, ScheduleStateBody, SettingBody, SettingListBody
from optio.server.dependencies import Hub
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
        self._counted_diagnostics: tuple[tuple[Diagnostic, ...], int] = ((), 0)

    def __call__(self, diagnostics: tuple[Diagnostic, ...]) -> int:
        counted, count = self._counted_diagnostics
        if counted is not diagnostics:
            count = len({diagnostic.path for diagnostic in diagnostics if diagnostic.severity is Severity.ERROR})
            self._counted_diagnostics = (diagnostics, count)
        return count


_broken_files = _BrokenFiles()


def read_installation(hub: Hub) -> InstallationBody:
    """Return the health of the installation. A database that cannot be read is a problem of the answer, not an error."""
    services, snapshot = hub.services, hub.snapshot
    readiness = health.ready(services)
    fleet, unreadable = FleetState(now=datetime.now(UTC), queued={}), None
    try:
        fleet = hub.fleet.read()
    except OptioError as err:
        unreadable = str(err)
    problems = [*readiness.problems, *([] if snapshot.generation is not None else ["no generation is served yet"])]
    degraded = [*(problem.summary for problem in find_problems(fleet)), *_own_warnings(hub)]
    return InstallationBody(
        **replace(readiness, problems=tuple(problems), degraded=tuple(degraded)).to_json(),
        **serializers.fleet(fleet),
        schedules=None if unreadable is not None else serializers.to_body(ScheduleStateBody, fleet),
        jobs=[serializers.to_body(JobBody, row) for row in fleet.jobs],
        parts=list(_parts(hub, unreadable)),
        executor=services.settings.executor,
        versions={"optio": __version__, "python": platform.python_version()},
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
