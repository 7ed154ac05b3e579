"""Retention: delete what is older than the settings allow. One process at a time does it, at a pace that leaves the database to
others."""

import logging
import os
import socket
import threading
import time
from collections import Counter
from datetime import timedelta

from optio.errors import OptioError
from optio.settings import Settings
from optio.store.values import RetentionPolicy
from optio.telemetry.base import Pruned
from optio.wiring import Services

log = logging.getLogger(__name__)
CHORE = "retention"
# From the end of one pass to the next, whichever process does it.
EVERY = timedelta(hours=1)
_LEASE = timedelta(minutes=2)
# Seconds until the first poll, and between two polls.
_FIRST_WAIT_S = 2.0
_POLL_S = 60.0
# Seconds between two steps at least: a step is a write, and others want to write too.
_PAUSE_S = 0.02


def retention_of(settings: Settings) -> RetentionPolicy:
    """Return the periods to keep, from the settings."""
    return RetentionPolicy(runs=settings.keep_runs, logs=settings.keep_logs, deliveries=settings.keep_deliveries)


class Retention:
    """The retention loop of a process, beside its scheduler. `start` and `stop` may be called from any thread."""

    def __init__(self, services: Services, *, first: float = _FIRST_WAIT_S, look: float = _POLL_S) -> None:
        self._services = services
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{id(self):x}"
        self._first, self._look = first, look
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="retention", daemon=True)

    def start(self) -> None:
        """Run the loop on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current step, and wait for it for some seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(6)

    def _loop(self) -> None:
        pulses = self._services.pulses
        pause = self._first
        pulses.beat(CHORE, pause)
        while not self._stopping.wait(pause):
            pause = self._look
            pulses.beat(CHORE, 0)
            try:
                self.turn()
            except OptioError as err:
                log.warning("retention waits: %s", err)
            except Exception:
                log.exception("retention failed once")
            pulses.beat(CHORE, pause)
        pulses.end(CHORE)

    def turn(self) -> Counter[str] | None:
        """Make one pass if it is this process's turn. Return how many rows of each kind were deleted, or None if it was not."""
        store = self._services.store
        if not store.acquire_job_lease(CHORE, self._owner, EVERY, _LEASE):
            return None
        deletions: Counter[str] = Counter()
        lease_at = started_at = time.monotonic()
        for kind, count in store.prune(retention_of(self._services.settings)):
            deletions[kind] += count
            now = time.monotonic()
            if count:
                self._services.telemetry.tell(Pruned(kind, count))
            if now - lease_at > _LEASE.total_seconds() / 4:
                if not store.renew_job_lease(CHORE, self._owner, _LEASE):
                    return deletions  # this process was suspended for long, and another has the turn now
                lease_at = now
            self._services.pulses.beat(CHORE, 0)
            # Pause for as long as the step took: at most half of the time is used.
            if self._stopping.wait(max(_PAUSE_S, now - started_at) if count else 0):
                # Not done: another process may go on at once.
                store.renew_job_lease(CHORE, self._owner, timedelta(0))
                return deletions
            started_at = time.monotonic()
        store.release_job_lease(CHORE, self._owner)
        if any(deletions.values()):
            words = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in deletions.items() if count)
            log.info("deleted by retention: %s", words, extra={"event": "pruned"})
        return deletions
