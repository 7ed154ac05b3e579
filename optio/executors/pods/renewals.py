"""Renewals: pods hear that their runs have an owner, so that their agents do not end as orphans."""

import asyncio
import contextlib
import logging

from optio.executors.pods import manifest as pod
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.launch_script import CONTROL
from optio.executors.pods.start import ORPHANED, Renewal
from optio.executors.procfs import uptime

log = logging.getLogger(__name__)
# Renewals of a worker's pods come due together, and have most of the orphan timeout: so few at a time, beside the launches.
MAX_RENEWING = 8
_MAX_OWNED_AGE_S = 5.0


class PodRenewals:
    """The renewals of the pods that this worker follows."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._renewals: dict[PodHandle, Renewal] = {}
        self._slots = asyncio.Semaphore(MAX_RENEWING)

    def put(self, handle: PodHandle, renewal: Renewal) -> None:
        """Renew this pod from now on."""
        self._renewals[handle] = renewal

    def drop(self, handle: PodHandle) -> None:
        """Renew this pod no more."""
        self._renewals.pop(handle, None)

    async def renew(self, handle: PodHandle) -> None:
        """Tell a pod that its run has an owner, if that is due."""
        renewal = self._renewals.get(handle)
        if renewal is None or not handle.launched or handle.exit() is not None:
            return
        renewal.owned_at = uptime()
        if not renewal.due():
            return
        renewal.telling = True
        try:
            async with self._slots:
                # The run may be another worker's by now, unless this one has renewed its lease meanwhile.
                if (at := renewal.owned_at) >= uptime() - _MAX_OWNED_AGE_S:
                    code, _ = await self._cluster.run(handle.name, pod.CONTAINER, ["/bin/sh", "-c", f": >{CONTROL}/renewed"])
                    if code == 0:
                        renewal.told(at)
        except (Refused, Unreachable) as err:
            log.info("the pod %s could not be told that its run has an owner: %s", handle.name, err)
        finally:
            renewal.telling = False
        if renewal.left() <= 0:
            # Whatever its node does, the agent has ended itself by now.
            handle.end(ORPHANED)
            with contextlib.suppress(Refused, Unreachable):
                await self._cluster.delete(handle.name, handle.uid, 0)
