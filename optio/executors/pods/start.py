"""The start of an attempt in a pod: make a pod for it or take one from a pool, and transfer the launch."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeVar

from optio.executors.base import Exit, Launch
from optio.executors.pods import exit_status, launch_script
from optio.executors.pods import manifest as pod
from optio.executors.pods.address_report import AddressReports
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.delays import Delays, command_refusal, refusal
from optio.executors.pods.given_up import GivenUp
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.informer import Informer, Pod, is_agent_running, retry_until
from optio.executors.pods.launch_transfer import LaunchTransfer
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.network_policies import NetworkPolicies
from optio.executors.pods.pool import Pools
from optio.executors.pods.standby import Standby
from optio.executors.pods.start_events import StartEvents
from optio.executors.procfs import uptime
from optio.model.room import Delay

T = TypeVar("T")
log = logging.getLogger(__name__)
ORPHANED = Exit(stopped_by="orphaned")
# After a launch that a running container did not take, so much longer each time.
_TRY_S, _MAX_PAUSE_S = 0.03, 5.0
# A launch that was sent has its answer within this time, and after the end of its pod within this time.
_ANSWER_S, _ENDED_ANSWER_S = 30.0, 1.0
# A command with a higher exit code was ended by a signal.
_KILLED = 128
# A cluster that has taken no pod for so long is tried again from the queue, by one run.
_REFUSED_S = 10.0
_LOST = Exit(lost=True)
_STOPPED = Exit(stopped_by="stop")


class StartFailed(Exception):
    """Raised for an attempt that ends before it has begun; `exit` is its end."""

    def __init__(self, exit_: Exit) -> None:
        super().__init__(exit_.message)
        if exit_.reason and exit_.temporary and exit_.no_room is None:
            exit_ = replace(exit_, no_room=Delay(reason=exit_.reason, message=exit_.message))
        self.exit = exit_


def without_room(delay: Delay) -> StartFailed:
    """Return the failure of an attempt for which there is no room, so that its run may wait."""
    return StartFailed(Exit(reason=delay.reason, message=delay.message, temporary=True, no_room=delay))


def _transfer_failed(message: str) -> StartFailed:
    return StartFailed(Exit(reason="launch", message=message, temporary=True))


class Renewal:
    """The renewals of one pod's lease. Each is a request to the cluster, so they are sent only now and then."""

    # Each time another share of the timeout: pods that began together are not told together for ever.
    _SHARES = 0.15, 0.25

    def __init__(self, orphan_s: float, told: float) -> None:
        self._orphan_s = orphan_s
        self.told(told)
        self.telling = False
        self.owned_at = told  # when the run was this worker's for the last time that is known, by `uptime`

    def left(self) -> float:
        """Return the seconds that an agent may still live without a renewal."""
        return self._orphan_s - (uptime() - self._told)

    def due(self) -> bool:
        """Return whether it is time to renew and no renewal is under way."""
        return not self.telling and uptime() - self._told >= self._orphan_s * self._share

    def told(self, at: float) -> None:
        """Note a renewal that has reached the pod; `at` is by `uptime`."""
        self._told, self._share = at, random.uniform(*self._SHARES)  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt that is to begin, in a new pod made from `wanted`, or in a ready one."""

    handle: PodHandle
    launch: Launch
    settings: PodSettings
    wanted: Pod
    renewal: Renewal

    def parcel(self) -> bytes:
        """Return the launch as it is sent at this moment. Raises StartFailed if it must not be sent any more."""
        time_left = self.renewal.left()
        if time_left <= 0:
            raise StartFailed(ORPHANED)
        if self.handle.stop_wanted:
            raise StartFailed(_STOPPED)
        way_out = pod.way_out(self.launch.environment, self.settings)
        return launch_script.parcel(self.launch, orphan_s=time_left, way_out=way_out)

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of the work. Raises StartFailed at once if the attempt is stopped meanwhile."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self.handle.stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise StartFailed(_STOPPED)
            return working.result()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)


class Starter:
    """Brings launches into pods. `start_s` is how long a pod may take until its container runs."""

    def __init__(
        self,
        cluster: Cluster,
        informer: Informer,
        events: StartEvents,
        pools: Pools,
        standby: Standby,
        policies: NetworkPolicies,
        given_up: GivenUp,
        addresses: AddressReports,
        start_s: float,
    ) -> None:
        self._cluster, self._informer, self._pools, self._policies = cluster, informer, pools, policies
        self._events, self._standby, self._given_up, self._start_s = events, standby, given_up, start_s
        self._addresses = addresses

    async def start(self, start: Start) -> tuple[str, bool]:
        """Start an attempt. Return (mark of its pod, whether the pod has confirmed the launch); an unconfirmed launch may have
        arrived, which the log tells. Raises StartFailed if no pod has taken it, and none will."""
        deadline = time.monotonic() + self._start_s
        if start.renewal.left() <= 0:
            raise StartFailed(ORPHANED)
        if start.launch.warm:
            while (warm := await self._pools.free(start.launch, start.settings, self._standby.uids())) is not None:
                # The way in is open, or opened while it is found out whether we may go.
                way = self._standby.take(warm) or LaunchTransfer(self._cluster, warm["metadata"]["name"])
                async with aclosing(way) as delivery:
                    pod_object = await start.unless_stopped(self._taken(start, warm))
                    if pod_object is not None:
                        return await self._delivered(start, pod_object, deadline, delivery)
        with self._events.awaited(start.wanted["metadata"]["name"]):
            pod_object = await start.unless_stopped(self._made(start, deadline))
            start.handle.take(pod_object)
            self._informer.put(pod_object)
            self._addresses.begin(pod_object)
            await start.unless_stopped(self._check_wanted(start))
            return await self._delivered(start, pod_object, deadline)

    async def _delivered(
        self, start: Start, pod_object: Pod, deadline: float, delivery: LaunchTransfer | None = None
    ) -> tuple[str, bool]:
        name, mark = pod_object["metadata"]["name"], pod_object["metadata"]["annotations"][pod.MARK]
        delays = Delays(start.handle, self._start_s)
        unauthorized_since: float | None = None
        for tries in count():
            if delivery is None:
                await start.unless_stopped(self._until_started(start.handle, deadline, tries, delays))
            if _has_run(self._informer.status(name)):
                return mark, False
            async with aclosing(delivery or LaunchTransfer(self._cluster, name)) as way:
                try:
                    arrived = _transfer_outcome(start.handle, *await self._answer(start, name, way))
                    if arrived:
                        start.handle.unhear = way.keep()
                    return mark, arrived
                except (Refused, Unreachable) as err:
                    if way.sent:
                        log.warning("the launch of %s got no answer: %s", name, err)
                        return mark, False
                    self._events.forget(name)
                    if isinstance(err, Refused) and err.status == 401:
                        unauthorized_since = unauthorized_since or time.monotonic()
                        if time.monotonic() - unauthorized_since >= _REFUSED_S:
                            raise without_room(command_refusal(err)) from err
                    elif isinstance(err, Refused) and err.status == 403:
                        raise without_room(command_refusal(err)) from err
                    runs = is_agent_running(self._informer.status(name))
                    for_good = runs and isinstance(err, Refused) and not err.temporary and err.status != 404
                    if for_good or time.monotonic() >= deadline:
                        raise _transfer_failed(f"nothing can be run in the pod: {err}") from err
            delivery = None
        raise AssertionError("not reached")

    async def _answer(self, start: Start, name: str, way: LaunchTransfer) -> tuple[int, bytes]:
        """Return the exit code and output of the command that takes the launch. Raises Unreachable also if its pod has ended
        and the answer does not come: a command whose container is gone may hang until its timeout."""
        going = asyncio.ensure_future(way.go(start.parcel, start.handle.hear, within=_ANSWER_S + start.settings.gate_s))
        try:
            while not going.done() and exit_status.of_status(self._informer.status(name)) is None:
                movement = asyncio.ensure_future(self._informer.moved(name).wait())
                await asyncio.wait({going, movement}, return_when=asyncio.FIRST_COMPLETED)
                movement.cancel()
            if not going.done():
                await asyncio.wait({going}, timeout=_ENDED_ANSWER_S)
            if not going.done():
                raise Unreachable("the pod has ended")
            return going.result()
        finally:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)

    async def _taken(self, start: Start, warm: Pod) -> Pod | None:
        pod_object = await self._pools.take(warm, start.launch)
        if pod_object is not None:
            start.handle.take(pod_object)
            start.handle.how = "warm"
            await self._check_wanted(start)
        return pod_object

    async def _check_wanted(self, start: Start) -> None:
        """Raise StartFailed if another worker has given the attempt up. The pod must be claimed before that is checked (see
        `given_up`)."""
        last: Refused | Unreachable | None = None
        async for _ in retry_until(time.monotonic() + _REFUSED_S):
            try:
                if not await self._given_up.has(start.launch.run_id, start.launch.attempt):
                    return
                break
            except (Refused, Unreachable) as err:
                last = err
        else:
            if last is not None and (delay := refusal(last, self._start_s)) is not None:
                raise without_room(delay) from last
        raise StartFailed(_LOST)

    async def _made(self, start: Start, deadline: float) -> Pod:
        """Return the pod, which may have been made already by a request that got no answer."""
        is_name_taken = False  # there may be a pod of this name
        deadline = min(deadline, time.monotonic() + _REFUSED_S)
        last: Refused | Unreachable
        async for _ in retry_until(deadline):
            try:
                pod_object = await self._cluster.pod(start.wanted["metadata"]["name"]) if is_name_taken else None
                if pod_object is not None:
                    return _own_pod(pod_object, start.settings)
                await self._policies.ensure(pod.policy(start.launch.environment, start.settings))
                return await self._cluster.create(start.wanted)
            except Refused as err:
                is_name_taken = err.status == 409
                delay = refusal(err, self._start_s)
                if delay is None:
                    raise StartFailed(Exit(reason="pod_refused", message=f"the cluster refused the pod: {err}")) from err
                if not is_name_taken and not err.temporary:
                    raise without_room(delay) from err
                if err.wait:
                    await asyncio.sleep(min(err.wait, max(0.0, deadline - time.monotonic())))
                last = err
            except Unreachable as err:
                is_name_taken, last = True, err
        raise without_room(refusal(last, self._start_s) or Delay(reason="cluster", message=str(last)))

    async def _until_started(self, handle: PodHandle, deadline: float, tries: int, delays: Delays) -> None:
        """Wait until the container runs or has run its agent; after tries in vain, a pause longer. Raises StartFailed if it
        will not run."""
        began_at, name = time.monotonic(), handle.name
        next_try = began_at + min(_TRY_S * tries, _MAX_PAUSE_S)
        while True:
            movement = self._informer.moved(name)
            pod_object = self._informer.pods.get(name) or await self._known(name)
            if pod_object["metadata"].get("uid") == handle.uid:
                handle.take(pod_object)
            status = pod_object.get("status", {})
            if _has_run(status):
                return
            end = exit_status.of_start(status) or exit_status.of_status(status)
            if end is not None:
                raise StartFailed(end)
            now, runs = time.monotonic(), self._events.has(name) or is_agent_running(status)
            no_room = None if runs else delays.no_room(status) if now >= deadline else delays.look(status)
            if no_room is not None:
                raise without_room(no_room)
            if not runs and now >= deadline:
                reason, message = exit_status.slow(status)
                raise StartFailed(Exit(reason=reason, message=message, temporary=reason != "image"))
            at = next_try if runs else deadline
            if now >= at:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(at - now, 2.0)):
                    await movement.wait()

    async def _known(self, name: str) -> Pod:
        """Return a pod that the watch does not know: it is new, or gone."""
        pod_object = None
        with contextlib.suppress(Refused, Unreachable):
            pod_object = await self._cluster.pod(name)
            if pod_object is None:
                raise StartFailed(exit_status.DELETED)
            self._informer.put(pod_object)
        return pod_object or {"metadata": {"name": name}, "spec": {}}


def _transfer_outcome(handle: PodHandle, code: int, output: bytes) -> bool:
    """Return whether the launch that was sent has arrived; False if its pod may have it by another request. Raises
    StartFailed."""
    if code == launch_script.TAKEN:
        return False  # by an earlier request that got no answer
    if code == launch_script.NEVER:
        raise _transfer_failed("the pod was given up before its launch came")
    if code > _KILLED:
        return False  # what a short agent leaves behind when it ends is killed, and the end of our command may be among that
    if code != 0:
        raise _transfer_failed(f"the launch did not arrive: {output.decode('utf-8', 'replace')[:200]}")
    handle.begin()
    return True


def _own_pod(pod_object: Pod, settings: PodSettings) -> Pod:
    labels = pod_object["metadata"].get("labels", {})
    name = pod_object["metadata"]["name"]
    if labels.get(pod.INSTALL) != settings.install:
        raise StartFailed(Exit(reason="foreign_pod", message=f"a pod of another installation has the name {name}"))
    if labels.get(pod.ROLE) != pod.ATTEMPT_ROLE:
        raise StartFailed(_LOST)  # a worker of an older version has taken the name of an attempt that it gave up
    return pod_object


def _has_run(status: Mapping[str, object]) -> bool:
    """Return whether the supervisor has said how an agent ended: an earlier request has brought the launch, and the log has the
    output."""
    exit_ = exit_status.of_status(status)
    return exit_ is not None and bool(exit_.sizes)
