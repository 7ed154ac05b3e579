"""Rate windows in the memory of this process."""

import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta

WINDOW_S = 60.0
# Keys that have been quiet for a window are forgotten when there are more than this many, at most once a window.
_MAX_QUIET_KEYS = 1024


class LocalRateWindow:
    """A moving window: exact at every instant, no double allowance at the turn of a minute. Refused hits are not counted.

    For one thread only: the server's loop.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._clock = clock
        self._hits: dict[str, deque[float]] = {}
        self._swept = clock()

    async def hit(self, key: str) -> timedelta | None:
        """See `RateWindow.hit`."""
        wait = self.wait(key)
        if wait is None:
            now = self._clock()
            if key not in self._hits:
                self._sweep(now)
            self._hits.setdefault(key, deque()).append(now)
        return wait

    def wait(self, key: str) -> timedelta | None:
        """What a hit would be told now, without counting one."""
        hits = self._hits.get(key)
        if not hits:
            return None
        now = self._clock()
        while hits and hits[0] <= now - WINDOW_S:
            hits.popleft()
        return timedelta(seconds=hits[0] + WINDOW_S - now) if len(hits) >= self._most else None

    def problem(self) -> str | None:
        """See `RateWindow.problem`."""
        return None

    async def close(self) -> None:
        """See `RateWindow.close`."""

    def _sweep(self, now: float) -> None:
        if len(self._hits) >= _MAX_QUIET_KEYS and now - self._swept >= WINDOW_S:
            self._swept = now
            self._hits = {key: hits for key, hits in self._hits.items() if hits and hits[-1] > now - WINDOW_S}
