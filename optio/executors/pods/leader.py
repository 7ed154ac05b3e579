"""Leader election by a Lease of the cluster (coordination.k8s.io), held like the cluster's own components hold theirs."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from optio.executors.pods.api_client import Refused
from optio.executors.pods.cluster import Cluster

log = logging.getLogger(__name__)
LEASE_S = 15
_RENEW_S = 4.0
# Seconds between two checks whether the holder is gone.
_POLL_S = 4.0


class Leader:
    """A contender for one Lease. `leads` is true while this process surely holds it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self._me = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._lease: Mapping[str, Any] | None = None
        self._renewed = 0.0
        # Another's lease, and since when it has not changed by our own clock: clocks of machines are not compared.
        self._last_version: tuple[str, float] = ("", 0.0)
        self._look_at = 0.0

    @property
    def leads(self) -> bool:
        """Return whether no other process can hold the Lease now."""
        return self._lease is not None and time.monotonic() - self._renewed < LEASE_S * 0.6

    async def hold(self) -> bool:
        """Take or renew the Lease if possible, asking the cluster only when it is time to. Return `leads`."""
        if self.leads and time.monotonic() - self._renewed < _RENEW_S:
            return True
        asked_at = time.monotonic()
        if asked_at < self._look_at:
            return False
        try:
            lease = await self._cluster.lease(self._name)
            if lease is None:
                stored_lease = await self._cluster.create_lease(self._named(None))
            elif self._may_have(lease):
                stored_lease = await self._cluster.replace_lease(self._named(lease))
            else:
                self._lease, self._look_at = None, asked_at + _POLL_S
                return False
        except Refused as err:
            if err.status != 409:
                raise
            self._lease = None  # another process was sooner
            return False
        if self._lease is None:
            log.info("this worker keeps the pools now", extra={"event": "pools_kept"})
        self._lease, self._renewed = stored_lease, asked_at
        return True

    async def release(self) -> None:
        """Release the Lease, so that another process can take it at once."""
        if self._lease is not None:
            free = {**self._lease, "spec": {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}}
            self._lease = None
            await self._cluster.replace_lease(free)

    def _may_have(self, lease: Mapping[str, Any]) -> bool:
        spec = lease["spec"]
        if spec.get("holderIdentity") in (self._me, "", None):
            return True
        version = lease["metadata"]["resourceVersion"]
        if self._last_version[0] != version:
            self._last_version = (version, time.monotonic())
        lasts: int = spec.get("leaseDurationSeconds", LEASE_S)
        return time.monotonic() - self._last_version[1] > lasts

    def _named(self, lease: Mapping[str, Any] | None) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._me, "leaseDurationSeconds": LEASE_S, "renewTime": now}
        if lease is not None and lease["spec"].get("holderIdentity") == self._me:
            spec = {**lease["spec"], "renewTime": now}
        else:
            spec["acquireTime"] = now
        meta = {"name": self._name} if lease is None else lease["metadata"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
