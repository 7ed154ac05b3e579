"""A launch on its way into a pod."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from optio.executors.pods import launch_script
from optio.executors.pods import manifest as pod
from optio.executors.pods.cluster import Cluster


class Delivery:
    """The command that takes the launch is begun at once, and waits in the pod for the parcel, which is made when it is sent. A
    context manager, which takes the command back; until the parcel was `sent` it has changed nothing. What the agent prints
    then is brought to `hear` by the same command, sooner than by the log, from the first byte on, for a while."""

    def __init__(
        self, cluster: Cluster, name: str, parcel: Callable[[], bytes], hear: Callable[[bytes], None], *, within: float
    ) -> None:
        self._parcel, self._hear = parcel, hear
        self._allowed, self._launched = asyncio.Event(), asyncio.Event()
        self._said = b""
        self._kept = False
        self.sent, self.begun = False, time.monotonic()
        running = cluster.run(name, pod.CONTAINER, launch_script.COMMAND, self._wanted, within=within, hear=self._heard)
        self._running = asyncio.ensure_future(running)

    async def _wanted(self) -> bytes:
        await self._allowed.wait()
        parcel = self._parcel()
        self.sent = True
        return parcel

    def _heard(self, data: bytes) -> None:
        if not self._launched.is_set():
            self._said, launched, data = (self._said + data).partition(launch_script.GONE_ON)
            if not launched:
                return
            self._launched.set()
        if data:
            self._hear(data)

    async def go(self) -> tuple[int, bytes]:
        """Send the parcel: (exit code, output) of its command, 0 when the launch is on its way. Raises Refused and Unreachable,
        and what making it raises."""
        self._allowed.set()
        launched = asyncio.ensure_future(self._launched.wait())
        try:
            await asyncio.wait({self._running, launched}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            launched.cancel()
        return (0, self._said) if self._launched.is_set() else await self._running

    def keep(self) -> Callable[[], object]:
        """Let it bring output on after this block: what is returned ends that."""
        self._kept = True
        self._running.add_done_callback(lambda done: done.cancelled() or done.exception())  # the log tells what it does not
        return self._running.cancel

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._kept:
            return
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
