"""Transfers that stand by in ready pods, because opening a command in a pod takes longer than the rest of a warm start.

A worker holds one open for each kind of pod, and few in all. If another worker takes the pod, the transfer was in vain, and
opening one costs the cluster about a tenth of a pod's start. So a worker whose transfers are repeatedly in vain opens fewer.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Set

from optio.executors.pods import manifest as pod
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.informer import Pod
from optio.executors.pods.launch_transfer import LaunchTransfer
from optio.executors.pods.pool import Pools

_MAX_OPEN = 4
_TICK_S = 2.0
# The pod that was just taken has its launch before the way into another is opened: the two are in each other's way.
_BREATH_S = 0.25
# After a way was vain, this time passes before the next is opened, each time twice as long, until one was of use.
_PAUSE_S, _MAX_PAUSE_S = 1.0, 300.0


class Standby:
    """The open transfers of a worker, created in the loop that uses them."""

    def __init__(self, cluster: Cluster, pools: Pools) -> None:
        self._cluster, self._pools = cluster, pools
        self._open: dict[str, tuple[str, LaunchTransfer]] = {}  # by UID: the pod's kind
        self._pause, self._until = _PAUSE_S, 0.0

    def uids(self) -> Set[str]:
        """Return the UIDs of the pods into which a transfer is open."""
        return self._open.keys()

    def take(self, warm: Pod) -> LaunchTransfer | None:
        """Hand over the open transfer into this pod, or return None. The caller must close it."""
        _, way = self._open.pop(warm["metadata"]["uid"], ("", None))
        if way is None or way.is_over:
            return None
        self._pause, self._until = _PAUSE_S, 0.0
        return way

    async def keep(self) -> None:
        """Keep transfers open, for ever."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await self._pools.offered.wait()
                self._pools.offered.clear()
                await asyncio.sleep(_BREATH_S)
                await self._settle()
        finally:
            await self._drop(list(self._open))

    async def _settle(self) -> None:
        # In any order: so two workers seldom open the same.
        pods = sorted(self._pools.ready(), key=lambda _: random.random())  # noqa: S311
        ready = {warm["metadata"]["uid"]: warm for warm in pods}
        vain = [uid for uid, (_, way) in self._open.items() if uid not in ready or way.is_over]
        if vain:
            self._until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _MAX_PAUSE_S)
            await self._drop(vain)
        if time.monotonic() < self._until:
            return
        for uid, pod_object in ready.items():
            kind = pod_object["metadata"]["labels"][pod.POOL]
            if len(self._open) < _MAX_OPEN and kind not in {open_kind for open_kind, _ in self._open.values()}:
                self._open[uid] = kind, LaunchTransfer(self._cluster, pod_object["metadata"]["name"])

    async def _drop(self, uids: list[str]) -> None:
        ways = [way for uid in uids if (way := self._open.pop(uid, ("", None))[1]) is not None]
        await asyncio.gather(*(way.aclose() for way in ways))
