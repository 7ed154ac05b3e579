"""Run a part on its own until a signal."""

import logging
import signal
import threading
from typing import Protocol

from optio.cli import OK
from optio.cli.serving import log_to_stderr
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


def until_stopped(settings: Settings, make: MakePart) -> int:
    """Start the part, wait for SIGINT or SIGTERM, stop it."""
    log_to_stderr()
    services = build(settings)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    part = make(services)
    name = type(part).__name__.lower()
    try:
        part.start()
        log.info("optio %s %s on %s", __version__, name, settings.data_dir.absolute())
        ended.wait()
        log.info("the %s is stopping", name)
        part.stop()
    finally:
        services.close()
    return OK
