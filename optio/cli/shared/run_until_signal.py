"""The life of a background process (worker, scheduler): wait for the database, start its parts, stop them on a signal."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from optio.cli import OK
from optio.cli.shared.process_life import attach_health, limit_shutdown, log_to_stderr, open_metrics_port
from optio.cli.shared.starting import Signals, wait_for
from optio.settings import Settings
from optio.version import __version__
from optio.wiring import Services, build

log = logging.getLogger(__name__)


class ServicePart(Protocol):
    """A part that can be started and stopped, such as `Worker`."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class MakeServicePart(Protocol):
    """A function that makes the part from the services, usually its class."""

    def __call__(self, services: Services, /) -> ServicePart: ...


def run_until_signal(settings: Settings, name: str, *make: MakeServicePart) -> int:
    """Start the parts as soon as the database and the cluster are available, wait for SIGINT or SIGTERM, and stop them. Returns
    0."""
    log_to_stderr(settings)
    signals = Signals()
    with open_metrics_port(settings) as probe:
        tell: Callable[[str], object] = (lambda text: None) if probe is None else probe.wait_for
        services = wait_for("the database", lambda: build(settings, name), name, tell)
        try:
            # A worker asks the cluster where its pods are as it is made.
            parts = [wait_for("the cluster", partial(factory, services), name, tell) for factory in make]
            attach_health(services, probe)
            signals.started()
            for part in parts:
                part.start()
            log.info("optio %s %s on %s", __version__, name, settings.data_dir.absolute())
            signals.wait()
            limit_shutdown()
            log.info("the %s is stopping", name)
            for part in parts:
                part.stop()
        finally:
            services.close()
    signals.close()
    return OK
