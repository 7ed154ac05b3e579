"""Run parts on their own until a signal."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from optio.cli import OK
from optio.cli.shared.serving import attach, end_in_time, log_to_stderr, probing
from optio.cli.shared.starting import Signals, wait_for
from optio.settings import Settings
from optio.version import __version__
from optio.wiring import Services, build

log = logging.getLogger(__name__)


class Part(Protocol):
    """What can be started and stopped."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class MakePart(Protocol):
    """Makes the part from the services."""

    def __call__(self, services: Services, /) -> Part: ...


def until_stopped(settings: Settings, name: str, *make: MakePart) -> int:
    """Start the parts as soon as what they need is there, wait for SIGINT or SIGTERM, stop them."""
    log_to_stderr(settings)
    signals = Signals()
    with probing(settings) as probe:
        tell: Callable[[str], object] = (lambda what: None) if probe is None else probe.wait_for
        services = wait_for("the database", lambda: build(settings, name), name, tell)
        try:
            # Of the parts, a worker asks the cluster where its pods are.
            parts = [wait_for("the cluster", partial(each, services), name, tell) for each in make]
            attach(services, probe)
            signals.started()
            for part in parts:
                part.start()
            log.info("optio %s %s on %s", __version__, name, settings.data_dir.absolute())
            signals.wait()
            end_in_time()
            log.info("the %s is stopping", name)
            for part in parts:
                part.stop()
        finally:
            services.close()
    signals.close()
    return OK
