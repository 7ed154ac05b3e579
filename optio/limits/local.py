"""Rate windows in the memory of this process."""

import time
from datetime import timedelta

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter


class LocalRateWindow:
    """A moving window: exact at every instant, no double allowance at the turn of a minute."""

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def hit(self, key: str) -> timedelta | None:
        """See `RateWindow.hit`."""
        if self._limiter.hit(self._item, key):
            return None
        reset = self._limiter.get_window_stats(self._item, key).reset_time
        return timedelta(seconds=max(0.1, reset - time.time()))
