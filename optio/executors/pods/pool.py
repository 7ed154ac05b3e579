"""Warm pods: kept ready by one keeper of an installation, and taken by any worker that has a launch for one.

The keeper alone watches them start, and labels each one that is ready. All workers watch for that label, with metadata only:
two small messages for each warm pod, when it is ready and when it is taken.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from optio.errors import LaunchFailed
from optio.executors.base import Launch, WarmDemand
from optio.executors.pods import exit_status
from optio.executors.pods import manifest as pod
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.informer import Informer, Pod, container, retry_until
from optio.executors.pods.leader import Leader
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.network_policies import NetworkPolicies
from optio.model.pool import Pool
from optio.model.task import Environment

log = logging.getLogger(__name__)
_TICK_S = 2.0
# A pod that was just taken has its launch before its successor is made: on a small node the two are in each other's way.
_BREATH_S = 0.25
# A pod older than this share of its life is not taken any more.
_TAKEN_UNTIL = 0.9
_SWEEP_S = 300.0
_OFFER_S = 0.5
# After a pod of a kind could not be made, the next one is tried after so many seconds, twice as many each time.
_PAUSE_S, _MAX_PAUSE_S = 5.0, 300.0
_AT_ONCE = 10
# How long it is looked for whether a pod was claimed by a request that got no answer, such as one of an API server that ended.
_CLAIM_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PoolKind:
    """A pool of interchangeable pods: its size, and the tasks that it serves."""

    key: str
    environment: Environment
    settings: PodSettings
    size: int
    tasks: tuple[str, ...]


@dataclass(slots=True)
class Decision:
    """The pods to create and to delete so that the pools have their sizes."""

    create: dict[str, int] = field(default_factory=dict)
    delete: list[Pod] = field(default_factory=list)


def kinds_of(demands: Sequence[tuple[WarmDemand, PodSettings]]) -> dict[str, PoolKind]:
    """Return the demanded pools by key. Tasks that cannot have a pod at all are left out: their runs report the reason."""
    kinds: dict[str, PoolKind] = {}
    for demand, settings in demands:
        with contextlib.suppress(LaunchFailed):
            key = pod.pool_key(demand.environment, settings)
            kind = kinds.get(key, PoolKind(key, demand.environment, settings, 0, ()))
            kinds[key] = replace(kind, size=kind.size + demand.size, tasks=(*kind.tasks, demand.task_id))
    return kinds


def decide(kinds: Mapping[str, PoolKind], pods: Sequence[Pod], now: datetime, oldest: timedelta, max_pods: int) -> Decision:
    """Decide what to create and delete. Pure. An old pod is replaced before it ends, unless it is already too old to be
    taken."""
    decision = Decision()
    room = max_pods
    for kind in kinds.values():
        pods_of_kind = [pod_object for pod_object in pods if _pool_of(pod_object) == kind.key]
        usable = [pod_object for pod_object in pods_of_kind if not _over(pod_object)]
        young = [pod_object for pod_object in usable if now - created_at(pod_object) < oldest]
        old = [pod_object for pod_object in usable if now - created_at(pod_object) >= oldest]
        size = min(kind.size, room)
        room -= size
        if len(young) < size:
            decision.create[kind.key] = size - len(young)
        young.sort(key=lambda pod_object: (is_ready(pod_object), created_at(pod_object)))
        decision.delete += young[: max(0, len(young) - size)]
        ready = sum(map(is_ready, young))
        worn = [pod_object for pod_object in old if now - created_at(pod_object) >= oldest * 1.2]
        decision.delete += old if ready >= size else worn
        decision.delete += [pod_object for pod_object in pods_of_kind if _over(pod_object)]
    decision.delete += [pod_object for pod_object in pods if _pool_of(pod_object) not in kinds]
    return decision


def created_at(pod_object: Pod) -> datetime:
    """Return when the cluster created the pod."""
    return datetime.fromisoformat(pod_object["metadata"]["creationTimestamp"])


def is_ready(pod_object: Pod) -> bool:
    """Return whether the pod would take a launch at once."""
    agent = container(pod_object.get("status", {}), pod.CONTAINER)
    return bool(agent.get("ready")) and "deletionTimestamp" not in pod_object["metadata"]


def _over(pod_object: Pod) -> bool:
    status = pod_object.get("status", {})
    return exit_status.of_status(status) is not None or exit_status.of_start(status) is not None


def _pool_of(pod_object: Pod) -> str:
    key: str = pod_object["metadata"]["labels"].get(pod.POOL, "")
    return key


class Pools:
    """The warm pools of an installation. Every worker uses `free` and `take`; `keep` and `offer` act in one worker at a time.
    `informer` knows the pods that this worker, `me`, follows."""

    def __init__(self, cluster: Cluster, informer: Informer, policies: NetworkPolicies, settings: PodSettings, me: str) -> None:
        self._cluster, self._informer, self._policies, self._settings = cluster, informer, policies, settings
        self._me = me
        self._swept, self._looked_at = time.monotonic(), -_SWEEP_S
        warm = {**pod.selector(settings), pod.ROLE: pod.WARM_ROLE}
        self._ready = Informer(cluster, {**warm, pod.READY: None}, meta=True)
        self._warm = Informer(cluster, warm)  # the keeper's
        self._leader = Leader(cluster, pod.lease_name(settings.install))
        self._chosen_uids: set[str] = set()
        self._demanded: dict[str, PoolKind] = {}
        self._knows_demand = False  # a worker that does not know the demand yet keeps nothing, and deletes nothing
        self._trouble: dict[str, _KindBackoff] = {}
        self._nudge = asyncio.Event()

    def want(self, demands: Sequence[tuple[WarmDemand, PodSettings]]) -> None:
        """Set the demanded pools, for `Executor.keep_warm`. The settings have the addresses that pods of a demand reach."""
        self._knows_demand = True
        if demands:
            self._ready.begin()
        kinds = kinds_of(demands)
        if kinds != self._demanded:
            self._demanded = kinds
            self._nudge.set()

    def state(self) -> list[Pool] | None:
        """Return the pools, for `Executor.pools`; None if another worker keeps them."""
        if not self._leader.leads:
            return None
        return [self._pool(kind) for kind in self._demanded.values()]

    def _pool(self, kind: PoolKind) -> Pool:
        warm = self._warm.pods.values()
        pods_of_kind = [pod_object for pod_object in warm if _pool_of(pod_object) == kind.key and not _over(pod_object)]
        ready = sum(is_ready(pod_object) and pod.READY in pod_object["metadata"]["labels"] for pod_object in pods_of_kind)
        trouble = self._trouble.get(kind.key)
        hindrances = (exit_status.held_up(pod_object.get("status", {})) for pod_object in pods_of_kind)
        waits = next((hindrance[1] for hindrance in hindrances if hindrance is not None), "")
        return Pool(
            key=kind.key,
            tasks=kind.tasks,
            size=kind.size,
            ready=ready,
            starting=len(pods_of_kind) - ready,
            problem=trouble.message if trouble is not None else waits,
        )

    # Taking one

    @property
    def offered(self) -> asyncio.Event:
        """Return an event that is set whenever the `ready` pods change."""
        return self._ready.changed

    def ready(self) -> list[Pod]:
        """Return the metadata of the ready pods that no worker has taken, as far as is known."""
        return [
            pod_object
            for pod_object in self._ready.pods.values()
            if "deletionTimestamp" not in pod_object["metadata"] and pod_object["metadata"]["uid"] not in self._chosen_uids
        ]

    async def free(self, launch: Launch, settings: PodSettings, preferred: Set[str]) -> Pod | None:
        """Return the metadata of a ready pod that this launch may `take`, preferably one with these UIDs, or None."""
        if launch.environment is None:
            return None
        self._ready.begin()
        await self._ready.known(_TICK_S)
        key = pod.pool_key(launch.environment, settings)
        limit = timedelta(seconds=settings.idle_s * _TAKEN_UNTIL)
        free = [
            pod_object
            for pod_object in self.ready()
            if _pool_of(pod_object) == key and self._cluster.now() - created_at(pod_object) < limit
        ]
        if not free:
            return None
        # Any of them: so two workers seldom want the same.
        warm = random.choice([pod_object for pod_object in free if pod_object["metadata"]["uid"] in preferred] or free)  # noqa: S311
        self._chosen_uids.add(warm["metadata"]["uid"])
        asyncio.get_running_loop().call_later(60.0, self._chosen_uids.discard, warm["metadata"]["uid"])
        return warm

    async def take(self, warm: Pod, launch: Launch) -> Pod | None:
        """Claim a pod for the attempt and return it; None if another worker was sooner, or the pod has ended meanwhile."""
        claimed_pod = await self._patched(warm, launch)
        if claimed_pod is None:
            return None
        if not is_ready(claimed_pod):  # which its metadata does not tell
            await self._dropped(claimed_pod)
            return None
        self._informer.put(claimed_pod)
        return claimed_pod

    async def _patched(self, warm: Pod, launch: Launch) -> Pod | None:
        """Return the pod with the attempt's name on it, or None if another worker was sooner."""
        name = warm["metadata"]["name"]
        age = self._cluster.now() - created_at(warm)
        claim = pod.claimed(warm, launch, age.total_seconds(), self._me)
        try:
            return await self._cluster.patch(name, claim)
        except Refused as err:
            if not err.temporary:
                return None
        except Unreachable:
            pass
        async for _ in retry_until(time.monotonic() + _CLAIM_TIMEOUT_S):
            with contextlib.suppress(Refused, Unreachable):
                pod_object = await self._cluster.pod(name)
                labels = {} if pod_object is None else pod_object["metadata"]["labels"]
                own_labels = {label: value for label, value in claim["metadata"]["labels"].items() if value is not None}
                return pod_object if labels.items() >= own_labels.items() else None
        return None

    # Keeping them

    async def keep(self) -> None:
        """Keep the pools at their sizes, for ever, while no other worker does."""
        while True:
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await self._nudge.wait()
                        await asyncio.sleep(_BREATH_S)
                self._nudge.clear()
                if self._knows_demand and await self._has_work():
                    if await self._leader.hold():
                        self._warm.begin()
                        await self._settle()
                    else:
                        await self._warm.end()
            except (Refused, Unreachable) as err:
                log.info("the pools cannot be kept now: %s", err)
                await asyncio.sleep(_TICK_S)
            except Exception:
                log.exception("the pools could not be kept this time")
                await asyncio.sleep(_TICK_S)

    async def offer(self) -> None:
        """Label each pod that has become ready, for ever. Separate from `keep`, which may be busy making pods."""
        change = self._warm.changed
        while True:
            await change.wait()
            change.clear()
            self._nudge.set()
            try:
                warm = self._warm.pods.values()
                new = [
                    pod_object
                    for pod_object in warm
                    if is_ready(pod_object) and pod.READY not in pod_object["metadata"]["labels"]
                ]
                await asyncio.gather(*map(self._offered, new))
            except (Refused, Unreachable) as err:
                log.info("pods that are ready are offered later: %s", err)
                await asyncio.sleep(_OFFER_S)
                change.set()
            except Exception:
                log.exception("pods that are ready could not be offered this time")
                await asyncio.sleep(_OFFER_S)
                change.set()

    async def _offered(self, pod_object: Pod) -> None:
        try:
            offered = await self._cluster.patch(pod_object["metadata"]["name"], pod.offered(pod_object))
            self._warm.put(offered)
            self._ready.put(offered)
        except Refused as err:
            if err.status not in (404, 409):  # it is gone or has changed, which the watch reports too
                raise

    async def stop(self) -> None:
        """Stop watching, and leave the pools to another keeper."""
        await self._ready.end()
        await self._warm.end()
        with contextlib.suppress(Refused, Unreachable):
            await self._leader.release()

    async def _has_work(self) -> bool:
        """Return whether there is anything to keep: pools, policies, or warm pods that no task asks for any more."""
        if self._demanded or self._warm.pods or self._is_time():
            return True
        if time.monotonic() - self._looked_at < _SWEEP_S:
            return False
        has_pods = await self._cluster.has_pod({**pod.selector(self._settings), pod.ROLE: pod.WARM_ROLE})
        self._looked_at = -_SWEEP_S if has_pods else time.monotonic()
        return has_pods

    def _is_time(self) -> bool:
        return self._settings.fence is not None and time.monotonic() - self._swept > _SWEEP_S

    async def _settle(self) -> None:
        if self._is_time():
            self._swept = time.monotonic()
            await self._policies.sweep(self._cluster.now())
        if not await self._warm.known(_TICK_S):
            return
        decision = decide(
            self._demanded,
            list(self._warm.pods.values()),
            self._cluster.now(),
            timedelta(seconds=self._settings.warm_age_s),
            self._settings.warm_most,
        )
        for pod_object in decision.delete:
            self._note(pod_object)
            await self._dropped(pod_object)
        good = {_pool_of(pod_object) for pod_object in self._warm.pods.values() if is_ready(pod_object)}
        for key in list(self._trouble):
            if key in good or key not in self._demanded:
                del self._trouble[key]
        for key, count in decision.create.items():
            trouble = self._trouble.get(key)
            if trouble is None or trouble.over():
                await asyncio.gather(*(self._add(key) for _ in range(min(count, _AT_ONCE))))

    async def _add(self, key: str) -> None:
        kind = self._demanded.get(key)
        if kind is None:
            return
        warm = pod.warm_pod(kind.environment, kind.settings, secrets.token_hex(6), secrets.token_hex(8))
        try:
            await self._policies.ensure(pod.policy(kind.environment, kind.settings))
            self._warm.put(await self._cluster.create(warm))
        except Refused as err:
            self._back_off(key, f"the cluster refused a pod or its network policy: {err}")

    def _note(self, pod_object: Pod) -> None:
        """Record why a pod that is removed was of no use."""
        status = pod_object.get("status", {})
        hopeless, exit_ = exit_status.of_start(status), exit_status.of_status(status)
        if hopeless is not None:
            self._back_off(_pool_of(pod_object), hopeless.message)
        elif exit_ is not None and exit_.code not in (0, 143, None):
            self._back_off(_pool_of(pod_object), exit_.message or f"a pod ended with exit code {exit_.code}")

    def _back_off(self, key: str, problem: str) -> None:
        self._trouble.setdefault(key, _KindBackoff()).again(problem)

    async def _dropped(self, pod_object: Pod) -> None:
        """Delete a pod in the version that is known here, so that one that was taken meanwhile stays."""
        meta: Mapping[str, Any] = pod_object["metadata"]
        with contextlib.suppress(Refused):
            await self._cluster.delete(meta["name"], meta["uid"], 0, version=meta["resourceVersion"])


class _KindBackoff:
    """The last failure of a kind of pods, and when the next one may be made."""

    def __init__(self) -> None:
        self.message = ""
        self._pause = _PAUSE_S
        self._until = 0.0

    def again(self, message: str) -> None:
        self.message = message
        self._until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _MAX_PAUSE_S)

    def over(self) -> bool:
        return time.monotonic() >= self._until
