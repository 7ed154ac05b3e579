"""The Kubernetes executor: one pod for each attempt, found again by its name, so a worker can die at any moment.

One thread runs the event loop with everything that talks to the cluster; workers' threads hold handles.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from optio.errors import LaunchFailed, OptioError, StoreUnavailable
from optio.executors import execve
from optio.executors.base import Exit, Handle, KeptAttempt, Launch, ProgramFacts, WarmDemand
from optio.executors.pods import exit_status
from optio.executors.pods import manifest as pod
from optio.executors.pods.address_report import AddressReports
from optio.executors.pods.cluster import Cluster, Refused, Unreachable
from optio.executors.pods.given_up import GivenUp
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.informer import Informer, Pod, is_agent_running, retry_until
from optio.executors.pods.launch_script import CONTROL, LAUNCHED, LOOK, NEVER, environment
from optio.executors.pods.log_reader import PodLogReader
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.network_policies import NetworkPolicies
from optio.executors.pods.pool import Pools
from optio.executors.pods.standby import Standby
from optio.executors.pods.start import ORPHANED, Renewal, Start, Starter, StartFailed
from optio.executors.pods.start_events import StartEvents
from optio.executors.procfs import uptime
from optio.model import isolation
from optio.model.pool import Pool
from optio.model.probe_result import ProbeResult
from optio.model.runtimes import declaration_of
from optio.model.task import Environment

T = TypeVar("T")
log = logging.getLogger(__name__)
# How long a call of a worker's thread waits for the cluster.
_PATIENCE_S = 30.0
_STOP_S = 30.0
_FIND_S = 90.0
_STARTS_S = 15.0
_NO_LABEL = re.compile(r"[^a-z0-9-]+")
_LEAVES = "this worker is stopping"
# Renewals of a worker's pods come due together, and have most of the orphan timeout: so few at a time, beside the launches.
_MAX_RENEWING, _MAX_OWNED_AGE_S = 8, 5.0
# A node says within this time that a container has ended, also when twenty others of its pods begin and end meanwhile. A pod of
# which that is known goes at once; of any other the node is asked to end it, which takes five more requests and a signal to
# what has ended.
_ENDED_S = 10.0


class PodExecutor:
    """The executor of one namespace. `start_s` is how long a pod may take until its container runs."""

    def __init__(self, settings: PodSettings, programs: Mapping[str, str], *, start_s: float = 300.0) -> None:
        self._settings = settings
        self._programs = programs
        self._start_s = start_s
        self._tasks: dict[PodHandle, asyncio.Task[None]] = {}
        self._renewals: dict[PodHandle, Renewal] = {}
        self._renewing = asyncio.Semaphore(_MAX_RENEWING)
        self._background: set[asyncio.Task[Any]] = set()
        # Of this executor alone, and such that people know it again.
        self._me = f"{_NO_LABEL.sub('-', socket.gethostname().lower())[:40]}-{secrets.token_hex(4)}".lstrip("-._")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pods", daemon=True)
        self._starting = threading.Lock()
        self._cluster: Cluster
        self._informer: Informer
        self._given_up: GivenUp
        self._pools: Pools
        self._addresses: AddressReports
        self._starter: Starter
        self._feed: PodLogReader
        self._calls: set[concurrent.futures.Future[Any]] = set()
        self._closed_for_good = False
        self._forever: list[asyncio.Task[None]]

    async def _open(self) -> None:
        self._cluster = Cluster(self._settings.namespace)
        self._informer = Informer(self._cluster, {**pod.selector(self._settings), pod.WORKER: self._me})
        policies = NetworkPolicies(self._cluster, self._settings.install)
        self._given_up = GivenUp(self._cluster, self._settings.install, self._settings.orphan_s)
        self._pools = Pools(self._cluster, self._informer, policies, self._settings, self._me)
        standby = Standby(self._cluster, self._pools)
        starts = StartEvents(self._cluster, self._informer)
        self._addresses = AddressReports(self._cluster, self._informer, starts)
        self._starter = Starter(
            self._cluster,
            self._informer,
            starts,
            self._pools,
            standby,
            policies,
            self._given_up,
            self._addresses,
            self._start_s,
        )
        self._feed = PodLogReader(self._cluster, self._informer, self._settings.gate_s)
        forever = self._informer.run(), starts.run(), self._pools.keep(), self._pools.offer(), standby.keep()
        self._forever = [asyncio.create_task(work) for work in forever]

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]], timeout: float = _PATIENCE_S) -> T:
        """Run a coroutine in the loop, for a worker's thread. The first call opens the cluster, because a server never needs
        it. Raises Unreachable, and what the coroutine raises."""
        with self._starting:
            if self._closed_for_good:
                raise Unreachable(_LEAVES)
            if not self._thread.is_alive():
                self._thread.start()
            if not hasattr(self, "_cluster"):
                asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(timeout)
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
            self._calls.add(future)
        try:
            return future.result(timeout)
        except concurrent.futures.CancelledError as err:
            raise Unreachable(_LEAVES) from err
        except TimeoutError as err:
            future.cancel()
            raise Unreachable("the cluster takes too long to answer") from err
        finally:
            self._calls.discard(future)

    # Executor

    def place(self) -> str:
        """Return a name for this namespace and installation. A team's place includes the namespace, so that an agent left in an
        old namespace is not looked for in a new one."""
        directory = f"kubernetes:{self._settings.namespace}" if self._settings.is_team else "kubernetes"
        try:
            return f"{directory}/{self._call(lambda: self._cluster.namespace())['metadata']['uid']}/{self._settings.install}"
        except (Refused, Unreachable) as err:
            temporary = isinstance(err, Unreachable) or err.temporary
            message = f"the namespace {self._settings.namespace} cannot be used: {err}"
            raise StoreUnavailable(message, temporary=temporary) from err

    def clock(self) -> float:
        return uptime()

    def program(self, runtime: str) -> str:
        """Return the name of the program, which is looked up on the image's PATH when the agent starts."""
        agent = declaration_of(runtime)
        return self._programs.get(runtime) or (agent.program.name if agent is not None and agent.program is not None else "")

    def start(self, launch: Launch) -> Handle:
        """Start a launch. The loop makes the pod: an error there is the end of the attempt."""
        settings = self._fenced()
        execve.check_launch(launch.argv, environment(launch, pod.way_out(launch.environment, settings)))
        wanted = pod.attempt_pod(launch, settings, secrets.token_hex(8), self._me)
        return self._call(lambda: self._begin(launch, settings, wanted))

    def program_facts(self, runtime: str) -> ProgramFacts:
        return ProgramFacts()

    def can_continue(self, run_id: str, attempt: int, program: str | None = None) -> bool:
        """Return False: the agent's HOME goes with its pod."""
        return False

    def find(self, run_id: str, attempt: int) -> Handle | None:
        try:
            return self._call(lambda: self._found(run_id, attempt), _FIND_S + _PATIENCE_S)
        except (Refused, Unreachable) as err:
            raise StoreUnavailable(f"the pods of {self._settings.namespace} cannot be read: {err}") from err

    def prepare(self) -> None:
        """Do nothing: the first call opens the cluster, and pods are prepared by pools."""

    def keep_warm(self, wanted: Sequence[WarmDemand]) -> None:
        if wanted or hasattr(self, "_cluster"):
            try:
                settings = self._fenced()

                async def keep() -> None:
                    self._pools.want(wanted, settings)

                self._call(keep)
            except OptioError as err:
                log.warning("pools cannot be updated: %s", err)

    def pools(self) -> list[Pool] | None:
        async def state() -> list[Pool] | None:
            return self._pools.state()

        return self._call(state) if hasattr(self, "_cluster") else None

    def attempts(self) -> list[tuple[str, int]]:
        try:
            labels = {**pod.selector(self._settings), pod.RUN: None}
            found, _ = self._call(lambda: self._cluster.pods(labels, meta=True))
        except (Refused, Unreachable) as err:
            if not self._closed_for_good:
                log.warning("the pods of %s cannot be listed: %s", self._settings.namespace, err)
            return []
        there = [each for each in found if "deletionTimestamp" not in each["metadata"]]
        self._drop_expired([each for each in there if pod.kept_until(each) is not None])
        marked = [each["metadata"]["labels"] for each in there if pod.kept_until(each) is None]
        return [(labels[pod.RUN], int(labels[pod.ATTEMPT])) for labels in marked]

    def keep(self, run_id: str, attempt: int, seconds: float) -> KeptAttempt:
        try:
            return self._call(lambda: self._kept(run_id, attempt, timedelta(seconds=seconds)))
        except (Refused, Unreachable) as err:
            return KeptAttempt(False, f"its pod is not kept: {err}")

    def remove(self, run_id: str, attempt: int) -> None:
        with contextlib.suppress(Refused, Unreachable):
            self._call(lambda: self._swept(run_id, attempt))

    def notes(self, environment: Environment) -> list[str]:
        """Return nothing: this executor refuses tasks whose environment it cannot apply."""
        return []

    def examine(self) -> Iterable[ProbeResult]:
        """Return nothing: the cluster is checked by `examine.py`."""
        return ()

    def not_applied(self, names: Iterable[str]) -> list[str]:
        return isolation.notes("kubernetes", names)

    def private(self, environment: Environment) -> Iterable[str]:
        try:
            return pod.credentials(environment, self._settings)
        except LaunchFailed:  # no pod with such a list is ever made
            return ()

    def refusal_hint(self, line: bytes, environment: Environment) -> str | None:
        """Return None: refusals in pods are the same for all tasks, and documented."""
        return None

    def close(self) -> None:
        with self._starting:
            self._closed_for_good = True
        for call in list(self._calls):
            call.cancel()
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_PATIENCE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def _name(self, run_id: str, attempt: int) -> str:
        return pod.name_of(self._settings.install, run_id, attempt)

    async def _end(self) -> None:
        # What was asked for last is done first: pods that are to go.
        if self._background:
            await asyncio.wait(self._background, timeout=5)
        if not hasattr(self, "_cluster"):
            return
        tasks = [*self._forever, *self._tasks.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for handle in self._tasks:  # handles that were not closed
            handle.spool.close()
        await self._addresses.close()
        await self._pools.stop()
        await self._cluster.close()

    # One attempt

    def _fenced(self) -> PodSettings:
        """The settings with the address of the egress proxy, for closed pods have no names; raises LaunchFailed."""
        fence = self._settings.fence
        if fence is None or fence.proxy.address is not None:
            return self._settings
        try:
            found = socket.getaddrinfo(fence.proxy.host, fence.proxy.port, type=socket.SOCK_STREAM)
        except OSError as err:
            message = f"the egress proxy {fence.proxy.host} (OPTIO_KUBE_EGRESS) has no address: {err}"
            raise LaunchFailed("network", message, temporary=True) from err
        return replace(self._settings, fence=replace(fence, proxy=fence.proxy.at(str(found[0][4][0]))))

    async def _begin(self, launch: Launch, settings: PodSettings, wanted: Pod) -> PodHandle:
        handle = PodHandle(self._name(launch.run_id, launch.attempt), launch.run_id, launch.attempt, self._asked)
        self._renewals[handle] = renewal = Renewal(launch.orphan_s, launch.leased_at)
        self._follow(handle, self._attempt(handle, launch, settings, wanted, renewal))
        return handle

    def _follow(self, handle: PodHandle, work: Coroutine[Any, Any, Exit]) -> None:
        async def to_the_end() -> None:
            try:
                handle.end(await work)
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the pod %s cannot be followed any more", handle.name)
                handle.end(Exit(code=None, signal=None, reason="worker_error", message="see the worker's log", temporary=True))

        self._tasks[handle] = asyncio.create_task(to_the_end())

    async def _attempt(self, handle: PodHandle, launch: Launch, settings: PodSettings, wanted: Pod, renewal: Renewal) -> Exit:
        try:
            mark, arrived = await self._starter.start(Start(handle, launch, settings, wanted, renewal))
        except StartFailed as err:
            if handle.uid:  # nothing was begun in it
                with contextlib.suppress(Refused, Unreachable):
                    await self._cluster.delete(handle.name, handle.uid, 0)
            elif err.exit.stopped_by == "stop":  # another handle may have begun it
                with contextlib.suppress(Refused, Unreachable):
                    await self._swept(handle.run_id, handle.attempt)
            return err.exit
        handle.launched = True
        if handle.stop_wanted:
            await self._stopped(handle)
        return await self._feed.follow(handle, mark, began=arrived)

    # Found again

    async def _found(self, run_id: str, attempt: int) -> PodHandle | None:
        """Return the handle of the pod that was launched. A pod without a launch is removed. Return None if there is none, and
        the attempt is then given up, so that no worker starts it late."""
        last: Exception | None = None
        refused_since: float | None = None
        given_up = False
        async for _ in retry_until(time.monotonic() + _FIND_S):
            try:
                found = await self._candidates(run_id, attempt)
                if not found and not given_up:
                    await self._given_up.mark(run_id, attempt)
                    given_up, found = True, await self._candidates(run_id, attempt)
                if not found:
                    return None
                for each in found:
                    if "deletionTimestamp" in each["metadata"]:
                        if not self._may_live(each):
                            await self._cluster.delete(each["metadata"]["name"], each["metadata"]["uid"], 0)
                        continue
                    launched = await self._was_launched(each)
                    if launched is None:
                        refused_since = refused_since or time.monotonic()
                        if not is_agent_running(each.get("status", {})) and time.monotonic() - refused_since > _STARTS_S:
                            launched = False  # what does not come to run takes no launch, and will be gone
                    if launched:
                        mine = await self._cluster.patch(each["metadata"]["name"], pod.adopted(each, self._me))
                        return self._resume(mine, run_id, attempt)
                    if launched is False:
                        await self._cluster.delete(each["metadata"]["name"], each["metadata"]["uid"], 0)
            except (Refused, Unreachable) as err:
                log.info("whether %s-%d was launched cannot be seen yet: %s", run_id, attempt, err)
                # While the API server is away, a node cannot tell it what runs: it has the time anew.
                last, refused_since = err, None
        raise Unreachable(f"the pod of {run_id}-{attempt} does not go away: {last or 'it is still there'}")

    async def _candidates(self, run_id: str, attempt: int) -> list[dict[str, Any]]:
        """Return the pods that may have this launch: the one made for it, or those claimed for it."""
        found = await self._cluster.pod(self._name(run_id, attempt))
        if found is not None and self._is_ours(found["metadata"].get("labels", {})):
            return [found]
        return [each for each in await self._named(run_id, attempt) if self._is_ours(each["metadata"]["labels"])]

    def _may_live(self, found: Pod) -> bool:
        """Return whether an agent may still run in a pod that is being deleted: its node may only be unreachable. Such a pod is
        waited for until the agent would have ended itself as an orphan."""
        if not any("running" in (each.get("state") or {}) for each in found["status"].get("containerStatuses") or ()):
            return False
        over = datetime.fromisoformat(found["metadata"]["deletionTimestamp"])
        orphan = timedelta(seconds=float(found["metadata"].get("annotations", {}).get(pod.ORPHAN, 0)))
        return self._cluster.now() < over + orphan

    def _resume(self, found: Pod, run_id: str, attempt: int) -> PodHandle:
        handle = PodHandle(found["metadata"]["name"], run_id, attempt, self._asked, settled=False)
        handle.take(found)
        handle.launched, handle.how = True, "warm" if pod.POOL in found["metadata"]["labels"] else "cold"
        handle.begin()  # its worker may have died before it could say so
        self._informer.put(found)
        self._renewals[handle] = Renewal(float(found["metadata"]["annotations"][pod.ORPHAN]), uptime())
        self._follow(handle, self._feed.resume(handle, found))
        return handle

    async def _named(self, run_id: str, attempt: int) -> list[dict[str, Any]]:
        labels = {**pod.selector(self._settings), pod.RUN: run_id, pod.ATTEMPT: str(attempt)}
        return (await self._cluster.pods(labels))[0]

    async def _was_launched(self, found: Pod) -> bool | None:
        """Return whether the pod has its launch, or None if it cannot be asked now because its container does not seem to run.
        A launch comes as soon as the container answers, before the pod's status says so: the pod itself is asked, unless it can
        have no container yet. Raises Unreachable."""
        status = found.get("status", {})
        if exit_status.of_status(status) is not None:
            return True
        if "nodeName" not in found.get("spec", {}) or exit_status.of_start(status) is not None:
            return False
        name = found["metadata"]["name"]
        try:
            code, said = await self._cluster.run(name, pod.CONTAINER, ["/bin/sh", "-c", LOOK])
        except Refused as err:
            log.info("whether %s was launched cannot be seen yet: %s", name, err)
            return None
        if code not in (LAUNCHED, NEVER):
            log.info("%s does not tell whether it was launched: exit code %d: %s", name, code, said[:100])
            return None
        return code == LAUNCHED

    # What stays

    async def _kept(self, run_id: str, attempt: int, span: timedelta) -> KeptAttempt:
        for each in await self._named(run_id, attempt):
            if self._is_ours(each["metadata"]["labels"]) and exit_status.of_status(each.get("status", {})) is None:
                meta, until = each["metadata"], self._cluster.now() + span
                await self._cluster.patch(meta["name"], pod.kept(until))
                look = f"kubectl -n {meta['namespace']} exec -it {meta['name']} -c {pod.CONTAINER} -- /bin/sh"
                told = f"its pod is kept until {until:%Y-%m-%d %H:%M:%S} UTC (environment.keepFailed): {look}"
                return KeptAttempt(True, told)
        return KeptAttempt(False, "its pod is not kept: its container has ended")

    def _drop_expired(self, kept: Sequence[Pod]) -> None:
        """Delete pods that have been kept for long enough, whoever made them."""
        for each in kept:
            meta, until = each["metadata"], pod.kept_until(each)
            if until is not None and until < self._cluster.now():
                with contextlib.suppress(Refused, Unreachable):
                    self._call(functools.partial(self._cluster.delete, meta["name"], meta["uid"], 0))

    # What handles ask for

    def _asked(self, handle: PodHandle, what: str) -> None:
        """Schedule the request of a handle in the loop; may be called from any thread."""
        work: dict[str, Callable[[PodHandle], Coroutine[Any, Any, None]]] = {
            "stop": self._stopped,
            "renew": self._renewed,
            "close": self._closed,
            "remove": self._let_go,
        }

        def begin() -> None:
            task = self._loop.create_task(work[what](handle))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            handle.spool.close()  # the executor is closed: the next owner looks after the pod

    async def _stopped(self, handle: PodHandle) -> None:
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
        await self._removed(handle.name, handle.uid)

    async def _renewed(self, handle: PodHandle) -> None:
        renewal = self._renewals.get(handle)
        if renewal is None or not handle.launched or handle.exit() is not None:
            return
        renewal.owned_at = uptime()
        if not renewal.due():
            return
        renewal.telling = True
        try:
            async with self._renewing:
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

    async def _closed(self, handle: PodHandle) -> None:
        self._renewals.pop(handle, None)
        self._informer.forget(handle.name)
        handle.unhear()
        task = self._tasks.pop(handle, None)
        try:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        finally:
            handle.spool.close()

    async def _let_go(self, handle: PodHandle) -> None:
        await self._closed(handle)
        if handle.uid:
            if handle.exit() is not None:
                await self._informer.until(handle.name, lambda status: exit_status.of_status(status) is not None, _ENDED_S)
            await self._removed(handle.name, handle.uid)
        else:  # one may have been made or taken by a request that got no answer
            with contextlib.suppress(Refused, Unreachable):
                await self._swept(handle.run_id, handle.attempt)

    async def _swept(self, run_id: str, attempt: int) -> None:
        """Remove all pods of an attempt."""
        for each in await self._named(run_id, attempt):
            await self._removed(each["metadata"]["name"], each["metadata"]["uid"])

    async def _removed(self, name: str, uid: str) -> None:
        """Delete a pod of this installation, gracefully if its agent still runs."""
        async for _ in retry_until(time.monotonic() + 60):
            with contextlib.suppress(Refused, Unreachable):
                over = exit_status.of_status(self._informer.status(name)) is not None
                await self._cluster.delete(name, uid, 0 if over else None)
                return

    def _is_ours(self, labels: Mapping[str, str]) -> bool:
        return labels.get(pod.INSTALL) == self._settings.install and labels.get(pod.ROLE) == pod.ATTEMPT_ROLE
