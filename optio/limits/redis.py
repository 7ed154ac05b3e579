"""Rate windows in Redis, shared by all servers. While Redis is away each server counts by itself."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from optio.limits.local import LocalRateWindow

log = logging.getLogger(__name__)
# Seconds for an answer: a sender waits for it.
PATIENCE = 0.25
# After a failure Redis is not asked for this long.
PAUSE = 1.0


class RedisRateWindow:
    """A moving window for all servers together; the window of this server alone holds too, whatever Redis has forgotten."""

    def __init__(self, url: str, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = LocalRateWindow(per_minute, clock=clock)
        self._item = RateLimitItemPerMinute(per_minute)
        self._clock = clock
        self._again = 0.0
        self._problem: str | None = None
        at_once: dict[str, Any] = {
            "socket_timeout": PATIENCE,
            "socket_connect_timeout": PATIENCE,
            "retry": Retry(NoBackoff(), 0),
        }
        storage = RedisStorage(f"async+{url}", implementation="redispy", key_prefix="optio:rate", **at_once)
        self._limiter = MovingWindowRateLimiter(storage)

    async def hit(self, key: str) -> timedelta | None:
        """See `RateWindow.hit`."""
        wait = await self._own.hit(key)
        if wait is not None or self._clock() < self._again:
            return wait
        try:
            async with asyncio.timeout(PATIENCE):
                if await self._limiter.hit(self._item, key):
                    wait = None
                else:
                    stats = await self._limiter.get_window_stats(self._item, key)
                    wait = timedelta(seconds=max(0.0, stats.reset_time - time.time()))
        except Exception as err:  # the library raises its storage's own errors
            self._again = self._clock() + PAUSE
            if self._problem is None:
                log.warning("Redis cannot be used, this server counts requests by itself: %s: %s", type(err).__name__, err)
            self._problem = f"{type(err).__name__}: {err}"
            return None
        self._problem = None
        return wait

    def problem(self) -> str | None:
        """See `RateWindow.problem`."""
        return self._problem
