"""The NetworkPolicies of an installation: created before the first pod that needs one, deleted a good while after the last."""

import contextlib
import time
from datetime import datetime, timedelta

from optio.executors.pods import manifest as pod
from optio.executors.pods import network
from optio.executors.pods.api_client import Refused
from optio.executors.pods.cluster import Cluster

# Somebody may have taken it away: it is made again, if need be, after this time.
_SURE_S = 60.0
# Whoever has just made one makes its pod within this time.
_UNUSED = timedelta(hours=1)


class NetworkPolicies:
    """The policies in the cluster. Those with equal names have equal rules, so a policy that one worker makes serves all."""

    def __init__(self, cluster: Cluster, install: str) -> None:
        self._cluster, self._install = cluster, install
        self._made_at: dict[str, float] = {}

    async def ensure(self, policy: pod.Manifest | None) -> None:
        """Create the policy unless it exists. Raises Refused and Unreachable."""
        if policy is None:
            return
        name = policy["metadata"]["name"]
        if time.monotonic() - self._made_at.get(name, -_SURE_S) < _SURE_S:
            return
        try:
            await self._cluster.create_policy(policy)
        except Refused as err:
            if err.status != 409:
                raise
        self._made_at[name] = time.monotonic()

    async def sweep(self, now: datetime) -> None:
        """Delete old policies that no pod uses. A pod that comes to need one at this very moment has a gate that stays closed,
        and its run gets another attempt."""
        labels = {pod.INSTALL: self._install}
        for policy_object in await self._cluster.policies(labels):
            meta = policy_object["metadata"]
            old = now - datetime.fromisoformat(meta["creationTimestamp"]) > _UNUSED
            digest = meta["labels"].get(network.EGRESS, "")
            if old and not await self._cluster.has_pod({**labels, network.EGRESS: digest}):
                self._made_at.pop(meta["name"], None)
                with contextlib.suppress(Refused):
                    await self._cluster.delete_policy(meta["name"])
