"""Start a server, worker or scheduler before what it needs is there: its database, a migration, the cluster's API.

Such a process waits. It says what for, in its log at once and then rarely, lives and is not ready, and ends at once on SIGTERM.
What no waiting cures (a wrong password, a database that does not exist, a newer schema) ends it with exit code 2. One-shot
commands and `optio dev` do not wait: somebody reads their error at once.
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
# Between two attempts; and after how long a wait is reported again: the second report is early, the others are rare.
RETRY_INTERVAL_S = 1.0
SECOND_REPORT_AFTER_S, REPORT_INTERVAL_S = 10.0, 60.0


class Signals:
    """SIGINT and SIGTERM. Before `started` the first one ends the process at once; afterwards it is what `wait` waits for, and
    the second one ends the process. That is safe: so is `kill -9`.

    The interpreter itself writes into a pipe, which a thread reads: a handler in Python runs only when the main thread goes on,
    which may be in a call that takes seconds, or waits for ever because the signal came to another thread.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._started = threading.Event()
        self._came = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def _listen(self) -> None:
        while True:
            if os.read(self._reader, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            if self._came.is_set() or not self._started.is_set():
                os._exit(OK)
            self._came.set()

    def started(self) -> None:
        """From now on there is something to stop in order."""
        self._started.set()

    def wait(self) -> None:
        """Until the first signal."""
        self._came.wait()

    def close(self) -> None:
        """Ignore signals: all is done, and an order that comes now has been followed."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def wait_for(what: str, attempt: Callable[[], T], name: str, tell: Callable[[str], object] = lambda what: None) -> T:
    """The result of the first attempt that does not fail with a temporary StoreUnavailable or StoreMismatch; other errors are
    raised. `name` is the process that waits, `tell` is called with `what` after the first failure."""
    began = time.monotonic()
    next_report: float | None = None
    while True:
        try:
            made = attempt()
        except (StoreUnavailable, StoreMismatch) as err:
            if not err.temporary:
                raise
            waited = time.monotonic() - began
            if next_report is None:
                tell(what)
                log.warning("the %s waits for %s: %s", name, what, err)
                next_report = SECOND_REPORT_AFTER_S
            elif waited >= next_report:
                log.warning("the %s still waits for %s, for %.0f s now: %s", name, what, waited, err)
                next_report = waited + REPORT_INTERVAL_S
            time.sleep(RETRY_INTERVAL_S)
        else:
            if next_report is not None:
                log.info("the %s has %s after %.0f s", name, what, time.monotonic() - began)
            return made
