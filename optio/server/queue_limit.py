"""The limit of queued runs: while too many wait, new triggers are refused. The queue is counted once a second, not for each
request."""

import asyncio
import logging
import time
from datetime import timedelta

from optio.errors import OptioError, QueueFull
from optio.store.base import QueueStore

log = logging.getLogger(__name__)
# Seconds between two counts; runs that are admitted in between are added here.
_COUNT_PERIOD_S = 1.0
_RETRY_AFTER = timedelta(seconds=10)


class QueueLimit:
    """The limit for all requests of a server. It may admit a few too many: a count sees neither requests in flight nor, until
    the next count, those of other servers."""

    def __init__(self, store: QueueStore, limit: int) -> None:
        self._store, self._limit = store, limit
        self._waiting = self._admitted = 0
        self._counted_at = float("-inf")
        self._counting = False

    def admit(self) -> None:
        """Admit one more run. Raises QueueFull. Does not block."""
        if not self._counting and time.monotonic() - self._counted_at >= _COUNT_PERIOD_S:
            self._counting = True
            asyncio.get_running_loop().run_in_executor(None, self._count)
        if self._waiting + self._admitted >= self._limit:
            raise QueueFull(f"{self._limit:,} runs are queued already (OPTIO_MAX_QUEUED): try again later", _RETRY_AFTER)
        self._admitted += 1

    def _count(self) -> None:
        before = self._admitted
        try:
            self._waiting = sum(depth.queued for depth in self._store.depths())
            self._admitted -= before
        except OptioError as err:
            log.debug("queued runs could not be counted: %s", err)
        finally:
            self._counted_at = time.monotonic()
            self._counting = False
