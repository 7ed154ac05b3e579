"""Liveness of loops: each loop reports when it will be back, and health checks fail for one that is overdue."""

import threading
import time
from collections.abc import Callable

# The time that one turn may take beyond its pause; each call to the store ends after some seconds, whatever happens.
GRACE_S = 30.0


class Liveness:
    """The heartbeats of all loops of a process. Any thread may report and ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}

    def beat(self, loop: str, pause: float) -> None:
        """Record that the loop is alive and will report again within `pause` seconds; it is overdue 30 seconds after that."""
        with self._lock:
            self._due[loop] = self._clock() + pause + GRACE_S

    def end(self, loop: str) -> None:
        """Forget a loop that ended in order, so that it is not missed."""
        with self._lock:
            self._due.pop(loop, None)

    def late(self) -> list[str]:
        """Return the loops that are overdue, sorted by name."""
        now = self._clock()
        with self._lock:
            return sorted(loop for loop, due in self._due.items() if due < now)
