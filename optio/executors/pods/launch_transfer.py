"""The transfer of a launch into a pod: a command that is started early, and a parcel that is made when it is sent."""

import asyncio
from collections.abc import Callable

from optio.executors.pods import launch_script
from optio.executors.pods import manifest as pod
from optio.executors.pods.api_client import Unreachable
from optio.executors.pods.cluster import Cluster

# The log brings on what an agent prints later than that.
_HEARS_S = 30.0


class LaunchTransfer:
    """A command that waits in the pod for a launch. `aclose` withdraws the command; until the launch was `sent`, it has changed
    nothing in the pod. Afterwards the same command brings the agent's output for a while, sooner than the log does,
    from the first byte on."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._parcel: Callable[[], bytes]
        self._hear: Callable[[bytes], None]
        self._go_ahead, self._launched = asyncio.Event(), asyncio.Event()
        self._output = b""
        self._is_kept = False
        self.sent = False
        running = cluster.run(name, pod.CONTAINER, launch_script.COMMAND, self._wanted, within=None, hear=self._heard)
        self._running = asyncio.ensure_future(running)
        self._running.add_done_callback(lambda future: future.cancelled() or future.exception())  # it may be of no use any more

    @property
    def is_over(self) -> bool:
        """Return whether the command, or the connection to it, has ended."""
        return self._running.done()

    async def _wanted(self) -> bytes:
        await self._go_ahead.wait()
        parcel = self._parcel()
        self.sent = True
        return parcel

    def _heard(self, data: bytes) -> None:
        if not self._launched.is_set():
            self._output, launched, data = (self._output + data).partition(launch_script.GONE_ON)
            if not launched:
                return
            self._launched.set()
        if data:
            self._hear(data)

    async def go(self, parcel: Callable[[], bytes], hear: Callable[[bytes], None], *, within: float) -> tuple[int, bytes]:
        """Send the parcel, which is made at this moment. Return (exit code, output) of the command, 0 if the launch is under
        way; `hear` gets the agent's output. Raises Refused and Unreachable, and what making the parcel raises."""
        self._parcel, self._hear = parcel, hear
        self._go_ahead.set()
        launched = asyncio.ensure_future(self._launched.wait())
        try:
            await asyncio.wait({self._running, launched}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            launched.cancel()
        if self._launched.is_set():
            return 0, self._output
        if not self._running.done():
            raise Unreachable("the command that takes a launch does not answer")
        result = self._running.result()
        if not self.sent:
            raise Unreachable("the command that takes a launch has ended before it came")
        return result

    def keep(self) -> Callable[[], object]:
        """Let it bring output on after `aclose`: what is returned ends that."""
        self._is_kept = True
        asyncio.get_running_loop().call_later(_HEARS_S, self._running.cancel)
        return self._running.cancel

    async def aclose(self) -> None:
        """Withdraw the command, unless it is kept."""
        if not self._is_kept:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
