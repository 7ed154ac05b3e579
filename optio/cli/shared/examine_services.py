"""The checks of `optio doctor` about services: database, broker, sign-in, cluster, the server and its port, processes."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeVar

from optio import wiring
from optio.cli.shared import client
from optio.errors import NotFound, SettingsError, StoreMismatch, StoreUnavailable
from optio.model.fleet import ProcessKind, find_problems
from optio.model.probe_result import ProbeResult
from optio.plan.words import pluralize
from optio.settings import Settings
from optio.store.base import Store

T = TypeVar("T")
# Servers named in a hint.
_MAX_NAMED = 3


def examine_database(settings: Settings) -> Iterator[ProbeResult]:
    """Check the database."""
    yield from _run_probe("database", wiring.examine_store(settings))


def examine_broker(settings: Settings) -> Iterator[ProbeResult]:
    """Check Redis, if it is used."""
    yield from _run_probe("redis", wiring.examine_broker(settings))


def examine_identity(settings: Settings) -> Iterator[ProbeResult]:
    """Check that people can sign in by their provider, if one is set."""
    try:
        provider = wiring.identity(settings)
    except SettingsError as err:
        yield ProbeResult("sign-in", "error", str(err))
        return
    yield from [] if provider is None else provider.examine()


def examine_cluster(settings: Settings) -> Iterator[ProbeResult]:
    """Check the permissions, pod security and network policies of the cluster."""
    if settings.executor != "kubernetes":
        detail = f"OPTIO_EXECUTOR is {settings.executor}, so runs are not pods"
        yield ProbeResult("cluster", "warning", detail, "export OPTIO_EXECUTOR=kubernetes")
    yield from _run_probe("cluster", wiring.examine_cluster(settings))


def _run_probe(name: str, probe: Iterator[ProbeResult]) -> Iterator[ProbeResult]:
    try:
        yield from probe
    except SettingsError as err:
        yield ProbeResult(name, "error", str(err))


def examine_server(settings: Settings) -> Iterator[ProbeResult]:
    """Check the server that answers here, or that its port is free."""
    try:
        answer = client.Client(settings).request("GET", "/api/registry")
        detail = f"optio {answer['version']} answers at {settings.server_url}, generation {answer['generation']}"
        yield ProbeResult("server", "ok", detail)
        yield from _examine_registry(answer)
    except SettingsError as err:
        yield ProbeResult("server", "error", str(err))
    except client.ServerRefused as err:
        if err.status == 0:
            yield _examine_port(settings) if settings.url is None else _absence(settings)
            return
        hint = "give a token with --token or OPTIO_TOKEN, or log in" if err.status in (401, 403) else None
        detail = f"{settings.server_url} answers {err.status}: {err}"
        command = f"optio login {settings.server_url}" if hint else None
        yield ProbeResult("server", "warning" if hint else "error", detail, hint, command)
    except (ValueError, KeyError, TypeError):
        detail = f"something that is not Optio answers at {settings.server_url}"
        hint = "choose another port with --port or OPTIO_PORT"
        yield ProbeResult("server", "error", detail, hint, f"export OPTIO_PORT={_free_port()}")


def _examine_registry(registry: dict[str, Any]) -> Iterator[ProbeResult]:
    """Check what the server says of its tasks: a held removal, and drift."""
    removal, drift = registry.get("removal"), registry.get("drift")
    if removal is not None:
        problem = f"the files of {removal['count']} of {removal['total']} tasks were deleted, the tasks are held"
        cure = f"restore the files, or run `{removal['release']}` to remove the tasks"
        yield ProbeResult("tasks", "warning", f"{problem} since {removal['since']}", cure)
    if drift is not None:
        tasks = "1 task differs" if drift["count"] == 1 else f"{drift['count']} tasks differ"
        detail = f"{tasks} between its task directory and generation {drift['generation']}, which all servers serve"
        servers = f" of {', '.join(drift['inSync'][:_MAX_NAMED])}" if drift["inSync"] else ""
        yield ProbeResult("tasks", "warning", detail, f"copy the files{servers} to it")


def _absence(settings: Settings) -> ProbeResult:
    origin = settings.origins["url"]
    unset = "unset OPTIO_URL" if origin == "OPTIO_URL" else "use `--context local`"
    detail = f"no server answers at {settings.server_url} ({origin})"
    return ProbeResult("server", "error", detail, f"start it, or {unset}", "optio dev")


def _examine_port(settings: Settings) -> ProbeResult:
    address = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.host, settings.port))
        except OSError as err:
            detail = f"{address} cannot be used to listen: {err.strerror}"
            hint = "choose another with --port or OPTIO_PORT"
            return ProbeResult("server", "error", detail, hint, f"export OPTIO_PORT={_free_port()}")
    return ProbeResult("server", "ok", f"not running; {address} is free for `optio dev`")


def examine_processes(settings: Settings) -> Iterator[ProbeResult]:
    """Check that the processes of the installation live, if its database can be read here."""
    fleet = None if settings.url is not None else read_store(settings, lambda store: store.fleet())
    if fleet is None:
        return
    problems = find_problems(fleet)
    for problem in problems:
        yield ProbeResult("processes", "warning", problem.detail, problem.cure)
    if not problems:
        # An installation may do without a gateway.
        kinds = [kind for kind in ProcessKind if kind is not ProcessKind.GATEWAY or fleet.live(kind)]
        counts = ", ".join(pluralize(len(fleet.live(kind)), str(kind)) for kind in kinds)
        yield ProbeResult("processes", "ok", f"live: {counts}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def read_store(settings: Settings, read: Callable[[Store], T]) -> T | None:
    """Return what a function reads of the database, which is neither created nor migrated; None if it cannot be read."""
    if settings.database is not None and not settings.database.exists():
        return None
    try:
        with closing(wiring.open_store(settings, migrated=False)) as store:
            return read(store)
    except (SettingsError, StoreUnavailable, StoreMismatch, NotFound):
        return None
