"""A launch on its way into a pod."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from optio.executors.base import Launch
from optio.executors.pods import manifest as pod
from optio.executors.pods import plan
from optio.executors.pods.cluster import Cluster


class Delivery:
    """The command that takes the launch is begun at once, and waits in the pod for the parcel, which is made when it is sent. A
    context manager, which takes the command back; until the parcel was `sent` it has changed nothing."""

    def __init__(self, cluster: Cluster, name: str, launch: Launch, parcel: Callable[[], bytes]) -> None:
        self._parcel = parcel
        self._allowed = asyncio.Event()
        self.sent = False
        self._running = asyncio.ensure_future(cluster.run(name, pod.CONTAINER, plan.command(launch), self._wanted))

    async def _wanted(self) -> bytes:
        await self._allowed.wait()
        parcel = self._parcel()
        self.sent = True
        return parcel

    async def go(self) -> tuple[int, bytes]:
        """Send the parcel: (exit code, output) of its command. Raises Refused and Unreachable, and what making it raises."""
        self._allowed.set()
        return await self._running

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
