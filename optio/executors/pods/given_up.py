"""Marks of attempts that were given up before they began, in one Lease of the installation, so that no worker starts them late.

Used by whoever finds an attempt without a launch, and by whoever starts one. The race that a mark decides: worker A has been
away for longer than its lease, and worker B finds its run. No pod has the launch. B marks the attempt, then looks for pods once
more. When A is back, it makes or claims its pod, then reads the marks. Each writes before it reads, so one of them sees the
other; if both do, the pod decides who was first (`launch_script.LOOK`).

A mark is not a pod, because a namespace whose quota is full takes none. It need not last: a worker launches nothing once its
lease was not renewed for `OPTIO_ORPHAN_TIMEOUT`.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from optio.executors.pods import manifest
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.informer import retry_until

_MARKS = "optio.dev/given-up"
# A launch that was sent in time may arrive so much later.
_MARGIN_S = 600.0
_MARK_TIMEOUT_S = 20.0


class GivenUp:
    """The marks of an installation. They expire after `orphan_s` and a margin, because no worker launches anything without a
    renewal by then."""

    def __init__(self, cluster: Cluster, install: str, orphan_s: float) -> None:
        self._cluster, self._name = cluster, manifest.given_up_name(install)
        self._lasts = timedelta(seconds=orphan_s + _MARGIN_S)
        self._marking = asyncio.Lock()

    async def has(self, run_id: str, attempt: int) -> bool:
        """Return whether the attempt is marked. Raises Refused and Unreachable."""
        lease = await self._cluster.lease(self._name)
        return lease is not None and _key(run_id, attempt) in _marks(lease)

    async def mark(self, run_id: str, attempt: int) -> None:
        """Mark the attempt, and drop marks that have had their time. Raises Refused and Unreachable."""
        async with self._marking:
            async for _ in retry_until(time.monotonic() + _MARK_TIMEOUT_S):
                lease = await self._cluster.lease(self._name)
                try:
                    if lease is None:
                        await self._cluster.create_lease(self._marked({"name": self._name}, run_id, attempt))
                    else:
                        await self._cluster.replace_lease(self._marked(lease["metadata"], run_id, attempt, _marks(lease)))
                    return
                except Refused as err:
                    if err.status != 409:  # somebody else has marked another one meanwhile
                        raise
        raise Unreachable(f"the Lease {self._name} changes too often")

    def _marked(
        self, meta: Mapping[str, Any], run_id: str, attempt: int, marks: Mapping[str, int] | None = None
    ) -> dict[str, Any]:
        now = self._cluster.now()
        valid_marks = {key: until for key, until in (marks or {}).items() if until > now.timestamp()}
        valid_marks[_key(run_id, attempt)] = int((now + self._lasts).timestamp())
        annotations = {**meta.get("annotations", {}), _MARKS: json.dumps(valid_marks, separators=(",", ":"))}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {**meta, "annotations": annotations}}


def _key(run_id: str, attempt: int) -> str:
    return f"{run_id}-{attempt}"


def _marks(lease: Mapping[str, Any]) -> dict[str, int]:
    """Return for each marked attempt when its mark expires, in seconds of the cluster's time."""
    marks: dict[str, int] = json.loads(lease["metadata"].get("annotations", {}).get(_MARKS, "{}"))
    return marks
