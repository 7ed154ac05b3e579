"""Run parts on their own until a signal."""

import logging
import os
import signal
from typing import Protocol

from optio.cli import OK
from optio.cli.serving import end_in_time, log_to_stderr, probing
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


class _Signals:
    """SIGINT and SIGTERM: the first is waited for, the second ends the process at once. That is safe: so is `kill -9`.

    The interpreter itself writes into the pipe: a handler in Python runs when the waiting thread goes on, which it never does
    where the signal came a moment before it began to wait, or came to another thread.
    """

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)

    def _end(self, *_: object) -> None:
        if self._came:
            os._exit(OK)
        self._came = True

    def wait(self) -> None:
        """Until the first of them."""
        while not self._came:
            os.read(self._reader, 1)

    def close(self) -> None:
        """All is done: an order that comes now has been followed, and must not look like a crash."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def until_stopped(settings: Settings, name: str, *make: MakePart) -> int:
    """Start the parts, wait for SIGINT or SIGTERM, stop them."""
    log_to_stderr(settings)
    services = build(settings, name)
    ended = _Signals()
    try:
        with probing(services):
            parts = [each(services) for each in make]
            for part in parts:
                part.start()
            log.info("optio %s %s on %s", __version__, name, settings.data_dir.absolute())
            ended.wait()
            end_in_time()
            log.info("the %s is stopping", name)
            for part in parts:
                part.stop()
    finally:
        services.close()
    ended.close()
    return OK
