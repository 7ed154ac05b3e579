"""Life of a process that stays: a log, a metrics port with its health, and an end that comes in time."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator

from optio.cli import OK
from optio.processes import health
from optio.processes.metrics_server import MetricsServer
from optio.settings import Settings
from optio.telemetry import logs
from optio.telemetry.base import MISSING
from optio.wiring import Services

log = logging.getLogger(__name__)
# Supervisors usually kill a process ten seconds after SIGTERM.
SHUTDOWN_TIMEOUT_S = 9.5


def log_to_stderr(settings: Settings, level: int = logging.INFO) -> None:
    """Log to standard error, one line per fact, as text or JSON."""
    logs.configure(settings.log_format, level)


@contextlib.contextmanager
def open_metrics_port(settings: Settings) -> Iterator[MetricsServer | None]:
    """Open the metrics port for the block if the settings have one; services are attached later. Raises SettingsError if it is
    taken."""
    if not settings.metrics_port:
        yield None
        return
    probe = MetricsServer(settings)
    probe.start()
    try:
        yield probe
    finally:
        probe.stop()


def attach_health(services: Services, probe: MetricsServer | None) -> None:
    """Show the health of these services in the metrics, and on the metrics port if there is one."""
    if services.metrics is not None:
        services.metrics.add(lambda: health.readings(services))
    if probe is not None:
        probe.attach(services)
        if services.metrics is None:
            log.warning("OPTIO_METRICS_PORT shows health alone: %s", MISSING)


def limit_shutdown() -> None:
    """End the process after `SHUTDOWN_TIMEOUT_S`, even if the store or broker hangs. Unsaved state is as safe as after `kill
    -9`."""
    timer = threading.Timer(SHUTDOWN_TIMEOUT_S, os._exit, (OK,))
    timer.daemon = True
    timer.start()
