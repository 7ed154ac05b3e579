"""The bridge between the server's loop and other threads: short reads in place, and results of threads brought to the loop in
batches.

Handing work to a thread and waking the loop afterwards costs more than most of the work itself.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from optio.store.base import LocalReads

P = ParamSpec("P")
T = TypeVar("T")


async def read_small(store: LocalReads, operation: "Callable[P, T]", *args: P.args, **kwargs: P.kwargs) -> T:
    """Run an operation that reads a few small rows of `store` and writes nothing: in place if the store is local, else in a
    thread. Raises what the operation raises."""
    if store.local:
        return operation(*args, **kwargs)
    return await asyncio.to_thread(operation, *args, **kwargs)


class LoopBridge:
    """Delivers results of other threads to one loop. Results that arrive while the loop is being woken cost no further
    wake-up."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._is_scheduled = False

    def wait(self, future: "Future[T]") -> "asyncio.Future[T]":
        """Return a future of the running loop with the same result. Cancelling it leaves the original alone."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()

        def arrive(arrival: "Future[T]") -> None:
            self._arrivals.append((waiter, arrival))
            if not self._is_scheduled:
                self._is_scheduled = True
                loop.call_soon_threadsafe(self._land)

        future.add_done_callback(arrive)
        return waiter

    def _land(self) -> None:
        # Cleared before the queue is emptied: a result that arrives later schedules another call.
        self._is_scheduled = False
        while self._arrivals:
            waiter, arrival = self._arrivals.popleft()
            if waiter.done():
                continue  # the waiter was cancelled
            error = arrival.exception()
            if error is None:
                waiter.set_result(arrival.result())
            else:
                waiter.set_exception(error)
