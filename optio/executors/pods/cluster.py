"""A client for one namespace of a cluster: the few requests that pods need. All objects here belong to one event loop."""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from httpx2.websockets import HTTPXWSException
from lightkube import KubeConfig
from lightkube.config.client_adapter import BearerTokenFileAuth, user_auth, verify_cluster
from lightkube.core.exceptions import ConfigError

from optio.errors import OptioError, SettingsError
from optio.executors.pods import exec

_CONNECT_S = 5.0
_ANSWER_S = 30.0
# A watch and a log are silent for long; a connection that is dead without a word is found out after this time.
_SILENCE_S = 75.0
_WATCH_S, _WATCH_SILENCE_S = 20, 25.0
_AT_ONCE = 32
# A list comes in parts of so many pods: neither side holds all of a large one as text at once.
_PAGE = 500
# Metadata alone: what the API server leaves out is neither encoded, nor sent, nor read.
_ALL, _META = "application/json", "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_LEASES = "/apis/coordination.k8s.io/v1"
_NETWORKING = "/apis/networking.k8s.io/v1"
_STARTED = "reason=Started,involvedObject.kind=Pod"
_CONTAINER = re.compile(r"spec\.containers\{(.+)\}")
# None: the label is there, whatever it says.
Labels = Mapping[str, str | None]


class Refused(OptioError):
    """An error answer of the API server. `status` is the HTTP status; `wait` is how many seconds to wait before the next
    request, if the server says so; `reason` and `details` are those of its `meta/v1` Status, as far as it has any."""

    def __init__(
        self,
        status: int,
        message: str,
        wait: float | None = None,
        *,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.wait, self.reason, self.details = status, wait, reason, details or {}

    @property
    def temporary(self) -> bool:
        """Return whether the same request may succeed later."""
        return self.status in (401, 408, 429) or self.status >= 500


class Unreachable(OptioError):
    """Raised when the API server does not answer, or an answer breaks off."""


class _TokenFile(BearerTokenFileAuth):
    """The token in a file, read again after an answer 401. A file that is being written may be empty: the last token is kept
    then, because an empty one makes a request that is never sent, and so never answered with 401."""

    def _read_token(self) -> str:
        bearer = super()._read_token()
        return bearer if bearer != "Bearer " else self._last_bearer or bearer


class Cluster:
    """A client of the API server, created in the loop that uses it. Raises SettingsError if no cluster is configured."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._ahead = timedelta(0)
        try:
            config = KubeConfig.from_env().get()
        except (ConfigError, OSError) as err:
            raise SettingsError(f"no cluster is configured: {err}: set KUBECONFIG, or run inside a cluster") from err
        if config is None or config.user is None:
            raise SettingsError("the kubeconfig has no current context: choose one with `kubectl config use-context`")
        user = config.user
        timeout = httpx2.Timeout(_ANSWER_S, connect=_CONNECT_S)
        # It tells of every request.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        # The environment's proxies are for the agents' traffic, not for the cluster's.
        tls = verify_cluster(config.cluster, user, config.abs_file, trust_env=False)

        def client() -> httpx2.AsyncClient:
            # Each followed log has a connection of its own, and nothing waits for one; what is asked at once is bounded. Logs
            # are apart from it: a pool looks through all its connections for each request.
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=_AT_ONCE)
            transport = httpx2.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False)
            auth = user_auth(user) if user.token_file is None else _TokenFile(user.token_file)
            return httpx2.AsyncClient(
                base_url=config.cluster.server, auth=auth, timeout=timeout, transport=transport, trust_env=False
            )

        self._http, self._streams, self._execs = client(), client(), client()
        self._asking, self._running = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_AT_ONCE)

    async def close(self) -> None:
        await self._streams.aclose()
        await self._http.aclose()
        await self._execs.aclose()

    def now(self) -> datetime:
        """Return the cluster's time, estimated from its last answer."""
        return datetime.now(UTC) + self._ahead

    def _path(self, *rest: str, api: str = "/api/v1") -> str:
        return "/".join((api, "namespaces", self._namespace, *rest))

    async def ask(self, method: str, path: str, body: Any = None, *, accept: str = _ALL, **params: str) -> dict[str, Any]:
        """Send any request and return the answer. Raises Refused and Unreachable."""
        content = None if body is None else json.dumps(body).encode()
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": kind, "Accept": accept}
        try:
            async with self._asking:
                answer = await self._http.request(method, path, content=content, params=params, headers=headers)
        except httpx2.TransportError as err:
            raise Unreachable(f"the cluster's API does not answer: {_words(err)}") from err
        with contextlib.suppress(KeyError, ValueError):
            self._ahead = parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)
        if answer.status_code >= 400:
            raise _refusal(answer.status_code, answer.content, answer.headers)
        found: dict[str, Any] = answer.json()
        return found

    async def namespace(self) -> dict[str, Any]:
        """Return the namespace object; its UID identifies the place of agents."""
        return await self.ask("GET", self._path())

    async def pod(self, name: str) -> dict[str, Any] | None:
        """Return the pod, or None if there is none of this name."""
        return await self._maybe(self._path("pods", name))

    async def _maybe(self, path: str) -> dict[str, Any] | None:
        try:
            return await self.ask("GET", path)
        except Refused as err:
            if err.status == 404:
                return None
            raise

    async def patch(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pod with these changes (RFC 7396). Raises Refused 409 if the pod no longer has the version that they
        name."""
        return await self.ask("PATCH", self._path("pods", name), changes)

    async def patch_status(self, name: str, changes: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Return the pod with these changes (RFC 7396) of its status; a `dry_run` changes nothing. Raises Refused 409 if the
        pod does not have the UID, or no longer has the version, that they name."""
        params = {"dryRun": "All"} if dry_run else {}
        return await self.ask("PATCH", self._path("pods", name, "status"), changes, **params)

    async def create_policy(self, policy: Mapping[str, Any]) -> None:
        """Create a NetworkPolicy (networking.k8s.io/v1). Raises Refused 409 if there is one of this name."""
        await self.ask("POST", self._path("networkpolicies", api=_NETWORKING), policy)

    async def policies(self, labels: Labels) -> list[dict[str, Any]]:
        """Return all NetworkPolicies with these labels."""
        path = self._path("networkpolicies", api=_NETWORKING)
        found: list[dict[str, Any]] = (await self.ask("GET", path, labelSelector=_selector(labels)))["items"]
        return found

    async def delete_policy(self, name: str) -> None:
        """Delete a NetworkPolicy, which may be gone already."""
        try:
            await self.ask("DELETE", self._path("networkpolicies", name, api=_NETWORKING))
        except Refused as err:
            if err.status != 404:
                raise

    async def lease(self, name: str) -> dict[str, Any] | None:
        """Return a Lease (coordination.k8s.io/v1), or None."""
        return await self._maybe(self._path("leases", name, api=_LEASES))

    async def create_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Lease and return it. Raises Refused 409 if somebody else was sooner."""
        return await self.ask("POST", self._path("leases", api=_LEASES), lease)

    async def replace_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a Lease and return it. Raises Refused 409 if the given version is no longer the current one."""
        return await self.ask("PUT", self._path("leases", lease["metadata"]["name"], api=_LEASES), lease)

    async def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a pod and return it as the cluster has it."""
        return await self.ask("POST", self._path("pods"), manifest)

    async def delete(self, name: str, uid: str, grace_s: int | None = None, *, version: str | None = None) -> None:
        """Delete exactly this pod, which may be gone already; with `version`, only if it has not changed since."""
        conditions = {"uid": uid} if version is None else {"uid": uid, "resourceVersion": version}
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self.ask("DELETE", self._path("pods", name), options, accept=_META.format(""))
        except Refused as err:
            if err.status not in (404, 409):
                raise

    async def pods(self, labels: Labels, *, meta: bool = False) -> tuple[list[dict[str, Any]], str]:
        """Return all pods with these labels (with `meta` only their metadata), and the version to watch from. Raises Refused
        410 if they change so fast that the parts of one list cannot be fetched."""
        items: list[dict[str, Any]] = []
        params = {"labelSelector": _selector(labels), "limit": str(_PAGE)}
        while True:
            found = await self.ask("GET", self._path("pods"), accept=_META.format("List") if meta else _ALL, **params)
            items += found["items"] or ()  # of metadata alone, none is null
            if not (rest := found["metadata"].get("continue")):
                return items, found["metadata"]["resourceVersion"]
            params["continue"] = rest

    async def has_pod(self, labels: Labels) -> bool:
        """Return whether there is any pod with these labels."""
        params = {"labelSelector": _selector(labels), "limit": "1"}
        return bool((await self.ask("GET", self._path("pods"), accept=_META.format("List"), **params))["items"])

    async def watch(
        self, labels: Labels, version: str, *, meta: bool = False
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yield (kind of change, pod) from a version on, for a while. A pod that gets these labels is added, one that loses
        them is deleted. Raises Refused 410 if the version is too old."""
        selected = {"labelSelector": _selector(labels), "allowWatchBookmarks": "true"}
        accept = _META.format("") if meta else _ALL
        async with aclosing(self._watch(self._path("pods"), selected, version, accept)) as changes:
            async for change in changes:
                yield change

    async def start_events(self) -> AsyncGenerator[tuple[str, str], None]:
        """Yield (pod, container) by their names for each container that is started from now on, for a while."""
        path = self._path("events")
        version = (await self.ask("GET", path, limit="1", accept=_META.format("List")))["metadata"]["resourceVersion"]
        async with aclosing(self._watch(path, {"fieldSelector": _STARTED}, version)) as changes:
            async for kind, event in changes:
                involved = event.get("involvedObject", {})
                if kind == "ADDED" and (found := _CONTAINER.fullmatch(involved.get("fieldPath", ""))):
                    yield involved["name"], found[1]

    async def _watch(
        self, path: str, selected: Mapping[str, str], version: str, accept: str = _ALL
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        params = {"watch": "true", **selected, "resourceVersion": version, "timeoutSeconds": str(_WATCH_S)}
        rest = b""
        async with aclosing(self._stream(path, params, _WATCH_SILENCE_S, accept)) as chunks:
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise Refused(status.get("code", 500), status.get("message", "the watch broke off"))
                    yield event["type"], event["object"]

    async def log(self, name: str, container: str, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a pod's log from the first one that is kept."""
        params = {"container": container, **({"follow": "true"} if follow else {})}
        async with aclosing(self._stream(self._path("pods", name, "log"), params)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _stream(
        self, path: str, params: Mapping[str, str], silence_s: float = _SILENCE_S, accept: str = "*/*"
    ) -> AsyncGenerator[bytes, None]:
        timeout = httpx2.Timeout(_ANSWER_S, connect=_CONNECT_S, read=silence_s)
        try:
            headers = {"Accept": accept}
            async with self._streams.stream("GET", path, params=params, timeout=timeout, headers=headers) as answer:
                if answer.status_code >= 400:
                    raise _refusal(answer.status_code, await answer.aread(), answer.headers)
                async for chunk in answer.aiter_raw():
                    yield chunk
        except httpx2.TransportError as err:
            raise Unreachable(f"the cluster's API does not answer: {_words(err)}") from err

    async def run(
        self,
        name: str,
        container: str,
        command: Sequence[str],
        data: bytes | exec.Later = b"",
        *,
        within: float | None = _ANSWER_S,
        hear: exec.Hear | None = None,
    ) -> tuple[int, bytes]:
        """Run a command in the pod with `data` as its input. Return (exit code, output): see `exec.run`. A command that may
        last (`within` is None) does not count towards the limit of concurrent commands, because callers have few of them."""
        path = self._path("pods", name, "exec")
        try:
            async with self._running if within is not None else contextlib.nullcontext(), asyncio.timeout(within):
                return await exec.run(self._execs, path, container, command, data, hear)
        except exec.NotStarted as err:
            raise Refused(err.status, str(err)) from err
        except (httpx2.HTTPError, HTTPXWSException, OSError, TimeoutError) as err:
            raise Unreachable(f"nothing can be run in the pod {name}: {_words(err)}") from err


def _selector(labels: Labels) -> str:
    return ",".join(name if value is None else f"{name}={value}" for name, value in labels.items())


def _refusal(status: int, body: bytes, headers: Mapping[str, str]) -> Refused:
    said: Any = None
    with contextlib.suppress(ValueError):
        said = json.loads(body)
    if not isinstance(said, dict) or "message" not in said:  # of something before the API server
        said = {"message": body[:300].decode("utf-8", "replace") or f"HTTP status {status}"}
    wait = float(after) if (after := headers.get("retry-after", "")).isdigit() else None
    return Refused(status, said["message"], wait, reason=said.get("reason") or "", details=said.get("details"))


def _words(err: BaseException) -> str:
    return str(err) or type(err).__name__
