"""Wait for the database, a migration or the cluster's API when a server, worker or scheduler starts before them.

While it waits, the process logs what it waits for (at once, then rarely), is alive but not ready, and exits at once on SIGTERM.
Errors that waiting cannot cure (a wrong password, a missing database, a newer schema) end it with exit code 2. One-shot
commands and `optio dev` do not wait, for someone reads their error at once.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from optio.cli import OK
from optio.errors import StoreMismatch, StoreUnavailable

T = TypeVar("T")
log = logging.getLogger(__name__)
# Interval of attempts, and of reports about a wait: the second report is early, later ones are rare.
RETRY_INTERVAL_S = 1.0
SECOND_REPORT_AFTER_S, REPORT_INTERVAL_S = 10.0, 60.0


class Signals:
    """SIGINT and SIGTERM. Before `started` the first signal ends the process at once. Afterwards `wait` returns on the first,
    and the second ends the process, which is as safe as `kill -9`.

    The interpreter writes each signal into a pipe that a thread reads: a handler in Python would only run once the main thread
    continues, which may be inside a call that takes seconds.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._start_event = threading.Event()
        self._came = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def _listen(self) -> None:
        while True:
            if os.read(self._reader, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            if self._came.is_set() or not self._start_event.is_set():
                os._exit(OK)
            self._came.set()

    def started(self) -> None:
        """Say that there is something to stop in order from now on."""
        self._start_event.set()

    def wait(self) -> None:
        """Block until the first signal."""
        self._came.wait()

    def close(self) -> None:
        """Ignore further signals: everything is stopped."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def wait_for(part: str, attempt: Callable[[], T], name: str, tell: Callable[[str], object] = lambda part: None) -> T:
    """Return the result of the first attempt that does not fail with a temporary StoreUnavailable or StoreMismatch; raise any
    other error. `name` is the waiting process; `tell` is called with `what` after the first failure."""
    started_at = time.monotonic()
    next_report: float | None = None
    while True:
        try:
            result = attempt()
        except (StoreUnavailable, StoreMismatch) as err:
            if not err.temporary:
                raise
            duration = time.monotonic() - started_at
            if next_report is None:
                tell(part)
                log.warning("the %s waits for %s: %s", name, part, err)
                next_report = SECOND_REPORT_AFTER_S
            elif duration >= next_report:
                log.warning("the %s still waits for %s, for %.0f s now: %s", name, part, duration, err)
                next_report = duration + REPORT_INTERVAL_S
            time.sleep(RETRY_INTERVAL_S)
        else:
            if next_report is not None:
                log.info("the %s has %s after %.0f s", name, part, time.monotonic() - started_at)
            return result
