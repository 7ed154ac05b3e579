"""Examination of one connection: it is reached as the gateway reaches it, with the secrets of this machine. Used by
`optio connection`."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import httpx2
from mcp.types import Tool

from optio.errors import SecretUnavailable
from optio.gateway.connections import ConnectionRefused, filled_in
from optio.gateway.pins import changed_parts
from optio.gateway.programs import Programs, StartProgram
from optio.gateway.tool_servers import ToolSession
from optio.model.connection import Connection, HttpConnection, McpConnection, ModelConnection, ToolAccess
from optio.model.probe_result import ProbeResult, ProbeStatus
from optio.secrets.base import Secrets

_TIMEOUT_S = 10.0
_READS = "GET "
_MAX_NAMES, _MAX_LINE = 20, 200
# How services of models take a key, and where they list their models; the path has its version where the address has none.
_MODEL_LISTS = (
    ("/v1/models", {"authorization": "Bearer {}"}),
    ("/v1/models", {"x-api-key": "{}", "anthropic-version": "2023-06-01"}),
    ("/v1beta/models", {"x-goog-api-key": "{}"}),
)

Offer = Mapping[str, Tool]
Change = Literal["missing", "unpinned", "schema", "text", "undeclared"]
_PARTS: tuple[Change, ...] = ("schema", "text")


class ToolChange(NamedTuple):
    """A tool that a server offers otherwise than its connection says. `offered` is None for one that is missing."""

    name: str
    changes: tuple[Change, ...]
    offered: Tool | None

    @property
    def is_undeclared(self) -> bool:
        """Return whether the tool is only offered: no task can name it."""
        return self.changes == ("undeclared",)


async def read_offer(connection: Connection, secrets: Secrets, start: StartProgram) -> Offer:
    """Return the tools that the server of an MCP connection offers; `start` starts one that is a program. Raises
    ConnectionRefused."""
    try:
        session = _Catalog(connection, await filled_in(connection, secrets), Programs(start, 1))
    except SecretUnavailable as err:
        raise ConnectionRefused(connection.id, "unauthorized", f"has a secret that cannot be read: {err}") from err
    try:
        await session.opened()
        return session.tools
    finally:
        session.task.cancel()
        await asyncio.wait({session.task})


class _Catalog(ToolSession):
    """A session whose `tools` are all that a server offers, whatever the connection says of them."""

    def _checked(self, offered: Offer) -> Offer:
        return offered


def compare(spec: McpConnection, offered: Offer) -> list[ToolChange]:
    """Return what differs between a connection and the tools that its server offers."""
    changes = []
    for name in spec.tools:
        tool, pin = offered.get(name), (spec.pin or {}).get(name)
        if tool is None:
            changes.append(ToolChange(name, ("missing",), None))
        elif pin is None:
            changes.append(ToolChange(name, ("unpinned",), tool))
        elif parts := changed_parts(pin, tool):
            changes.append(ToolChange(name, tuple(part for part in _PARTS if part in parts), tool))
    return changes + [ToolChange(name, ("undeclared",), tool) for name, tool in offered.items() if name not in spec.tools]


async def examine(connection: Connection, secrets: Secrets, start: StartProgram) -> list[ProbeResult]:
    """Return what is to say about a connection; with an error, a run that needs it does not begin."""
    try:
        if isinstance(connection.spec, McpConnection):
            return await _examine_tools(connection, connection.spec, secrets, start)
        headers = await filled_in(connection, secrets)
        if isinstance(connection.spec, HttpConnection):
            return [await _examine_service(connection, connection.spec, headers)]
        return [await _examine_models(connection, connection.spec, secrets.get(connection.spec.key) or "")]
    except ConnectionRefused as refused:
        return [ProbeResult(connection.id, "error", f"{refused.reason}: {refused.message}")]
    except SecretUnavailable as err:
        return [ProbeResult(connection.id, "error", f"unauthorized: a secret cannot be read: {err}")]


def access_of(tool: Tool) -> ToolAccess:
    """Return the class of a tool by the server's own hint; without one it counts as one that writes."""
    return "read" if tool.annotations is not None and tool.annotations.read_only_hint else "write"


def describe(tool: Tool) -> str:
    """Return a tool's name, the first line of its description, and the server's hint whether it only reads, in one line."""
    lines = (tool.description or "").strip().splitlines()
    is_read_only = None if tool.annotations is None else tool.annotations.read_only_hint
    hint = {None: "", True: " (read-only, says the server)", False: " (writes, says the server)"}[is_read_only]
    return tool.name + (f": {lines[0][:_MAX_LINE]}" if lines else "") + hint


async def _examine_tools(
    connection: Connection, spec: McpConnection, secrets: Secrets, start: StartProgram
) -> list[ProbeResult]:
    id, started_at = connection.id, time.monotonic()
    offered = await read_offer(connection, secrets, start)
    detail = f"{connection.address} offers {len(offered)} tools, {_since(started_at)}"
    results = [ProbeResult(id, "ok", detail)]
    changes = compare(spec, offered)
    by_change: dict[str, list[str]] = {}
    for change in changes:
        for word in change.changes:
            by_change.setdefault(word, []).append(change.name)
    if missing := by_change.get("missing"):
        hint = "delete them from `tools:` and from the tasks that name them, or ask the maker of the server"
        results.append(ProbeResult(id, "error", f"changed: declared tools that it does not offer: {_listed(missing)}", hint))
    if changed := by_change.get("schema"):
        detail = f"changed: tools with other schemas than pinned: {_listed(changed)}"
        results.append(ProbeResult(id, "error", detail, "read what differs, then pin it", f"optio connection diff {id}"))
    if changed := by_change.get("text"):
        detail = f"tools with another description than pinned, which agents read: {_listed(changed)}"
        results.append(ProbeResult(id, "warning", detail, "read what differs, then pin it", f"optio connection diff {id}"))
    if unpinned := by_change.get("unpinned"):
        # Where others are pinned, the gateway refuses this one.
        status: ProbeStatus = "warning" if spec.pin is None else "error"
        detail = f"tools that are not pinned: {_listed(unpinned)}"
        results.append(ProbeResult(id, status, detail, "pin what you have read", f"optio connection pin {id}"))
    if not spec.tools:
        detail = "it declares no tools, so no task can use it"
        results.append(ProbeResult(id, "warning", detail, "write those that tasks may use", f"optio connection diff {id}"))
    if spec.tools and all(change.is_undeclared for change in changes):
        results.append(ProbeResult(id, "ok", f"all {len(spec.tools)} declared tools are offered as pinned"))
    undeclared = [change.offered for change in changes if change.is_undeclared and change.offered is not None]
    results += [ProbeResult(id, "ok", f"not declared: {describe(tool)}") for tool in undeclared[:_MAX_NAMES]]
    if len(undeclared) > _MAX_NAMES:
        detail = f"{len(undeclared) - _MAX_NAMES} more are not declared"
        results.append(ProbeResult(id, "ok", detail, command=f"optio connection diff {id}"))
    return results


async def _examine_service(connection: Connection, spec: HttpConnection, headers: Mapping[str, str]) -> ProbeResult:
    """Send the first allowed GET that has no `*`. Where there is none, connect only."""
    id, started_at = connection.id, time.monotonic()
    path = next((entry.removeprefix(_READS) for entry in spec.allow if entry.startswith(_READS) and "*" not in entry), None)
    if path is None:
        await _connect(id, spec.url)
        detail = f"{connection.address} takes connections, {_since(started_at)}"
        return ProbeResult(id, "ok", f"{detail}; its credential was not tried, as `allow` has no GET without `*`")
    async with _answer(id, spec.url.rstrip("/") + path, headers) as answer:
        status = answer.status_code
    if status in (401, 403):
        raise ConnectionRefused(id, "unauthorized", f"refuses its credential (status {status} for `GET {path}`)")
    if status >= 500:
        raise ConnectionRefused(id, "unreachable", f"answers with status {status} for `GET {path}`")
    detail = f"{connection.address} answers `GET {path}` with status {status}, {_since(started_at)}"
    if status >= 300:
        hint = "check `url` and `allow`, or ask the service"
        return ProbeResult(id, "warning", detail, f"the gateway follows no redirect: {hint}" if status < 400 else hint)
    return ProbeResult(id, "ok", detail)


async def _examine_models(connection: Connection, spec: ModelConnection, key: str) -> ProbeResult:
    """Ask for the list of models in each way that services know, until one gives it."""
    id, started_at = connection.id, time.monotonic()
    statuses = []
    for path, headers in _MODEL_LISTS:
        has_version = urlsplit(spec.url).path.rstrip("/").rpartition("/")[2].startswith("v1")
        url = spec.url.rstrip("/") + ("/models" if has_version else path)
        async with _answer(id, url, {name: value.format(key) for name, value in headers.items()}) as answer:
            statuses.append(answer.status_code)
        if answer.is_success:
            return ProbeResult(id, "ok", f"{connection.address} lists its models, {_since(started_at)}")
    if any(status in (401, 403) for status in statuses):
        raise ConnectionRefused(id, "unauthorized", f"refuses the key in `{spec.key}` (status {statuses[0]})")
    if all(status >= 500 for status in statuses):
        raise ConnectionRefused(id, "unreachable", f"answers with status {statuses[0]}")
    detail = f"{connection.address} answers, and lists no models (status {statuses[0]}), so its key was not tried"
    return ProbeResult(id, "warning", detail, "check `url`: it ends before the path of a call, such as `/v1/messages`")


@asynccontextmanager
async def _answer(id: str, url: str, headers: Mapping[str, str]) -> AsyncIterator[httpx2.Response]:
    """Yield the answer to a GET request, whose body is not read."""
    try:
        async with (
            httpx2.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as client,
            client.stream("GET", url, headers=dict(headers)) as response,
        ):
            yield response
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as err:
        raise ConnectionRefused(id, "unreachable", f"cannot be reached: {type(err).__name__}") from err


async def _connect(id: str, url: str) -> None:
    place = urlsplit(url)
    is_tls = place.scheme == "https"
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(
                place.hostname, place.port or (443 if is_tls else 80), ssl=ssl.create_default_context() if is_tls else None
            )
            writer.close()
    except (OSError, UnicodeError) as err:  # TimeoutError and those of TLS are of this class
        raise ConnectionRefused(id, "unreachable", f"cannot be reached: {type(err).__name__}") from err


def _since(started_at: float) -> str:
    return f"{(time.monotonic() - started_at) * 1000:.0f} ms"


def _listed(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
