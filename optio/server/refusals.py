"""Refused webhook requests, counted in memory and added to the store's counts every few seconds.

A flood must cost the store nothing: one row a minute for each path and verdict. A server that is killed loses the counts of the
last seconds. Used by `webhooks`; closed with the application.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from concurrent.futures import Future

from optio.errors import OptioError
from optio.store.base import IntakeStore

log = logging.getLogger(__name__)
FLUSH_S = 5.0


class RefusalCounter:
    """The counts of this server that are not stored yet. Not thread-safe: it belongs to the server's loop."""

    def __init__(self, store: IntakeStore) -> None:
        self._store = store
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def count(self, path: str, verdict: str, task_id: str) -> None:
        """Count a request that gets no row among the deliveries."""
        self._counts[path, verdict, task_id] += 1
        self._schedule()

    async def close(self) -> None:
        """Write the remaining counts; they are lost if the store is unavailable."""
        if self._timer is not None:
            self._timer.cancel()
        if self._counts:
            with contextlib.suppress(OptioError):
                await asyncio.wrap_future(self._store.count_refusals(dict(self._counts)))
        self._counts.clear()

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        counts, self._counts, self._timer = self._counts, Counter(), None
        loop = asyncio.get_running_loop()

        def forget(future: "Future[None]") -> None:
            if future.exception() is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(self._put_back, counts)

        self._store.count_refusals(dict(counts)).add_done_callback(forget)

    def _put_back(self, counts: Counter[tuple[str, str, str]]) -> None:
        """Keep counts that could not be written, and try again later."""
        log.warning("%d refused webhook requests could not be counted yet", counts.total())
        self._counts.update(counts)
        self._schedule()
