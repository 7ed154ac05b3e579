"""Rate windows in Redis, shared by all servers. While Redis cannot be used, each server counts its own hits."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unconnected

from optio.limits.local import WINDOW_S, LocalRateWindow

log = logging.getLogger(__name__)
_PREFIX = "optio:rate:"
# The longest wait for an answer: the webhook's sender waits meanwhile.
REPLY_TIMEOUT_S = 0.4
# The pause after a failure before Redis is tried again.
RETRY_PAUSE_S = 1.0
# Without another hit a failure may be over unnoticed, so it is not reported for longer; the broker tests Redis all the time.
_PROBLEM_FRESH_S = 3.0
# The most hits in one call.
_BATCH = 100
# Keeps for each key the times of allowed hits, oldest first, as many as matter, by the clock of Redis, since the servers' may
# differ. Returns how many microseconds each hit has to wait.
_SCRIPT = """
local most, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local waits = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'list' and kind ~= 'none' then redis.call('DEL', key) end
  local hit = tonumber(redis.call('LINDEX', key, -most) or '')
  if hit and hit <= now and hit > now - window then
    waits[i] = hit + window - now
  else
    redis.call('RPUSH', key, string.format('%.0f', now))
    redis.call('LTRIM', key, -most, -1)
    redis.call('PEXPIRE', key, window / 1000)
    waits[i] = 0
  end
end
return waits
"""


class RedisRateWindow:
    """A sliding window over the hits of all servers. A window of this server's own hits applies as well, in case Redis has
    forgotten some.

    For one thread only: the server's event loop.
    """

    def __init__(
        self,
        url: str,
        per_minute: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare a client, which connects at the first hit; `failed` is called each time that Redis cannot be used."""
        self._tell = failed
        self._local = LocalRateWindow(per_minute, clock=clock)
        self._per_minute = per_minute
        self._clock = clock
        self._failed = -_PROBLEM_FRESH_S
        self._problem: str | None = None
        # The second try is for a connection that ended while it was idle.
        retry = Retry(NoBackoff(), 1, supported_errors=(Unconnected,))
        self._client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(url, retry=retry)
        self._script = self._client.register_script(_SCRIPT)
        self._waiting: list[tuple[str, asyncio.Future[int]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def hit(self, key: str) -> timedelta | None:
        wait = self._local.wait(key)
        if wait is not None:
            return wait
        if self._problem is None:
            try:
                microseconds = await self._ask(key)
            except Exception as err:  # redis-py raises more kinds than it documents
                self._fail(err)
            else:
                if microseconds:
                    return timedelta(microseconds=microseconds)
        elif self._clock() - self._failed >= RETRY_PAUSE_S:
            # Asked without waiting: the next hit sees whether Redis is back.
            self._failed = self._clock()
            self._ask(key).add_done_callback(self._asked_again)
        # Counted here only if it was allowed there: another server's hits must not fill this window.
        return await self._local.hit(key)

    def _ask(self, key: str) -> "asyncio.Future[int]":
        """Queue a hit, to be asked together with all that come before Redis has answered the last batch: one call costs as much
        as ten hits in it."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return answer

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                try:
                    async with asyncio.timeout(REPLY_TIMEOUT_S):
                        waits: Sequence[int] = await self._run([_PREFIX + key for key, _ in batch])
                except Exception as err:
                    # Hits that came meanwhile need not wait for as long.
                    batch, self._waiting = batch + self._waiting, []
                    for _, answer in batch:
                        if not answer.done():
                            answer.set_exception(err)
                else:
                    for (_, answer), wait in zip(batch, waits, strict=True):
                        if not answer.done():
                            answer.set_result(wait)
        finally:
            self._asking = None

    async def _run(self, keys: list[str]) -> Any:
        return await self._script(keys=keys, args=[self._per_minute, int(WINDOW_S * 1_000_000)])

    def _asked_again(self, answer: "asyncio.Future[int]") -> None:
        err = None if answer.cancelled() else answer.exception()
        if isinstance(err, Exception):
            self._fail(err)
        elif not answer.cancelled():
            log.warning("Redis is back: servers count requests together")
            self._problem = None

    def _fail(self, err: Exception) -> None:
        words = f"{type(err).__name__}: {err}" if str(err) else f"no answer within {REPLY_TIMEOUT_S} s"
        if self._problem is None:
            log.warning("Redis cannot be used, so this server counts requests by itself: %s", words)
        self._problem = words
        self._failed = self._clock()
        self._tell()

    def problem(self) -> str | None:
        return self._problem if self._clock() - self._failed < _PROBLEM_FRESH_S else None

    async def close(self) -> None:
        await self._client.aclose()
