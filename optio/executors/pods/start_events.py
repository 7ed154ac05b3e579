"""The starts of containers of agents and gates, known from the cluster's events: a node reports them in a pod's status up to a
second later."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from optio.executors.pods import network
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.informer import Informer, retry_until
from optio.executors.pods.manifest import CONTAINER as AGENT

log = logging.getLogger(__name__)


class StartEvents:
    """A watch of the events `Started`, open while pods begin. Events are best effort in Kubernetes: whoever waits for one looks
    at the pod's status too."""

    def __init__(self, cluster: Cluster, informer: Informer) -> None:
        self._cluster, self._informer = cluster, informer
        self._awaited: set[str] = set()
        self._started_names: set[str] = set()
        self._gates: dict[str, asyncio.Event] = {}
        self._demand = asyncio.Event()

    @contextmanager
    def awaited(self, name: str) -> Iterator[None]:
        """Have the informer `tell` of this pod, which is made in this block, when its event comes."""
        self._awaited.add(name)
        self._gates[name] = asyncio.Event()
        self._demand.set()
        try:
            yield
        finally:
            self._awaited.discard(name)
            self._gates.pop(name, asyncio.Event()).set()
            self.forget(name)

    def forget(self, name: str) -> None:
        """Forget an event whose container could not be used: the pod's status tells more."""
        self._started_names.discard(name)

    def has(self, name: str) -> bool:
        """Return whether the agent's container of an awaited pod has been started."""
        return name in self._started_names

    async def gate_started(self, name: str) -> None:
        """Wait until the container of a pod's gate has been started, or the pod is no longer awaited."""
        if (event := self._gates.get(name)) is not None:
            await event.wait()

    async def run(self) -> None:
        """Watch for ever, whenever pods begin. What happens between two watches is found in the pods' status."""
        async for _ in retry_until():
            await self._demand.wait()
            try:
                async with aclosing(self._cluster.start_events()) as names:
                    async for name, container in names:
                        if container == network.GATE and name in self._gates:
                            self._gates[name].set()
                        elif container == AGENT and name in self._awaited:
                            self._started_names.add(name)
                            self._informer.tell(name)
            except (Refused, Unreachable) as err:
                log.info("the watch of events broke off: %s", err)
            except Exception:
                log.exception("the watch of events failed")
            if not self._awaited:
                self._demand.clear()
