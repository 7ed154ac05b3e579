"""Rate windows in the memory of one process: the driver without Redis, and the fallback of the one with it."""

import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta

WINDOW_S = 60.0
# With more keys than this, those without a hit in the last window are deleted, at most once per window.
_MAX_QUIET_KEYS = 1024


class LocalRateWindow:
    """A sliding window, exact at every instant, without double allowance at the turn of a minute. Refused hits are not counted.

    For one thread only: the server's event loop.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._hits: dict[str, deque[float]] = {}
        self._swept = clock()

    async def hit(self, key: str) -> timedelta | None:
        wait = self.wait(key)
        if wait is None:
            now = self._clock()
            if key not in self._hits:
                self._sweep(now)
            self._hits.setdefault(key, deque()).append(now)
        return wait

    def wait(self, key: str) -> timedelta | None:
        """Return what `hit` would return now, without counting a hit."""
        hits = self._hits.get(key)
        if not hits:
            return None
        now = self._clock()
        while hits and hits[0] <= now - WINDOW_S:
            hits.popleft()
        return timedelta(seconds=hits[0] + WINDOW_S - now) if len(hits) >= self._per_minute else None

    def problem(self) -> str | None:
        return None

    async def close(self) -> None:
        pass

    def _sweep(self, now: float) -> None:
        if len(self._hits) >= _MAX_QUIET_KEYS and now - self._swept >= WINDOW_S:
            self._swept = now
            self._hits = {key: hits for key, hits in self._hits.items() if hits and hits[-1] > now - WINDOW_S}
