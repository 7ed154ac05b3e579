"""Warm pods: kept ready by one keeper of an installation, and taken by whoever has a launch for one."""

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from optio.errors import LaunchFailed
from optio.executors.base import Launch, Warm
from optio.executors.pods import ending
from optio.executors.pods import manifest as pod
from optio.executors.pods.cluster import Cluster, Refused, Unreachable
from optio.executors.pods.informer import Informer, Pod, again, container
from optio.executors.pods.leader import Leader
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.network import EGRESS
from optio.executors.pods.policies import Policies
from optio.model.pool import Pool
from optio.model.task import Environment

log = logging.getLogger(__name__)
_TICK_S = 2.0
# A pod that was just taken has its launch before its successor is made: on a small node the two are in each other's way.
_BREATH_S = 0.25
# A pod that is near to its end by itself is not taken any more.
_TAKEN_UNTIL = 0.9
_SWEEP_S = 300.0
# After a pod of a kind could not be had, the next one is made after this time, twice as long each time.
_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0
_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """Pods that are all alike: so many, for these tasks."""

    key: str
    environment: Environment
    size: int
    tasks: tuple[str, ...]


@dataclass(slots=True)
class Decision:
    """What is to be done so that the pools are as they should be."""

    create: dict[str, int] = field(default_factory=dict)
    delete: list[Pod] = field(default_factory=list)


def kinds_of(wanted: Sequence[Warm], settings: PodSettings) -> dict[str, Kind]:
    """Wanted places by the key of their kind; tasks that cannot have a pod at all are left to say so themselves."""
    kinds: dict[str, Kind] = {}
    for each in wanted:
        with contextlib.suppress(LaunchFailed):
            key = pod.pool_key(each.environment, settings)
            known = kinds.get(key, Kind(key, each.environment, 0, ()))
            kinds[key] = Kind(key, each.environment, known.size + each.size, (*known.tasks, each.task_id))
    return kinds


def decide(kinds: Mapping[str, Kind], pods: Sequence[Pod], now: datetime, oldest: timedelta, most: int) -> Decision:
    """Pure. An old pod is replaced before it goes, unless it is so old that it could not be taken any more."""
    done = Decision()
    room = most
    for kind in kinds.values():
        mine = [each for each in pods if each["metadata"]["labels"].get(pod.POOL) == kind.key]
        usable = [each for each in mine if not _over(each)]
        young = [each for each in usable if now - made_at(each) < oldest]
        old = [each for each in usable if now - made_at(each) >= oldest]
        size = min(kind.size, room)
        room -= size
        if len(young) < size:
            done.create[kind.key] = size - len(young)
        young.sort(key=lambda each: (is_ready(each), made_at(each)))
        done.delete += young[: max(0, len(young) - size)]
        ready = sum(map(is_ready, young))
        worn = [each for each in old if now - made_at(each) >= oldest * 1.2]
        done.delete += old if ready >= size else worn
        done.delete += [each for each in mine if _over(each)]
    done.delete += [each for each in pods if each["metadata"]["labels"].get(pod.POOL) not in kinds]
    return done


def made_at(found: Pod) -> datetime:
    """When the cluster made it."""
    return datetime.fromisoformat(found["metadata"]["creationTimestamp"])


def is_ready(found: Pod) -> bool:
    """Whether a launch would be taken at once."""
    agent = container(found.get("status", {}), pod.CONTAINER)
    return bool(agent.get("ready")) and "deletionTimestamp" not in found["metadata"]


def _over(found: Pod) -> bool:
    return ending.of_status(found.get("status", {})) is not None or ending.of_start(found.get("status", {})) is not None


class Pools:
    """`free` and `take` are for every worker; of `keep` one at a time does something."""

    def __init__(self, cluster: Cluster, informer: Informer, policies: Policies, settings: PodSettings) -> None:
        self._cluster, self._informer, self._policies, self._settings = cluster, informer, policies, settings
        self._swept = time.monotonic()
        self._leader = Leader(cluster, pod.lease_name(settings.install))
        self._chosen: set[str] = set()
        self._wanted: dict[str, Kind] = {}
        self._told = False  # who has not been told what is wanted keeps nothing, and takes nothing away
        self._trouble: dict[str, _Trouble] = {}
        self._nudge = informer.changed

    def want(self, wanted: Sequence[Warm], settings: PodSettings) -> None:
        """See `Executor.keep_warm`."""
        self._told, self._settings = True, settings
        kinds = kinds_of(wanted, settings)
        if kinds != self._wanted:
            self._wanted = kinds
            self._nudge.set()

    def state(self) -> list[Pool] | None:
        """See `Executor.pools`."""
        if not self._leader.leads:
            return None
        return [self._pool(kind) for kind in self._wanted.values()]

    def _pool(self, kind: Kind) -> Pool:
        mine = [each for each in self._warm() if each["metadata"]["labels"].get(pod.POOL) == kind.key and not _over(each)]
        ready = sum(map(is_ready, mine))
        trouble = self._trouble.get(kind.key)
        waits = next((found[1] for each in mine if (found := ending.held_up(each.get("status", {})))), "")
        return Pool(
            key=kind.key,
            tasks=kind.tasks,
            size=kind.size,
            ready=ready,
            starting=len(mine) - ready,
            problem=trouble.message if trouble is not None else waits,
        )

    def _warm(self) -> list[Pod]:
        return [each for each in self._informer.pods.values() if each["metadata"]["labels"].get(pod.ROLE) == pod.WARM_ROLE]

    # Taking one

    async def free(self, launch: Launch, settings: PodSettings) -> Pod | None:
        """A ready pod that this launch may `take`; None when there is none."""
        if launch.environment is None:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TICK_S):
                await self._informer.listed.wait()
        key = pod.pool_key(launch.environment, settings)
        limit = timedelta(seconds=settings.idle_s * _TAKEN_UNTIL)
        free = [
            each
            for each in self._warm()
            if each["metadata"]["labels"].get(pod.POOL) == key
            and is_ready(each)
            and each["metadata"]["uid"] not in self._chosen
            and self._cluster.now() - made_at(each) < limit
        ]
        if not free:
            return None
        # Any of them: so two workers seldom want the same.
        chosen = random.choice(free)  # noqa: S311
        self._chosen.add(chosen["metadata"]["uid"])
        asyncio.get_running_loop().call_later(60.0, self._chosen.discard, chosen["metadata"]["uid"])
        return chosen

    async def take(self, chosen: Pod, launch: Launch) -> Pod | None:
        """The pod as the attempt's own, from now on; None if another was sooner."""
        claimed = await self._patched(chosen, launch)
        if claimed is not None:
            self._informer.put(claimed)
        return claimed

    async def _patched(self, chosen: Pod, launch: Launch) -> Pod | None:
        """The pod with the attempt's name on it, unless another was sooner."""
        name = chosen["metadata"]["name"]
        age = self._cluster.now() - made_at(chosen)
        wanted = pod.claimed(chosen, launch, age.total_seconds())
        with contextlib.suppress(Refused):
            try:
                return await self._cluster.patch(name, wanted)
            except Unreachable:
                pass
            async for _ in again(time.monotonic() + 10):
                with contextlib.suppress(Unreachable):
                    found = await self._cluster.pod(name)
                    labels = {} if found is None else found["metadata"]["labels"]
                    mine = wanted["metadata"]["labels"]
                    return found if labels.items() >= mine.items() else None
        return None

    # Keeping them

    async def keep(self) -> None:
        """Keep the pools at their sizes, for ever, as long as nobody else does."""
        while True:
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await self._nudge.wait()
                        await asyncio.sleep(_BREATH_S)
                self._nudge.clear()
                if self._told and (self._wanted or self._warm() or self._is_time()) and await self._leader.hold():
                    await self._settle()
            except (Refused, Unreachable) as err:
                log.info("the pools are looked after later: %s", err)
                await asyncio.sleep(_TICK_S)
            except Exception:
                log.exception("the pools could not be looked after this time")
                await asyncio.sleep(_TICK_S)

    async def stop(self) -> None:
        """Leave the pools to another keeper."""
        with contextlib.suppress(Refused, Unreachable):
            await self._leader.release()

    def _is_time(self) -> bool:
        return self._settings.fence is not None and time.monotonic() - self._swept > _SWEEP_S

    async def _settle(self) -> None:
        if not self._informer.listed.is_set():
            return
        if self._is_time():
            self._swept = time.monotonic()
            labels = [each["metadata"]["labels"] for each in self._informer.pods.values()]
            await self._policies.sweep((found[EGRESS] for found in labels if EGRESS in found), self._cluster.now())
        done = decide(
            self._wanted,
            self._warm(),
            self._cluster.now(),
            timedelta(seconds=self._settings.warm_age_s),
            self._settings.warm_most,
        )
        for each in done.delete:
            self._note(each)
            await self._dropped(each)
        good = {each["metadata"]["labels"].get(pod.POOL) for each in self._warm() if is_ready(each)}
        for key in list(self._trouble):
            if key in good or key not in self._wanted:
                del self._trouble[key]
        for key, count in done.create.items():
            trouble = self._trouble.get(key)
            if trouble is None or trouble.over():
                await asyncio.gather(*(self._add(key) for _ in range(min(count, _AT_ONCE))))

    async def _add(self, key: str) -> None:
        kind = self._wanted.get(key)
        if kind is None:
            return
        made = pod.warm_pod(kind.environment, self._settings, secrets.token_hex(6), secrets.token_hex(8))
        try:
            await self._policies.ensure(pod.policy(kind.environment, self._settings))
            self._informer.put(await self._cluster.create(made))
        except Refused as err:
            self._trouble.setdefault(key, _Trouble()).again(f"the cluster refused a pod or its network policy: {err}")

    def _note(self, found: Pod) -> None:
        """Why a pod that is taken away was no good."""
        key = found["metadata"]["labels"].get(pod.POOL, "")
        status = found.get("status", {})
        hopeless = ending.of_start(status)
        ended = ending.of_status(status)
        if hopeless is not None:
            self._trouble.setdefault(key, _Trouble()).again(hopeless[1])
        elif ended is not None and ended.code not in (0, 143, None):
            self._trouble.setdefault(key, _Trouble()).again(ended.message or f"a pod ended with exit code {ended.code}")

    async def _dropped(self, found: Pod) -> None:
        """Only as we know it: one that was taken meanwhile stays."""
        meta: Mapping[str, Any] = found["metadata"]
        with contextlib.suppress(Refused):
            await self._cluster.delete(meta["name"], meta["uid"], 0, version=meta["resourceVersion"])


class _Trouble:
    """With a kind of pods: what, and when the next one may be made."""

    def __init__(self) -> None:
        self.message = ""
        self._pause = _PAUSE_S
        self._until = 0.0

    def again(self, message: str) -> None:
        self.message = message
        self._until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)

    def over(self) -> bool:
        return time.monotonic() >= self._until
