"""Run a part on its own until a signal."""

import signal
import threading
from typing import Protocol

from optio.cli import OK
from optio.cli.serving import log_to_stderr
from optio.settings import Settings
from optio.wiring import Services, build


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
    try:
        part.start()
        ended.wait()
        part.stop()
    finally:
        services.close()
    return OK
