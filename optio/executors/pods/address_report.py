"""Early reports of the addresses of fenced pods: a network policy is applied once the pod's address stands in its status.

A node reports that address up to a second after it has made the pod. A worker reads it in the container of the gate as soon as
that runs, and writes it into the pod's status. The gate alone still decides when an agent may begin, and whatever fails here
only makes a start as slow as it is without. Used by `Starter`, for pods that are made for an attempt.

Every ten seconds a node compares the statuses that it has sent with those of the cluster, and restores its own. A status from
before it knew the address would take the address away for up to a second, and with it the policy, under an agent that runs. So
an address is reported only while the cluster is known to refuse such a change, by an admission policy whose message is `GUARD`.
"""

import asyncio
import ipaddress
import logging
import re
import time
from collections.abc import Iterator, Mapping

from optio.executors.pods import exit_status, network
from optio.executors.pods import manifest as pod
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.informer import Informer, Pod
from optio.executors.pods.start_events import StartEvents

log = logging.getLogger(__name__)
# It stands in the message of the admission policy.
GUARD = "optio: the address of a fenced pod stays in its status"
# Once the verdict is there the address is of no use. A container of a node without IPv6 has the first file only.
COMMAND = ("/bin/sh", "-c", f"[ -e {network.VERDICT} ] || exec cat /proc/net/fib_trie /proc/net/if_inet6 2>/dev/null")
_READ_TIMEOUT_S = 5.0
# The guard is asked for again after this time, and so is a right that is missing.
_GUARD_S, _NO_RIGHT_S = 300.0, 300.0
_POLL_S = 0.5
_MAX_TRIES = 3
_LEAF = re.compile(r"\|-- (\S+)")
_LOOPBACK = "127.0.0.1"
# Scopes of IPv6 addresses in /proc/net/if_inet6 that are of one host or one link.
_LOCAL_SCOPES = ("10", "20")


def address_in(text: str) -> str | None:
    """Return the one address of a pod by `/proc/net/fib_trie` and `/proc/net/if_inet6`, one after the other; None unless there
    is exactly one. With two, such as of both families, only the node knows all that the policy must be applied to."""
    addresses = set(_addresses(text))
    if _LOOPBACK not in addresses:  # the table of IPv4 could not be read
        return None
    addresses = {each for each in addresses if not ipaddress.ip_address(each).is_loopback}
    address = addresses.pop() if len(addresses) == 1 else None
    return address if address is not None and _is_usable(address) else None


def _addresses(text: str) -> Iterator[str]:
    leaf = ""
    for line in text.splitlines():
        if match := _LEAF.search(line):
            leaf = match[1]
        elif line.strip() == "/32 host LOCAL":
            yield str(ipaddress.ip_address(leaf))
        elif len(fields := line.split()) == 6 and len(fields[0]) == 32 and fields[3] not in _LOCAL_SCOPES:
            yield str(ipaddress.ip_address(bytes.fromhex(fields[0])))


def _is_usable(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    mapped = isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None
    return not (parsed.is_unspecified or parsed.is_multicast or parsed.is_link_local or parsed.is_reserved or mapped)


def lacks_address(pod_object: Pod, uid: str) -> bool:
    """Return whether this is the pod with that UID, and the cluster does not know its address, which is a network's of its
    own."""
    status = pod_object.get("status", {})
    return (
        pod_object["metadata"].get("uid") == uid
        and "deletionTimestamp" not in pod_object["metadata"]
        and not status.get("podIP")
        and not status.get("podIPs")
        and not pod_object.get("spec", {}).get("hostNetwork")
        and exit_status.of_status(status) is None
    )


def is_taken(address: str, uid: str, pods: Mapping[str, Pod]) -> bool:
    """Return whether another of these pods, or the node of any of them, has the address. A pod that has ended gives it back."""
    for pod_object in pods.values():
        status = pod_object.get("status", {})
        if status.get("hostIP") == address:
            return True
        if (
            pod_object["metadata"].get("uid") != uid
            and status.get("podIP") == address
            and exit_status.of_status(status) is None
        ):
            return True
    return False


def reported(pod_object: Pod, address: str) -> pod.Manifest:
    """Return the change of exactly this version of the pod's status that adds the address."""
    version = {"uid": pod_object["metadata"]["uid"], "resourceVersion": pod_object["metadata"]["resourceVersion"]}
    return {"metadata": version, "status": {"podIP": address, "podIPs": [{"ip": address}]}}


class AddressReports:
    """The reports of one worker, created in the loop that uses it."""

    def __init__(self, cluster: Cluster, informer: Informer, events: StartEvents) -> None:
        self._cluster, self._informer, self._events = cluster, informer, events
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_guarded, self._asked_at = False, -_GUARD_S
        self._no_right_until = 0.0

    def begin(self, pod_object: Pod) -> None:
        """Report the address of this new pod in the background, if it has a gate. It must be awaited by the `StartEvents`."""
        if network.EGRESS not in pod_object["metadata"].get("labels", {}) or time.monotonic() < self._no_right_until:
            return
        task = asyncio.create_task(self._report(pod_object["metadata"]["name"], pod_object["metadata"]["uid"]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all reports that are under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _report(self, name: str, uid: str) -> None:
        try:
            async with asyncio.timeout(network.GATE_PATIENCE_S):
                if self._is_guarded:
                    await self._events.gate_started(name)
                    await self._reported(name, uid)
                if time.monotonic() - self._asked_at >= _GUARD_S:
                    await self._look_for_guard(name, uid)
        except Refused as err:
            if err.status == 403:
                self._no_right_until = time.monotonic() + _NO_RIGHT_S
                log.warning("fenced pods start up to a second later: a worker needs `patch` of `pods/status`: %s", err)
            else:
                log.info("the address of %s is not reported: %s", name, err)
        except (Unreachable, TimeoutError) as err:
            log.info("the address of %s is not reported: %s", name, err)
        except Exception:
            log.exception("the address of %s could not be reported", name)

    async def _reported(self, name: str, uid: str) -> None:
        pod_object: Pod | None = self._informer.pods.get(name)
        if pod_object is None or not lacks_address(pod_object, uid):
            return
        _, output = await self._cluster.run(name, network.GATE, COMMAND, within=_READ_TIMEOUT_S)
        address = address_in(output.decode("ascii", "replace"))
        for _ in range(_MAX_TRIES):
            pod_object = self._informer.pods.get(name)
            if (
                pod_object is None
                or address is None
                or not lacks_address(pod_object, uid)
                or is_taken(address, uid, self._informer.pods)
            ):
                return
            try:
                self._informer.put(await self._cluster.patch_status(name, reported(pod_object, address)))
                return
            except Refused as err:
                if err.status != 409:
                    raise
            if (pod_object := await self._cluster.pod(name)) is not None:
                self._informer.put(pod_object)

    async def _look_for_guard(self, name: str, uid: str) -> None:
        """Ask whether the cluster would let this pod's address be taken away, once the node has reported it."""
        while not (pod_object := self._informer.pods.get(name, {})).get("status", {}).get("podIP"):
            if not pod_object:
                return
            await asyncio.sleep(_POLL_S)
        if time.monotonic() - self._asked_at < _GUARD_S:  # another has asked meanwhile
            return
        self._asked_at = time.monotonic()
        change = {"metadata": {"uid": uid}, "status": {"podIP": None, "podIPs": None}}
        self._is_guarded = False
        try:
            await self._cluster.patch_status(name, change, dry_run=True)
        except Refused as err:
            self._is_guarded = GUARD in str(err)
            if err.status in (404, 409):  # of this pod
                self._asked_at = -_GUARD_S
            if not self._is_guarded:
                raise
        else:
            log.warning("fenced pods start up to a second later: the cluster has no admission policy `optio-pod-address`")
