"""A thread for compilations of whole trees, which take up to seconds."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class CompileThread(threading.Thread):
    """A daemon thread that runs one piece of work at a time, so that the event loop can answer the editor meanwhile."""

    def __init__(self) -> None:
        super().__init__(name="compiler", daemon=True)
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            self._work.get()()

    async def do(self, work: Callable[[], T]) -> T:
        """Run the work in the thread; return its result or raise its exception."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(act: Callable[[Any], None], value: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so there is no waiter
                loop.call_soon_threadsafe(lambda: None if future.done() else act(value))

        def run() -> None:
            try:
                settle(future.set_result, work())
            except Exception as err:
                settle(future.set_exception, err)

        self._work.put(run)
        return await future
