"""The beginning of an attempt: a pod of its own, made for it or taken from a pool, that has taken its launch."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any

from optio.executors.base import Exit, Launch
from optio.executors.pods import ending
from optio.executors.pods import manifest as pod
from optio.executors.pods.cluster import Cluster, Refused, Unreachable
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.informer import Informer, Pod, again, runs
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.plan import TAKEN, delivery
from optio.executors.pods.policies import Policies
from optio.executors.pods.pool import Pools
from optio.executors.procfs import uptime

log = logging.getLogger(__name__)
ORPHANED = Exit(code=None, signal=None, stopped_by="orphaned")
_TRIES, _TRY_S, _TRY_WITHIN_S = 10, 0.15, 5.0
_LOST = Exit(code=None, signal=None, lost=True)


class Failed(Exception):
    """An attempt that ends before it has begun."""

    def __init__(
        self,
        reason: str = "",
        message: str = "",
        *,
        temporary: bool = False,
        stopped_by: str | None = None,
        exit: Exit | None = None,
    ) -> None:
        super().__init__(message)
        empty = Exit(code=None, signal=None, stopped_by=stopped_by)
        self.exit = exit or replace(empty, reason=reason or None, message=message, temporary=temporary)


class Renewal:
    """Tells a pod now and then that its run has an owner; each time is a request to the cluster."""

    _SHARE = 0.2

    def __init__(self, orphan_s: float, told: float) -> None:
        self._orphan_s, self._told = orphan_s, told
        self.telling = False

    def left(self) -> float:
        """Seconds that an agent may still live without a word."""
        return self._orphan_s - (uptime() - self._told)

    def due(self) -> bool:
        """Whether it is time to tell it, and nobody is about to."""
        return not self.telling and uptime() - self._told >= self._orphan_s * self._SHARE

    def told(self, at: float) -> None:
        """It has heard what was said at this time, by `uptime`."""
        self._told = at


class Starter:
    """Brings launches into pods. `start_s` is how long a pod may take until its container runs."""

    def __init__(self, cluster: Cluster, informer: Informer, pools: Pools, policies: Policies, start_s: float) -> None:
        self._cluster, self._informer, self._pools, self._policies = cluster, informer, pools, policies
        self._start_s = start_s

    async def place(self, handle: PodHandle, launch: Launch, settings: PodSettings, wanted: Pod, renewal: Renewal) -> str:
        """The mark of a pod that runs and waits for this launch; raises Failed when there is none."""
        if renewal.left() <= 0:
            raise Failed(exit=ORPHANED)
        found = await _unless_stopped(handle, self._place(handle, launch, settings, wanted))
        mark: str = found["metadata"]["annotations"][pod.MARK]
        return mark

    async def _place(self, handle: PodHandle, launch: Launch, settings: PodSettings, wanted: Pod) -> Pod:
        deadline = time.monotonic() + self._start_s
        found = await self._pools.claim(launch, settings) if launch.warm else None
        if found is not None:
            handle.name, handle.uid, handle.how = found["metadata"]["name"], found["metadata"]["uid"], "warm"
            await self._is_free(launch, settings)
            return found
        found = await self._made(wanted, launch, settings, deadline)
        handle.uid = found["metadata"]["uid"]
        await self._running(handle, deadline)
        return found

    async def _is_free(self, launch: Launch, settings: PodSettings) -> None:
        """Whoever gives an attempt up puts a tombstone before he looks for pods that were claimed for it; we claim before we
        look for a tombstone. So one of us sees the other, and where both do, the pod decides who was first (`LOOK`)."""
        name = pod.name_of(settings.install, launch.run_id, launch.attempt)
        async for _ in again(time.monotonic() + self._start_s):
            with contextlib.suppress(Refused, Unreachable):
                if await self._cluster.pod(name) is None:
                    return
                break
        raise Failed(exit=_LOST)

    async def _made(self, wanted: Pod, launch: Launch, settings: PodSettings, deadline: float) -> Pod:
        """The pod, which may have been made already by a request that got no answer."""
        taken = False
        async for _ in again(deadline):
            try:
                found = await self._cluster.pod(wanted["metadata"]["name"]) if taken else None
                if found is not None:
                    return _ours(found, settings)
                await self._policies.ensure(pod.policy(launch.environment, settings))
                return await self._cluster.create(wanted)
            except Refused as err:
                taken = err.status == 409
                if not taken and not err.temporary:
                    reason = "quota" if "exceeded quota" in str(err) else "pod_refused"
                    raise Failed(reason, f"the cluster refused the pod: {err}", temporary=reason == "quota") from err
                if err.wait:
                    await asyncio.sleep(min(err.wait, max(0.0, deadline - time.monotonic())))
                last: Exception = err
            except Unreachable as err:
                last = err
        raise Failed("cluster", f"no pod could be made: {last}", temporary=True)

    async def _running(self, handle: PodHandle, deadline: float) -> None:
        """Wait until the container runs; raises Failed when it will not, or must not any more."""
        tries = _TRIES
        while True:
            moved = self._informer.moved(handle.name)
            status = self._informer.status(handle.name)
            if runs(status):
                return
            failed = _hopeless(status) or ending.of_status(status)
            if failed is not None:
                raise Failed(exit=failed)
            # Its node says so a second later than it is so.
            if tries and "nodeName" in self._informer.pods.get(handle.name, {}).get("spec", {}):
                tries -= 1
                if await self._answers(handle):
                    return
            left = deadline - time.monotonic()
            if left <= 0:
                reason, message = ending.slow(status)
                raise Failed(reason, message, temporary=reason != "image")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _TRY_S if tries else 5.0)):
                    await moved.wait()

    async def _answers(self, handle: PodHandle) -> bool:
        with contextlib.suppress(Refused, Unreachable):
            code, _ = await self._cluster.run(handle.name, pod.CONTAINER, ["/bin/sh", "-c", ":"], within=_TRY_WITHIN_S)
            return code == 0
        return False

    async def deliver(self, handle: PodHandle, launch: Launch, settings: PodSettings, renewal: Renewal) -> bool:
        """Bring it the launch. False: begun or not, its log tells; raises Failed when it has not, and never will."""
        left = renewal.left()
        if left <= 0:
            raise Failed(exit=ORPHANED)
        if handle.stop_wanted:
            raise Failed(stopped_by="stop")
        parcel = delivery(launch, orphan_s=left, way_out=pod.way_out(launch.environment, settings))
        try:
            code, said = await self._cluster.run(handle.name, pod.CONTAINER, parcel.command, parcel.data)
        except (Refused, Unreachable) as err:
            log.warning("the launch of %s got no answer: %s", handle.name, err)
            return False
        if code == TAKEN:
            return False  # by a request of ours that got no answer, or by somebody who gave the attempt up
        if code != 0:
            raise Failed("launch", f"the launch did not arrive: {said.decode('utf-8', 'replace')[:200]}", temporary=True)
        handle.begin()
        return True


async def _unless_stopped(handle: PodHandle, work: Coroutine[Any, Any, Pod]) -> Pod:
    """What the work comes to; raises Failed at once when the attempt is not wanted any more."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(handle.stopping.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Failed(stopped_by="stop")
        return working.result()
    finally:
        for each in (working, stopping):
            each.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def _ours(found: Pod, settings: PodSettings) -> Pod:
    labels = found["metadata"].get("labels", {})
    name = found["metadata"]["name"]
    if labels.get(pod.INSTALL) != settings.install:
        raise Failed("foreign_pod", f"a pod of somebody else's has the name {name}", temporary=False)
    if labels.get(pod.ROLE) != pod.ATTEMPT_ROLE:
        raise Failed(exit=_LOST)  # somebody has given this attempt up
    return found


def _hopeless(status: Mapping[str, object]) -> Exit | None:
    found = ending.of_start(status)
    return None if found is None else Exit(code=None, signal=None, reason=found[0], message=found[1], temporary=found[2])
