"""Run parts on their own until a signal."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from optio.cli import OK
from optio.cli.shared.serving import attach_health, limit_shutdown, log_to_stderr, open_metrics_port
from optio.cli.shared.starting import Signals, wait_for
from optio.settings import Settings
from optio.version import __version__
from optio.wiring import Services, build

log = logging.getLogger(__name__)


class ServicePart(Protocol):
    """What can be started and stopped."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class MakeServicePart(Protocol):
    """Makes the part from the services."""

    def __call__(self, services: Services, /) -> ServicePart: ...


def run_until_signal(settings: Settings, name: str, *make: MakeServicePart) -> int:
    """Start the parts as soon as what they need is there, wait for SIGINT or SIGTERM, stop them."""
    log_to_stderr(settings)
    signals = Signals()
    with open_metrics_port(settings) as probe:
        tell: Callable[[str], object] = (lambda what: None) if probe is None else probe.wait_for
        services = wait_for("the database", lambda: build(settings, name), name, tell)
        try:
            # Of the parts, a worker asks the cluster where its pods are.
            parts = [wait_for("the cluster", partial(each, services), name, tell) for each in make]
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
