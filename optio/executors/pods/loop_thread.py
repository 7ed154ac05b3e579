"""The thread of an event loop in which everything runs that talks to the cluster. Workers' threads call into it."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from optio.executors.pods.api_client import Unreachable

T = TypeVar("T")
# How long a call of a worker's thread waits for the cluster.
PATIENCE_S = 30.0
_LEAVES = "this worker is stopping"


class LoopThread:
    """An event loop on a thread that the first call starts, because a server never needs it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pods", daemon=True)
        self._lock = threading.Lock()
        self._calls: set[concurrent.futures.Future[Any]] = set()
        self._requests: set[asyncio.Task[Any]] = set()
        self.is_closed = False

    def call(self, work: Callable[[], Coroutine[Any, Any, T]], timeout: float = PATIENCE_S) -> T:
        """Run a coroutine in the loop and return what it returns. Raises Unreachable, and what the coroutine raises."""
        with self._lock:
            if self.is_closed:
                raise Unreachable(_LEAVES)
            if not self._thread.is_alive():
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
            self._calls.add(future)
        try:
            return future.result(timeout)
        except concurrent.futures.CancelledError as err:
            raise Unreachable(_LEAVES) from err
        except TimeoutError as err:
            future.cancel()
            raise Unreachable("the cluster takes too long to answer") from err
        finally:
            self._calls.discard(future)

    def request(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a coroutine in the loop, and wait for nothing. Raises RuntimeError when the loop is closed."""

        def begin() -> None:
            task = self._loop.create_task(work())
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)

        self._loop.call_soon_threadsafe(begin)

    def close(self, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel all calls, give requests a moment, run `end`, and stop the loop."""
        with self._lock:
            self.is_closed = True
        for call in list(self._calls):
            call.cancel()
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._end(end), self._loop).result(PATIENCE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _end(self, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # What was requested last is done first: pods that are to go.
        if self._requests:
            await asyncio.wait(self._requests, timeout=5)
        requests = list(self._requests)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        await end()
