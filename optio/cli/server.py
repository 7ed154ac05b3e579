"""Serve the API. `optio worker` executes runs and `optio scheduler` fires schedules; all three share one database."""

import argparse
import asyncio
import logging
import socket
from functools import partial

from optio.cli import OK
from optio.cli.shared import flags
from optio.cli.shared.listening import listen, run_loop
from optio.cli.shared.process_life import attach_health, log_to_stderr, open_metrics_port
from optio.cli.shared.serving import serve
from optio.cli.shared.starting import Signals, wait_for
from optio.compiler.diagnostics import Severity
from optio.errors import SettingsError, StoreUnavailable
from optio.processes.metrics_server import MetricsServer, StartingApi
from optio.runs.signature import unusable_secrets
from optio.secrets.base import value_at_hand
from optio.settings import Settings
from optio.tree.reload import Reloader, log_news
from optio.tree.served import ServedRegistry, Snapshot, server_name
from optio.version import __version__
from optio.wiring import Services, build

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_setting_flags(parser, "tasks", "data_dir", "host", "port", "writes", "allowed_hosts")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM. Returns 0."""
    settings = flags.read_settings(args)
    log_to_stderr(settings)
    sock = listen(settings.host, settings.port)
    Signals()
    try:
        with open_metrics_port(settings) as probe:
            services, served_registry = _open_when_ready(settings, sock, probe)
            try:
                attach_health(services, probe)
                run_loop(_serve(services, served_registry, sock))
            finally:
                services.close()
    finally:
        sock.close()
    return OK


def _open_when_ready(settings: Settings, sock: socket.socket, probe: MetricsServer | None) -> tuple[Services, ServedRegistry]:
    """Wait for the database, and answer health probes meanwhile. Returns the services and the registry that was served last."""
    answering: list[StartingApi] = []

    def tell(text: str) -> None:
        answering.append(StartingApi(sock, text))
        if probe is not None:
            probe.wait_for(text)

    try:
        return wait_for("the database", lambda: _open(settings), "server", tell)
    finally:
        for thread in answering:
            thread.stop()


def _open(settings: Settings) -> tuple[Services, ServedRegistry]:
    services = build(settings, "server")
    try:
        if settings.oidc_issuer is None and not services.store.tokens():
            raise SettingsError(
                "the database has no API token: create one with `optio token create --role admin`, or use `optio dev`"
            )
        served_registry = ServedRegistry(services.store, settings.removal_limit, server=server_name(settings.tasks))
        served_registry.restore()
    except BaseException:
        services.close()
        raise
    return services, served_registry


async def _serve(services: Services, served_registry: ServedRegistry, sock: socket.socket) -> None:
    secrets = _SecretsLog(services)

    def log_change(snapshot: Snapshot) -> None:
        log_news(snapshot)
        secrets.log(snapshot)

    reloader = Reloader(services.settings.tasks, served_registry, services.broker, on_change=log_change)
    try:
        await reloader.load()
    except StoreUnavailable as err:
        # The database is down again: the tree is loaded as soon as it is back, and `/readyz` reports that until then.
        log.warning("the task files are not served yet: %s", err)
    snapshot = served_registry.current
    # An unchanged tree calls no `on_change`, so the secrets are logged here.
    secrets.log(snapshot)
    host, port = sock.getsockname()[:2]
    errors = sum(d.severity is Severity.ERROR for d in snapshot.diagnostics)
    log.info(
        "optio %s server on %s port %d: %d tasks, %d errors in %s",
        __version__,
        host,
        port,
        len(snapshot.registry.tasks),
        errors,
        services.settings.tasks.absolute(),
    )
    stop = asyncio.Event()
    watching = asyncio.create_task(reloader.watch(stop))
    try:
        await serve(services, served_registry, sock, stop, reload=reloader.load)
    finally:
        stop.set()
        await watching


class _SecretsLog:
    """Logs webhook secrets that cannot verify anything, each when it is first found."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._reported: set[tuple[str, str, str, str]] = set()

    def log(self, snapshot: Snapshot) -> None:
        # Nothing waits here for a program: its values are examined when a delivery comes.
        get = partial(value_at_hand, self._services.secrets)
        problems = set(unusable_secrets(snapshot.registry.tasks.values(), get))
        for task_id, path, name, fault in sorted(problems - self._reported):
            log.error("webhook %s of %s: the secret %s cannot be used: %s", path, task_id, name, fault)
        self._reported = problems
