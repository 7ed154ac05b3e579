"""The pods of one worker's attempts: made, found again, followed and let go. All of it belongs to the event loop."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from optio.executors.base import Exit, Launch
from optio.executors.pods import manifest as pod
from optio.executors.pods.address_report import AddressReports
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.given_up import GivenUp
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.informer import Informer, Pod
from optio.executors.pods.log_reader import PodLogReader
from optio.executors.pods.loop_thread import LoopThread
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.network_policies import NetworkPolicies
from optio.executors.pods.pool import Pools
from optio.executors.pods.removal import PodRemoval
from optio.executors.pods.renewals import PodRenewals
from optio.executors.pods.search import PodSearch
from optio.executors.pods.standby import Standby
from optio.executors.pods.start import Renewal, Start, Starter, StartFailed
from optio.executors.pods.start_events import StartEvents
from optio.executors.procfs import uptime

log = logging.getLogger(__name__)


class PodSite:
    """The attempts of a worker in its namespace. It is made in the loop. `worker` is a name of this worker alone, and `start_s`
    is how long a pod may take until its container runs. Raises SettingsError if no cluster is configured."""

    def __init__(self, settings: PodSettings, worker: str, start_s: float, loop: LoopThread) -> None:
        self._settings, self._worker, self._loop = settings, worker, loop
        self._tasks: dict[PodHandle, asyncio.Task[None]] = {}
        self.cluster = cluster = Cluster(settings.namespace)
        self.informer = Informer(cluster, {**pod.selector(settings), pod.WORKER: worker})
        policies = NetworkPolicies(cluster, settings.install)
        self._given_up = GivenUp(cluster, settings.install, settings.orphan_s)
        self.pools = Pools(cluster, self.informer, policies, settings, worker)
        standby = Standby(cluster, self.pools)
        starts = StartEvents(cluster, self.informer)
        self._addresses = AddressReports(cluster, self.informer, starts)
        self._starter = Starter(
            cluster, self.informer, starts, self.pools, standby, policies, self._given_up, self._addresses, start_s
        )
        self._log_reader = PodLogReader(cluster, self.informer, settings.gate_s)
        self._renewals = PodRenewals(cluster)
        self.removal = PodRemoval(cluster, self.informer, settings)
        services = self.informer.run(), starts.run(), self.pools.keep(), self.pools.offer(), standby.keep()
        self._services = [asyncio.create_task(service) for service in services]

    async def begin(self, launch: Launch, settings: PodSettings, manifest: Pod) -> PodHandle:
        """Begin an attempt in a pod made from this manifest, or in a ready one. An error there is the end of the attempt."""
        name = pod.name_of(settings.install, launch.run_id, launch.attempt)
        handle = PodHandle(name, launch.run_id, launch.attempt, self._request)
        renewal = Renewal(launch.orphan_s, launch.leased_at)
        self._renewals.put(handle, renewal)
        self._follow(handle, self._attempt(Start(handle, launch, settings, manifest, renewal)))
        return handle

    async def find(self, run_id: str, attempt: int) -> PodHandle | None:
        """Return the handle of an attempt that another worker launched; None if nobody did, and then nobody will. Raises
        Refused and Unreachable."""
        search = PodSearch(run_id, attempt, self.cluster, self.removal, self._given_up, self._settings)
        item = await search.adopt(self._worker)
        if item is None:
            return None
        handle = PodHandle(item["metadata"]["name"], run_id, attempt, self._request, settled=False)
        handle.take(item)
        handle.launched, handle.how = True, "warm" if pod.POOL in item["metadata"]["labels"] else "cold"
        handle.begin()  # its worker may have died before it could say so
        self.informer.put(item)
        self._renewals.put(handle, Renewal(float(item["metadata"]["annotations"][pod.ORPHAN]), uptime()))
        self._follow(handle, self._log_reader.resume(handle, item))
        return handle

    async def close(self) -> None:
        """Let go of all pods; attempts continue."""
        tasks = [*self._services, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for handle in self._tasks:  # handles that were not closed
            handle.spool.close()
        await self._addresses.close()
        await self.pools.stop()
        await self.cluster.close()

    def _follow(self, handle: PodHandle, work: Coroutine[Any, Any, Exit]) -> None:
        async def to_the_end() -> None:
            try:
                handle.end(await work)
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the pod %s cannot be followed any more", handle.name)
                handle.end(Exit(reason="worker_error", message="see the worker's log", temporary=True))

        self._tasks[handle] = asyncio.create_task(to_the_end())

    async def _attempt(self, start: Start) -> Exit:
        handle = start.handle
        try:
            mark, has_arrived = await self._starter.start(start)
        except StartFailed as err:
            with contextlib.suppress(Refused, Unreachable):
                if handle.uid:  # nothing was begun in it
                    await self.cluster.delete(handle.name, handle.uid, 0)
                elif err.exit.stopped_by == "stop":  # another handle may have begun it
                    await self.removal.remove_all(handle.run_id, handle.attempt)
            return err.exit
        handle.launched = True
        if handle.stop_wanted:
            await self.removal.stop(handle)
        return await self._log_reader.follow(handle, mark, began=has_arrived)

    def _request(self, handle: PodHandle, request: str) -> None:
        """Schedule the request of a handle in the loop; may be called from any thread."""
        work: dict[str, Callable[[PodHandle], Coroutine[Any, Any, None]]] = {
            "stop": self.removal.stop,
            "renew": self._renewals.renew,
            "close": self._release,
            "remove": self._remove,
        }
        try:
            self._loop.request(lambda: work[request](handle))
        except RuntimeError:
            handle.spool.close()  # the executor is closed: the next owner looks after the pod

    async def _release(self, handle: PodHandle) -> None:
        self._renewals.drop(handle)
        self.informer.forget(handle.name)
        handle.unhear()
        task = self._tasks.pop(handle, None)
        try:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        finally:
            handle.spool.close()

    async def _remove(self, handle: PodHandle) -> None:
        await self._release(handle)
        await self.removal.remove(handle)
