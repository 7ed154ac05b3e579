"""Worker: a thread for what takes long."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class CompileThread(threading.Thread):
    """One thread for what takes long. It never keeps the process from ending."""

    def __init__(self) -> None:
        super().__init__(name="compiler", daemon=True)
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            self._work.get()()

    async def do(self, work: Callable[[], T]) -> T:
        """Wait for its result, or raise what it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(act: Callable[[Any], None], value: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if future.done() else act(value))

        def run() -> None:
            try:
                settle(future.set_result, work())
            except Exception as err:
                settle(future.set_exception, err)

        self._work.put(run)
        return await future
