"""The ends of the pods of attempts: their agents are asked to stop, and the pods are kept for people, or deleted."""

import contextlib
import time
from collections.abc import Mapping
from datetime import timedelta

from optio.executors.base import KeptAttempt
from optio.executors.pods import exit_status
from optio.executors.pods import manifest as pod
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.informer import Informer, Pod, retry_until
from optio.executors.pods.manifest import PodSettings

_STOP_S, _REMOVE_S = 30.0, 60.0
# A node says within this time that a container has ended, also when twenty others of its pods begin and end meanwhile. A pod of
# which that is known goes at once; of any other the node is asked to end it, which takes five more requests and a signal to
# what has ended.
_ENDED_S = 10.0


class PodRemoval:
    """The ends of pods of one installation. `informer` knows those that this worker follows."""

    def __init__(self, cluster: Cluster, informer: Informer, settings: PodSettings) -> None:
        self._cluster, self._informer, self._settings = cluster, informer, settings

    def is_attempt(self, labels: Mapping[str, str]) -> bool:
        """Return whether these are the labels of an attempt of this installation."""
        return labels.get(pod.INSTALL) == self._settings.install and labels.get(pod.ROLE) == pod.ATTEMPT_ROLE

    async def pods_of(self, run_id: str, attempt: int) -> list[Pod]:
        """Return all pods of an attempt."""
        labels = {**pod.selector(self._settings), pod.RUN: run_id, pod.ATTEMPT: str(attempt)}
        items, _ = await self._cluster.pods(labels)
        return [*items]

    async def keep(self, run_id: str, attempt: int, span: timedelta) -> KeptAttempt:
        """Keep the pod of a failed attempt for so long."""
        for item in await self.pods_of(run_id, attempt):
            meta, until = item["metadata"], self._cluster.now() + span
            if self.is_attempt(meta["labels"]) and exit_status.of_status(item.get("status", {})) is None:
                await self._cluster.patch(meta["name"], pod.kept(until))
                command = f"kubectl -n {meta['namespace']} exec -it {meta['name']} -c {pod.CONTAINER} -- /bin/sh"
                text = f"its pod is kept until {until:%Y-%m-%d %H:%M:%S} UTC (environment.keepFailed): {command}"
                return KeptAttempt(True, text)
        return KeptAttempt(False, "its pod is not kept: its container has ended")

    async def delete_expired(self, item: Pod) -> None:
        """Delete a pod that has been kept for long enough, whoever made it."""
        meta, until = item["metadata"], pod.kept_until(item)
        if until is not None and until < self._cluster.now():
            await self._cluster.delete(meta["name"], meta["uid"], 0)

    async def stop(self, handle: PodHandle) -> None:
        """Tell the supervisor, which tells the agent. A starter that has not launched it yet sees `stopping`."""
        handle.stopping.set()
        if not handle.launched:
            return
        async for _ in retry_until(time.monotonic() + _STOP_S):
            if handle.exit() is not None:
                return
            with contextlib.suppress(Refused, Unreachable):
                await self._cluster.run(handle.name, pod.CONTAINER, ["/bin/sh", "-c", "kill -TERM 1"])
                return
        # Its supervisor cannot be reached: the node tells it, and ends it.
        await self._remove(handle.name, handle.uid)

    async def remove(self, handle: PodHandle) -> None:
        """Remove the pod of an attempt, or those that a request without an answer may have made or taken for it."""
        if not handle.uid:
            with contextlib.suppress(Refused, Unreachable):
                await self.remove_all(handle.run_id, handle.attempt)
            return
        if handle.exit() is not None:
            await self._informer.until(handle.name, lambda status: exit_status.of_status(status) is not None, _ENDED_S)
        await self._remove(handle.name, handle.uid)

    async def remove_all(self, run_id: str, attempt: int) -> None:
        """Remove all pods of an attempt."""
        for item in await self.pods_of(run_id, attempt):
            await self._remove(item["metadata"]["name"], item["metadata"]["uid"])

    async def _remove(self, name: str, uid: str) -> None:
        """Delete a pod of this installation, gracefully if its agent still runs."""
        async for _ in retry_until(time.monotonic() + _REMOVE_S):
            with contextlib.suppress(Refused, Unreachable):
                has_ended = exit_status.of_status(self._informer.status(name)) is not None
                await self._cluster.delete(name, uid, 0 if has_ended else None)
                return
