"""Whether loops turn: each says when it will be back, and is looked for when it is not."""

import threading
import time
from collections.abc import Callable

# What one turn may take beyond its pause: calls to the store end after some seconds each, whatever happens.
GRACE_S = 30.0


class Liveness:
    """The loops of a process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}

    def beat(self, loop: str, pause: float) -> None:
        """The loop turns, and will be back after so many seconds."""
        with self._lock:
            self._due[loop] = self._clock() + pause + GRACE_S

    def end(self, loop: str) -> None:
        """The loop has ended in order."""
        with self._lock:
            self._due.pop(loop, None)

    def late(self) -> list[str]:
        """Loops that should have been back."""
        now = self._clock()
        with self._lock:
            return sorted(loop for loop, due in self._due.items() if due < now)
