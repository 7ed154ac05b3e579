"""The requests to one namespace of a cluster that pods need. All objects here belong to one event loop."""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from optio.executors.pods.api_client import JSON, ApiClient, Refused

# A list comes in parts of so many pods: neither side holds all of a large one as text at once.
_PAGE = 500
# Metadata alone: what the API server leaves out is neither encoded, nor sent, nor read.
_META = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_LEASES = "/apis/coordination.k8s.io/v1"
_NETWORKING = "/apis/networking.k8s.io/v1"
_STARTED = "reason=Started,involvedObject.kind=Pod"
_CONTAINER = re.compile(r"spec\.containers\{(.+)\}")
# None: the label is there, whatever it says.
Labels = Mapping[str, str | None]


class Cluster(ApiClient):
    """The pods, policies, leases and events of one namespace. `ApiClient` says what requests raise."""

    async def namespace(self) -> dict[str, Any]:
        """Return the namespace object; its UID identifies the place of agents."""
        return await self.ask("GET", self.path())

    async def pod(self, name: str) -> dict[str, Any] | None:
        """Return the pod, or None if there is none of this name."""
        return await self.ask_maybe(self.path("pods", name))

    async def patch(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pod with these changes (RFC 7396). Raises Refused 409 if the pod no longer has the version that they
        name."""
        return await self.ask("PATCH", self.path("pods", name), changes)

    async def patch_status(self, name: str, changes: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Return the pod with these changes (RFC 7396) of its status; a `dry_run` changes nothing. Raises Refused 409 if the
        pod does not have the UID, or no longer has the version, that they name."""
        params = {"dryRun": "All"} if dry_run else {}
        return await self.ask("PATCH", self.path("pods", name, "status"), changes, **params)

    async def create_policy(self, policy: Mapping[str, Any]) -> None:
        """Create a NetworkPolicy (networking.k8s.io/v1). Raises Refused 409 if there is one of this name."""
        await self.ask("POST", self.path("networkpolicies", api=_NETWORKING), policy)

    async def policies(self, labels: Labels) -> list[dict[str, Any]]:
        """Return all NetworkPolicies with these labels."""
        path = self.path("networkpolicies", api=_NETWORKING)
        items: list[dict[str, Any]] = (await self.ask("GET", path, labelSelector=_selector(labels)))["items"]
        return items

    async def delete_policy(self, name: str) -> None:
        """Delete a NetworkPolicy, which may be gone already."""
        try:
            await self.ask("DELETE", self.path("networkpolicies", name, api=_NETWORKING))
        except Refused as err:
            if err.status != 404:
                raise

    async def lease(self, name: str) -> dict[str, Any] | None:
        """Return a Lease (coordination.k8s.io/v1), or None."""
        return await self.ask_maybe(self.path("leases", name, api=_LEASES))

    async def create_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Lease and return it. Raises Refused 409 if somebody else was sooner."""
        return await self.ask("POST", self.path("leases", api=_LEASES), lease)

    async def replace_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a Lease and return it. Raises Refused 409 if the given version is no longer the current one."""
        return await self.ask("PUT", self.path("leases", lease["metadata"]["name"], api=_LEASES), lease)

    async def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a pod and return it as the cluster has it."""
        return await self.ask("POST", self.path("pods"), manifest)

    async def delete(self, name: str, uid: str, grace_s: int | None = None, *, version: str | None = None) -> None:
        """Delete exactly this pod, which may be gone already; with `version`, only if it has not changed since."""
        conditions = {"uid": uid} if version is None else {"uid": uid, "resourceVersion": version}
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self.ask("DELETE", self.path("pods", name), options, accept=_META.format(""))
        except Refused as err:
            if err.status not in (404, 409):
                raise

    async def pods(self, labels: Labels, *, meta: bool = False) -> tuple[list[dict[str, Any]], str]:
        """Return all pods with these labels (with `meta` only their metadata), and the version to watch from. Raises Refused
        410 if they change so fast that the parts of one list cannot be fetched."""
        items: list[dict[str, Any]] = []
        params = {"labelSelector": _selector(labels), "limit": str(_PAGE)}
        while True:
            page = await self.ask("GET", self.path("pods"), accept=_META.format("List") if meta else JSON, **params)
            items += page["items"] or ()  # of metadata alone, none is null
            if not (token := page["metadata"].get("continue")):
                return items, page["metadata"]["resourceVersion"]
            params["continue"] = token

    async def has_pod(self, labels: Labels) -> bool:
        """Return whether there is any pod with these labels."""
        params = {"labelSelector": _selector(labels), "limit": "1"}
        return bool((await self.ask("GET", self.path("pods"), accept=_META.format("List"), **params))["items"])

    async def watch(
        self, labels: Labels, version: str, *, meta: bool = False
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yield (kind of change, pod) from a version on, for a while. A pod that gets these labels is added, one that loses
        them is deleted. Raises Refused 410 if the version is too old."""
        selected = {"labelSelector": _selector(labels), "allowWatchBookmarks": "true"}
        accept = _META.format("") if meta else JSON
        async with aclosing(self.watch_path(self.path("pods"), selected, version, accept)) as changes:
            async for change in changes:
                yield change

    async def start_events(self) -> AsyncGenerator[tuple[str, str], None]:
        """Yield (pod, container) by their names for each container that is started from now on, for a while."""
        path = self.path("events")
        version = (await self.ask("GET", path, limit="1", accept=_META.format("List")))["metadata"]["resourceVersion"]
        async with aclosing(self.watch_path(path, {"fieldSelector": _STARTED}, version)) as changes:
            async for kind, event in changes:
                involved = event.get("involvedObject", {})
                if kind == "ADDED" and (container := _CONTAINER.fullmatch(involved.get("fieldPath", ""))):
                    yield involved["name"], container[1]

    async def log(self, name: str, container: str, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a pod's log from the first one that is kept."""
        params = {"container": container, **({"follow": "true"} if follow else {})}
        async with aclosing(self.stream(self.path("pods", name, "log"), params)) as chunks:
            async for chunk in chunks:
                yield chunk


def _selector(labels: Labels) -> str:
    return ",".join(name if value is None else f"{name}={value}" for name, value in labels.items())
