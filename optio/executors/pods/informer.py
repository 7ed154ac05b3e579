"""A local copy of some pods of an installation, chosen by their labels and kept current by one watch.

The API server pays for each watcher of an object. So a worker watches the pods that have its name on them (`manifest.WORKER`),
and of the others only what it needs: see `pool.py`.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster, Labels

Pod = Mapping[str, Any]
log = logging.getLogger(__name__)
# Seconds between two attempts after an error; pauses grow, and are randomised.
_PAUSE_S, _MAX_PAUSE_S = 0.2, 5.0
_LIST_AGAIN_S = 300.0


class Informer:
    """A watch of pods. `pods` has them by name (with `meta` only their metadata); `changed` is set at each change, `listed`
    when all are known."""

    def __init__(self, cluster: Cluster, labels: Labels, *, meta: bool = False) -> None:
        self._cluster, self._labels, self._meta = cluster, labels, meta
        self._moved: dict[str, asyncio.Event] = {}
        self._task: asyncio.Task[None] | None = None
        # All changes up to this version are known.
        self._known_to = 0
        self.pods: dict[str, Pod] = {}
        self.changed = asyncio.Event()
        self.listed = asyncio.Event()

    def status(self, name: str) -> Mapping[str, Any]:
        """Return the status of a pod; empty if there is none."""
        status: Mapping[str, Any] = self.pods.get(name, {}).get("status", {})
        return status

    def moved(self, name: str) -> asyncio.Event:
        """Return an event that the next change of this pod sets, or `tell`."""
        event = self._moved.setdefault(name, asyncio.Event())
        event.clear()
        return event

    async def until(self, name: str, holds: Callable[[Mapping[str, Any]], bool], timeout_s: float) -> None:
        """Wait until a condition holds for the pod's status, the pod is gone, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while name in self.pods and not holds(self.status(name)):
                    await self.moved(name).wait()
        self.forget(name)

    def tell(self, name: str) -> None:
        """Wake whoever waits for this pod."""
        if name in self._moved:
            self._moved[name].set()

    def forget(self, name: str) -> None:
        """Drop the event of a pod that is no longer waited for."""
        self._moved.pop(name, None)

    def put(self, pod_object: Pod) -> None:
        """Take in the pod of an answer, unless the watch is ahead of it. An answer may arrive after the event that its pod is
        gone, and would bring it back until the next list."""
        if _version(pod_object) > self._known_to:
            self._replace(pod_object)

    def _replace(self, pod_object: Pod) -> None:
        name, last_pod = pod_object["metadata"]["name"], self.pods.get(pod_object["metadata"]["name"])
        if (
            last_pod is None
            or last_pod["metadata"]["uid"] != pod_object["metadata"]["uid"]
            or _version(last_pod) <= _version(pod_object)
        ):
            self._now(name, pod_object)

    def begin(self) -> None:
        """Watch in the background, unless it does already."""
        self._task = self._task or asyncio.create_task(self.run())

    async def known(self, timeout_s: float) -> bool:
        """Wait for the first list for a moment. Return whether it is there."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.listed.wait()
        return self.listed.is_set()

    async def end(self) -> None:
        """Stop watching in the background, and forget all pods until the next list."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.pods.clear()
            self.listed.clear()
            self._known_to = 0

    async def run(self) -> None:
        """Watch for ever, from where the last watch ended. All pods are listed anew when a watch breaks off, and now and
        then."""
        version, listed_at = "", 0.0
        async for _ in retry_until():
            try:
                if not version or time.monotonic() - listed_at > _LIST_AGAIN_S:
                    pods, version = await self._cluster.pods(self._labels, meta=self._meta)
                    listed_at = time.monotonic()
                    self._known_to = _number(version)
                    pods_by_name = {pod_object["metadata"]["name"]: pod_object for pod_object in pods}
                    for name in {*self.pods, *pods_by_name}:
                        self._now(name, pods_by_name.get(name))
                    self.listed.set()
                async with aclosing(self._cluster.watch(self._labels, version, meta=self._meta)) as changes:
                    async for kind, pod_object in changes:
                        version = pod_object["metadata"]["resourceVersion"]
                        self._take(kind, pod_object)
            except (Refused, Unreachable) as err:
                version = ""
                log.info("the watch of pods broke off: %s", err)
            except Exception:
                version = ""
                log.exception("the watch of pods failed")

    def _take(self, kind: str, pod_object: Pod) -> None:
        """Apply an event of the watch, which may be an old one."""
        self._known_to = max(self._known_to, _version(pod_object))
        if kind == "DELETED":
            last_pod = self.pods.get(pod_object["metadata"]["name"])
            if last_pod is not None and last_pod["metadata"]["uid"] == pod_object["metadata"]["uid"]:
                self._now(pod_object["metadata"]["name"], None)
        elif kind != "BOOKMARK":
            self._replace(pod_object)

    def _now(self, name: str, pod_object: Pod | None) -> None:
        self.pods.pop(name, None)
        if pod_object is not None:
            self.pods[name] = pod_object
        self.changed.set()
        self.tell(name)


def _version(pod_object: Pod) -> int:
    return _number(pod_object["metadata"].get("resourceVersion", ""))


def _number(version: str) -> int:
    """Return a resource version as a number. Kubernetes promises since 1.35 that versions can be compared; every version so far
    complies."""
    return int(version) if version.isdigit() else 0


def is_agent_running(status: Mapping[str, Any]) -> bool:
    """Return whether the container of the agent runs."""
    return "running" in (container(status).get("state") or {})


def container(status: Mapping[str, Any], name: str = "agent") -> Mapping[str, Any]:
    """Return the status of one container; empty while it has none."""
    container_status: Mapping[str, Any] = next((c for c in status.get("containerStatuses") or () if c.get("name") == name), {})
    return container_status


async def retry_until(deadline: float | None = None) -> AsyncIterator[None]:
    """Yield at once, and again after growing pauses, until the deadline. Leave the loop when done."""
    pause = _PAUSE_S
    while True:
        began_at = time.monotonic()
        yield
        if time.monotonic() - began_at > _MAX_PAUSE_S:
            pause = _PAUSE_S
        if deadline is not None and time.monotonic() + pause > deadline:
            return
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        pause = min(2 * pause, _MAX_PAUSE_S)
