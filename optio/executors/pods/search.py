"""The search for the pod of an attempt that another worker may have started, so that it can be adopted."""

import logging
import time
from datetime import datetime, timedelta

from optio.executors.pods import exit_status
from optio.executors.pods import manifest as pod
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.given_up import GivenUp
from optio.executors.pods.informer import Pod, is_agent_running, retry_until
from optio.executors.pods.launch_script import LAUNCHED, LOOK, NEVER
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.removal import PodRemoval

log = logging.getLogger(__name__)
# How long it is waited for a pod that neither answers nor goes away.
FIND_S = 90.0
_STARTS_S = 15.0


class PodSearch:
    """One search for the pod that has the launch of an attempt."""

    def __init__(
        self, run_id: str, attempt: int, cluster: Cluster, removal: PodRemoval, given_up: GivenUp, settings: PodSettings
    ) -> None:
        self._run_id, self._attempt = run_id, attempt
        self._cluster, self._removal, self._given_up = cluster, removal, given_up
        self._name = pod.name_of(settings.install, run_id, attempt)
        self._is_given_up = False
        self._refused_since: float | None = None

    async def adopt(self, worker: str) -> Pod | None:
        """Return the pod that was launched, as that of this worker. A pod without a launch is removed. Return None if there is
        none, and the attempt is then given up, so that no worker starts it late. Raises Unreachable."""
        problem: Exception | None = None
        async for _ in retry_until(time.monotonic() + FIND_S):
            try:
                candidates = await self._candidates()
                if not candidates and not self._is_given_up:
                    await self._given_up.mark(self._run_id, self._attempt)
                    self._is_given_up, candidates = True, await self._candidates()
                if not candidates:
                    return None
                for candidate in candidates:
                    if await self._is_launched(candidate):
                        return await self._cluster.patch(candidate["metadata"]["name"], pod.adopted(candidate, worker))
            except (Refused, Unreachable) as err:
                log.info("whether %s-%d was launched cannot be seen yet: %s", self._run_id, self._attempt, err)
                # While the API server is away, a node cannot tell it what runs: it has the time anew.
                problem, self._refused_since = err, None
        reason = problem or "it is still there"
        raise Unreachable(f"the pod of {self._run_id}-{self._attempt} does not go away: {reason}")

    async def _is_launched(self, candidate: Pod) -> bool:
        """Return whether the pod has the launch and lives. One that can have none, or is dead, is deleted."""
        meta = candidate["metadata"]
        if "deletionTimestamp" in meta:
            if not self._may_live(candidate):
                await self._cluster.delete(meta["name"], meta["uid"], 0)
            return False
        launched = await self._was_launched(candidate)
        if launched is None:
            self._refused_since = self._refused_since or time.monotonic()
            if is_agent_running(candidate.get("status", {})) or time.monotonic() - self._refused_since <= _STARTS_S:
                return False
            # What does not come to run takes no launch, and will be gone.
        if not launched:
            await self._cluster.delete(meta["name"], meta["uid"], 0)
        return bool(launched)

    async def _candidates(self) -> list[Pod]:
        """Return the pods that may have this launch: the one made for it, or those claimed for it."""
        item = await self._cluster.pod(self._name)
        if item is not None and self._removal.is_attempt(item["metadata"].get("labels", {})):
            return [item]
        items = await self._removal.pods_of(self._run_id, self._attempt)
        return [item for item in items if self._removal.is_attempt(item["metadata"]["labels"])]

    def _may_live(self, candidate: Pod) -> bool:
        """Return whether an agent may still run in a pod that is being deleted: its node may only be unreachable. Such a pod is
        waited for until the agent would have ended itself as an orphan."""
        meta = candidate["metadata"]
        if not any("running" in (state.get("state") or {}) for state in candidate["status"].get("containerStatuses") or ()):
            return False
        deletion = datetime.fromisoformat(meta["deletionTimestamp"])
        orphan = timedelta(seconds=float(meta.get("annotations", {}).get(pod.ORPHAN, 0)))
        return self._cluster.now() < deletion + orphan

    async def _was_launched(self, candidate: Pod) -> bool | None:
        """Return whether the pod has its launch, or None if it cannot be asked now because its container does not seem to run.
        A launch comes as soon as the container answers, before the pod's status says so: the pod itself is asked, unless it can
        have no container yet. Raises Unreachable."""
        status = candidate.get("status", {})
        if exit_status.of_status(status) is not None:
            return True
        if "nodeName" not in candidate.get("spec", {}) or exit_status.of_start(status) is not None:
            return False
        name = candidate["metadata"]["name"]
        try:
            code, output = await self._cluster.run(name, pod.CONTAINER, ["/bin/sh", "-c", LOOK])
        except Refused as err:
            log.info("whether %s was launched cannot be seen yet: %s", name, err)
            return None
        if code not in (LAUNCHED, NEVER):
            log.info("%s does not tell whether it was launched: exit code %d: %s", name, code, output[:100])
            return None
        return code == LAUNCHED
