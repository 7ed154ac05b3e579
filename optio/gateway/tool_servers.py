"""Sessions with MCP servers, one for each attempt and connection, made when it is needed and closed when it is idle.

A session lives in a task of its own, because the SDK wants its end there where its beginning was. What a server offers is read
once for each session, and compared with the connection's pin.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Implementation, Tool

from optio.gateway.connections import ConnectionRefused
from optio.gateway.pins import is_changed, listed
from optio.model.connection import Connection, McpConnection, Sse, Stdio
from optio.version import __version__

log = logging.getLogger(__name__)
_IDLE_S, _OPEN_S, _PAGES = 60.0, 10.0, 20
_MAX_TOOLS, _MAX_ANSWER_BYTES = 1000, 8 << 20
_US = Implementation(name="optio", version=__version__)


class ToolServers:
    """The sessions of all attempts."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], ToolSession] = {}

    async def session(self, attempt: str, connection: Connection, values: Mapping[str, str]) -> "ToolSession":
        """Return the session of an attempt with a server. `values` are the headers or variables of the server, with secrets.
        Raises ConnectionRefused."""
        place = (attempt, connection.id)
        session = self._sessions.get(place)
        if session is None or session.is_over:
            session = self._sessions[place] = ToolSession(connection, values)
            session.task.add_done_callback(lambda _: self._forget(place))
        await session.opened()
        return session

    def _forget(self, place: tuple[str, str]) -> None:
        session = self._sessions.get(place)
        if session is not None and session.is_over:
            del self._sessions[place]

    async def close(self) -> None:
        """End all sessions."""
        tasks = [session.task for session in self._sessions.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class ToolSession:
    """One session. `tools` are those of the connection that the server offers, by name."""

    def __init__(self, connection: Connection, values: Mapping[str, str]) -> None:
        self._connection, self._values = connection, values
        self._status: int | None = None
        self._client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._calls, self._used = 0, asyncio.Event()
        self.tools: Mapping[str, Tool] = {}
        self.task = asyncio.create_task(self._live())

    @property
    def is_over(self) -> bool:
        """Return whether the session has ended, so that a call needs another one."""
        return self.task.done()

    async def opened(self) -> None:
        """Wait until the server has told its tools. Raises ConnectionRefused."""
        await asyncio.shield(self._client)

    async def call(self, tool: str, arguments: Mapping[str, Any] | None) -> CallToolResult:
        """Call a tool. Raises ConnectionRefused if the server gives no answer."""
        client, timeout_s = await asyncio.shield(self._client), self._connection.timeout_span.total_seconds()
        self._calls += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await client.call_tool(tool, dict(arguments or {}))
        except TimeoutError:
            raise ConnectionRefused(self._connection.id, "unreachable", f"gave no answer in {timeout_s:g} s") from None
        except Exception as err:
            raise self._refusal(err) from err
        finally:
            self._calls -= 1
            self._used.set()

    async def _live(self) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(_OPEN_S):
                    client = await stack.enter_async_context(self._connected())
                    self.tools = self._checked(await self._list(client))
                self._client.set_result(client)
                while self._calls or await self._is_used():
                    self._used.clear()
        except Exception as err:
            if not self._client.done():
                self._client.set_exception(self._refusal(err))
                self._client.exception()  # who waits gets it; nobody may wait any more
            else:
                log.info("a session with the connection %s ended: %s", self._connection.id, type(err).__name__)

    async def _is_used(self) -> bool:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._used.wait(), _IDLE_S)
        return bool(self._calls)

    def _connected(self) -> AbstractAsyncContextManager[Client]:
        return Client(_SessionStreams(self), client_info=_US, cache=None)

    @contextlib.asynccontextmanager
    async def streams(self) -> AsyncIterator[Any]:
        """Yield the streams of the transport."""
        spec = self._connection.spec
        assert isinstance(spec, McpConnection)  # noqa: S101
        transport = spec.transport
        if isinstance(transport, Stdio):
            raise ConnectionRefused(self._connection.id, "unreachable", "is a program, which this gateway does not start")
        if isinstance(transport, Sse):
            async with sse_client(transport.url, headers=dict(self._values), httpx_client_factory=self._http_client) as streams:
                yield streams
        else:
            async with (
                self._http_client(dict(self._values)) as client,
                streamable_http_client(transport.url, http_client=client) as streams,
            ):
                yield streams

    def _http_client(self, headers: dict[str, Any] | None = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=headers,
            timeout=timeout or httpx2.Timeout(_OPEN_S, read=self._connection.timeout_span.total_seconds()),
            auth=auth,
            follow_redirects=False,
            event_hooks={"response": [self._note_status]},
        )

    async def _note_status(self, response: httpx2.Response) -> None:
        self._status = response.status_code
        length = response.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > _MAX_ANSWER_BYTES:
            await response.aclose()
            raise ConnectionRefused(self._connection.id, "unreachable", f"answers with more than {_MAX_ANSWER_BYTES >> 20} MiB")

    async def _list(self, client: Client) -> dict[str, Tool]:
        tools: dict[str, Tool] = {}
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools |= {tool.name: tool for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None or len(tools) > _MAX_TOOLS:
                break
        return tools

    def _checked(self, offered: Mapping[str, Tool]) -> Mapping[str, Tool]:
        """Return the tools of the connection that the server offers. Raises ConnectionRefused for a server that has changed."""
        connection, spec = self._connection, self._connection.spec
        assert isinstance(spec, McpConnection)  # noqa: S101
        missing = [tool for tool in connection.tools if tool not in offered]
        if missing:
            raise ConnectionRefused(connection.id, "changed", f"has no tool {listed(missing)} any more")
        changed = [] if spec.pin is None else [name for name in connection.tools if is_changed(spec.pin, offered[name])]
        if changed:
            message = f"offers {listed(changed)} with other schemas than pinned: see `optio connection diff {connection.id}`"
            raise ConnectionRefused(connection.id, "changed", message)
        return {name: tool for name, tool in offered.items() if name in connection.tools}

    def _refusal(self, err: BaseException) -> ConnectionRefused:
        while isinstance(err, BaseExceptionGroup) and err.exceptions:
            err = err.exceptions[0]
        if isinstance(err, ConnectionRefused):
            return err
        if self._status in (401, 403):
            return ConnectionRefused(self._connection.id, "unauthorized", f"refuses its credential (status {self._status})")
        problem = f"status {self._status}" if (self._status or 0) >= 300 else type(err).__name__
        if isinstance(err, TimeoutError):
            problem = f"no answer in {_OPEN_S:g} s"
        return ConnectionRefused(self._connection.id, "unreachable", f"cannot be reached: {problem}")


class _SessionStreams:
    """A transport of the SDK."""

    def __init__(self, session: ToolSession) -> None:
        self._streams = session.streams()

    async def __aenter__(self) -> Any:
        return await self._streams.__aenter__()

    async def __aexit__(self, *failure: Any) -> bool | None:
        return await self._streams.__aexit__(*failure)
