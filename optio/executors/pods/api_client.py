"""A client of a cluster's API server: single requests, watches, logs and commands in pods, with their errors and limits.

It knows no kinds of objects but pods, in which it runs commands; `cluster` has the requests that pods need.
"""

import asyncio
import contextlib
import json
import logging
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
_MAX_REQUESTS = 32
JSON = "application/json"


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


class ApiClient:
    """A client of the API server for one namespace, created in the loop that uses it. Raises SettingsError if no cluster is
    configured."""

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
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=_MAX_REQUESTS)
            transport = httpx2.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False)
            auth = user_auth(user) if user.token_file is None else _TokenFile(user.token_file)
            return httpx2.AsyncClient(
                base_url=config.cluster.server, auth=auth, timeout=timeout, transport=transport, trust_env=False
            )

        self._http, self._streams, self._execs = client(), client(), client()
        self._request_slots, self._command_slots = asyncio.Semaphore(_MAX_REQUESTS), asyncio.Semaphore(_MAX_REQUESTS)

    async def close(self) -> None:
        await self._streams.aclose()
        await self._http.aclose()
        await self._execs.aclose()

    def now(self) -> datetime:
        """Return the cluster's time, estimated from its last answer."""
        return datetime.now(UTC) + self._ahead

    def path(self, *rest: str, api: str = "/api/v1") -> str:
        """Return the path of objects of this namespace."""
        return "/".join((api, "namespaces", self._namespace, *rest))

    async def ask(self, method: str, path: str, body: Any = None, *, accept: str = JSON, **params: str) -> dict[str, Any]:
        """Send any request and return the answer. Raises Refused and Unreachable."""
        content = None if body is None else json.dumps(body).encode()
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": kind, "Accept": accept}
        try:
            async with self._request_slots:
                answer = await self._http.request(method, path, content=content, params=params, headers=headers)
        except httpx2.TransportError as err:
            raise Unreachable(f"the cluster's API does not answer: {_words(err)}") from err
        with contextlib.suppress(KeyError, ValueError):
            self._ahead = parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)
        if answer.status_code >= 400:
            raise _refusal(answer.status_code, answer.content, answer.headers)
        document: dict[str, Any] = answer.json()
        return document

    async def ask_maybe(self, path: str) -> dict[str, Any] | None:
        """Return the answer to a GET, or None if there is no such object. Raises Refused and Unreachable."""
        try:
            return await self.ask("GET", path)
        except Refused as err:
            if err.status == 404:
                return None
            raise

    async def watch_path(
        self, path: str, selected: Mapping[str, str], version: str, accept: str = JSON
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yield (kind of change, object) from a version on, for a while. Raises Refused 410 if the version is too old."""
        params = {"watch": "true", **selected, "resourceVersion": version, "timeoutSeconds": str(_WATCH_S)}
        rest = b""
        async with aclosing(self.stream(path, params, _WATCH_SILENCE_S, accept)) as chunks:
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise Refused(status.get("code", 500), status.get("message", "the watch broke off"))
                    yield event["type"], event["object"]

    async def stream(
        self, path: str, params: Mapping[str, str], silence_s: float = _SILENCE_S, accept: str = "*/*"
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of an answer as they come. Raises Refused and Unreachable."""
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
        path = self.path("pods", name, "exec")
        try:
            async with self._command_slots if within is not None else contextlib.nullcontext(), asyncio.timeout(within):
                return await exec.run(self._execs, path, container, command, data, hear)
        except exec.NotStarted as err:
            raise Refused(err.status, str(err)) from err
        except (httpx2.HTTPError, HTTPXWSException, OSError, TimeoutError) as err:
            raise Unreachable(f"nothing can be run in the pod {name}: {_words(err)}") from err


def _refusal(status: int, body: bytes, headers: Mapping[str, str]) -> Refused:
    answer: Any = None
    with contextlib.suppress(ValueError):
        answer = json.loads(body)
    if not isinstance(answer, dict) or "message" not in answer:  # of something before the API server
        answer = {"message": body[:300].decode("utf-8", "replace") or f"HTTP status {status}"}
    wait = float(seconds) if (seconds := headers.get("retry-after", "")).isdigit() else None
    return Refused(status, answer["message"], wait, reason=answer.get("reason") or "", details=answer.get("details"))


def _words(err: BaseException) -> str:
    return str(err) or type(err).__name__
