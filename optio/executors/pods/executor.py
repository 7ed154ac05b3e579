"""The Kubernetes executor: one pod for each attempt, found again by its name, so a worker can die at any moment.

One thread runs the event loop with everything that talks to the cluster (`site`); workers' threads hold handles.
"""

import contextlib
import logging
import re
import secrets
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from optio.errors import LaunchFailed, OptioError, StoreUnavailable
from optio.executors import execve
from optio.executors.base import Executor, Handle, KeptAttempt, Launch, WarmDemand
from optio.executors.pods import manifest as pod
from optio.executors.pods import network
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.launch_script import environment
from optio.executors.pods.loop_thread import PATIENCE_S, LoopThread
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.search import FIND_S
from optio.executors.pods.site import PodSite
from optio.model import isolation
from optio.model.pool import Pool
from optio.model.runtimes import declaration_of
from optio.model.task import Environment

T = TypeVar("T")
log = logging.getLogger(__name__)
_NO_LABEL = re.compile(r"[^a-z0-9-]+")


class PodExecutor(Executor):
    """The executor of one namespace. `start_s` is how long a pod may take until its container runs. No attempt is continued in
    another pod, since HOME goes with its pod; tasks whose environment cannot be applied are refused, so there are no notes."""

    def __init__(self, settings: PodSettings, programs: Mapping[str, str], *, start_s: float = 300.0) -> None:
        self._settings = settings
        self._programs = programs
        self._start_s = start_s
        # Of this executor alone, and such that people know it again.
        self._worker = f"{_NO_LABEL.sub('-', socket.gethostname().lower())[:40]}-{secrets.token_hex(4)}".lstrip("-._")
        self._loop = LoopThread()
        self._opening = threading.Lock()
        self._site: PodSite | None = None

    def _call(self, work: Callable[[PodSite], Coroutine[Any, Any, T]], timeout: float = PATIENCE_S) -> T:
        """Run a coroutine in the loop, for a worker's thread. The first call opens the cluster, because a server never needs
        it. Raises Unreachable, and what the coroutine raises."""

        async def open_site() -> PodSite:
            return PodSite(self._settings, self._worker, self._start_s, self._loop)

        with self._opening:
            site = self._site = self._site or self._loop.call(open_site, timeout)
        return self._loop.call(lambda: work(site), timeout)

    def place(self) -> str:
        """Return a name for this namespace and installation. A team's place includes the namespace, so that an agent left in an
        old namespace is not looked for in a new one."""
        directory = f"kubernetes:{self._settings.namespace}" if self._settings.is_team else "kubernetes"
        try:
            return (
                f"{directory}/{self._call(lambda site: site.cluster.namespace())['metadata']['uid']}/{self._settings.install}"
            )
        except (Refused, Unreachable) as err:
            temporary = isinstance(err, Unreachable) or err.temporary
            message = f"the namespace {self._settings.namespace} cannot be used: {err}"
            raise StoreUnavailable(message, temporary=temporary) from err

    def program(self, runtime: str) -> str:
        """Return the name of the program, which is looked up on the image's PATH when the agent starts."""
        agent = declaration_of(runtime)
        return self._programs.get(runtime) or (agent.program.name if agent is not None and agent.program is not None else "")

    def start(self, launch: Launch) -> Handle:
        """Start a launch. The loop makes the pod: an error there is the end of the attempt."""
        settings = self._fenced(launch.gateway)
        execve.check_launch(launch.argv, environment(launch, pod.way_out(launch.environment, settings)))
        manifest = pod.attempt_pod(launch, settings, secrets.token_hex(8), self._worker)
        return self._call(lambda site: site.begin(launch, settings, manifest))

    def find(self, run_id: str, attempt: int) -> Handle | None:
        try:
            return self._call(lambda site: site.find(run_id, attempt), FIND_S + PATIENCE_S)
        except (Refused, Unreachable) as err:
            raise StoreUnavailable(f"the pods of {self._settings.namespace} cannot be read: {err}") from err

    def keep_warm(self, wanted: Sequence[WarmDemand]) -> None:
        if wanted or self._site is not None:
            try:
                fenced = {gateway: self._fenced(gateway) for gateway in {None, *(demand.gateway for demand in wanted)}}

                async def keep(site: PodSite) -> None:
                    site.pools.want([(demand, fenced[demand.gateway]) for demand in wanted])

                self._call(keep)
            except OptioError as err:
                log.warning("pools cannot be updated: %s", err)

    def pools(self) -> list[Pool] | None:
        async def state(site: PodSite) -> list[Pool] | None:
            return site.pools.state()

        return None if self._site is None else self._call(state)

    def attempts(self) -> list[tuple[str, int]]:
        try:
            labels = {**pod.selector(self._settings), pod.RUN: None}
            items, _ = self._call(lambda site: site.cluster.pods(labels, meta=True))
        except (Refused, Unreachable) as err:
            if not self._loop.is_closed:
                log.warning("the pods of %s cannot be listed: %s", self._settings.namespace, err)
            return []
        items = [item for item in items if "deletionTimestamp" not in item["metadata"]]
        for item in items:
            if pod.kept_until(item) is not None:
                with contextlib.suppress(Refused, Unreachable):
                    self._call(lambda site, item=item: site.removal.delete_expired(item))  # type: ignore[misc]
        attempts = [item["metadata"]["labels"] for item in items if pod.kept_until(item) is None]
        return [(labels[pod.RUN], int(labels[pod.ATTEMPT])) for labels in attempts]

    def keep(self, run_id: str, attempt: int, seconds: float) -> KeptAttempt:
        try:
            return self._call(lambda site: site.removal.keep(run_id, attempt, timedelta(seconds=seconds)))
        except (Refused, Unreachable) as err:
            return KeptAttempt(False, f"its pod is not kept: {err}")

    def remove(self, run_id: str, attempt: int) -> None:
        with contextlib.suppress(Refused, Unreachable):
            self._call(lambda site: site.removal.remove_all(run_id, attempt))

    def not_applied(self, names: Iterable[str]) -> list[str]:
        return isolation.notes("kubernetes", names)

    def private(self, environment: Environment) -> Iterable[str]:
        try:
            return pod.credentials(environment, self._settings)
        except LaunchFailed:  # no pod with such a list is ever made
            return ()

    def close(self) -> None:
        async def end() -> None:
            if self._site is not None:
                await self._site.close()

        self._loop.close(end)

    def _fenced(self, gateway_url: str | None) -> PodSettings:
        """Return the settings with the addresses of the egress proxy and of the gateway, if that is to be reached: closed pods
        have no names. Raises LaunchFailed."""
        fence = self._settings.fence
        if fence is None:
            return self._settings
        if fence.proxy.address is None:
            addresses = _resolve(fence.proxy.host, fence.proxy.port, "egress proxy", "OPTIO_KUBE_EGRESS")
            fence = replace(fence, proxy=fence.proxy.at(addresses[0]))
        if gateway_url is not None:
            gateway = network.gateway_of(gateway_url)
            fence = replace(fence, gateway=gateway.at(_resolve(gateway.host, gateway.port, "gateway", "OPTIO_GATEWAY_URL")))
        return replace(self._settings, fence=fence)


def _resolve(host: str, port: int, subject: str, setting: str) -> list[str]:
    """Return the addresses of a host, as the resolver orders them. Raises LaunchFailed."""
    try:
        return [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as err:
        raise LaunchFailed("network", f"the {subject} {host} ({setting}) has no address: {err}", temporary=True) from err
