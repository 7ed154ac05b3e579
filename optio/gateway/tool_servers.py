"""Sessions with MCP servers, one for each attempt and connection, made when it is needed and closed when it is idle.

A session lives in a task of its own, because the SDK wants its end there where its beginning was. What a server offers is read
once for each session, and compared with the connection's pin. No server is trusted: what it sends has a bound, and its schemas
are passed on and never applied.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Self

import httpx2
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp.types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    TextContent,
    Tool,
)

from optio.gateway.connections import ConnectionRefused
from optio.gateway.pins import is_changed, listed
from optio.gateway.programs import MAX_LINE_BYTES, Programs, ToolProgram
from optio.model.connection import Connection, McpConnection, Sse, Stdio, secrets_in, templates
from optio.model.mask import Masker
from optio.version import __version__

log = logging.getLogger(__name__)
_IDLE_S, _OPEN_S, _PROGRAM_OPEN_S, _PAGES = 60.0, 10.0, 30.0, 200
# An answer has at most this; together with what nobody asked for, twice as much since a call, and once more for each open one.
_MAX_ANSWER_BYTES, _MAX_OPEN_CALLS = MAX_LINE_BYTES, 16
_MAX_ERROR = 2000
_US = Implementation(name="optio", version=__version__)


class SessionLost(ConnectionRefused):
    """Raised for a call that a server has not taken, as it has no such session any more: another session may make it."""


class ToolServers:
    """The sessions of all attempts. Without `programs`, connections that are programs are refused."""

    def __init__(self, programs: Programs | None = None) -> None:
        self._programs = programs
        self._sessions: dict[tuple[str, str], ToolSession] = {}
        self._living: set[ToolSession] = set()

    async def session(self, attempt: str, connection: Connection, values: Mapping[str, str]) -> "ToolSession":
        """Return the session of an attempt with a server. `values` are the headers or variables of the server, with secrets.
        Raises ConnectionRefused."""
        place = (attempt, connection.id)
        session = self._sessions.get(place)
        if session is None or session.is_over:
            session = self._sessions[place] = ToolSession(connection, values, self._programs)
            self._living.add(session)
            session.task.add_done_callback(partial(self._forget, place, session))
        await session.opened()
        return session

    def _forget(self, place: tuple[str, str], session: "ToolSession", _: asyncio.Task[None]) -> None:
        self._living.discard(session)
        if self._sessions.get(place) is session:
            del self._sessions[place]

    async def close(self) -> None:
        """End all sessions."""
        tasks = {session.task for session in self._living}
        for session in self._living:
            if not session.is_over:  # others are ending, and have to wait for their programs
                session.task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class ToolSession:
    """One session. `tools` are those of the connection that the server offers, by name."""

    def __init__(self, connection: Connection, values: Mapping[str, str], programs: Programs | None = None) -> None:
        self._connection, self._values, self._programs = connection, values, programs
        self._masker = Masker(secrets_in(templates(connection.spec), values))
        self._status: int | None = None
        self._program: ToolProgram | None = None
        self._client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._turns, self._calls, self._used = asyncio.Semaphore(_MAX_OPEN_CALLS), 0, asyncio.Event()
        self._room = 2 * _MAX_ANSWER_BYTES
        transport = connection.spec.transport if isinstance(connection.spec, McpConnection) else None
        self._is_sse, self._open_s = isinstance(transport, Sse), _PROGRAM_OPEN_S if isinstance(transport, Stdio) else _OPEN_S
        self._is_over = False
        self._cause: ConnectionRefused | None = None
        self.tools: Mapping[str, Tool] = {}
        self.task = asyncio.create_task(self._live())

    @property
    def is_over(self) -> bool:
        """Return whether the session has ended, so that a call needs another one."""
        return self._is_over or self.task.done()

    async def opened(self) -> None:
        """Wait until the server has told its tools. Raises ConnectionRefused."""
        await asyncio.shield(self._client)

    async def call(self, tool: str, arguments: Mapping[str, Any] | None) -> CallToolResult:
        """Call a tool. Raises ConnectionRefused if the server gives no answer, and SessionLost."""
        params = CallToolRequestParams(name=tool, arguments=dict(arguments or {}))
        timeout_s = self._connection.timeout_span.total_seconds()
        try:
            async with asyncio.timeout(timeout_s), self._turns:
                client = await asyncio.shield(self._client)
                if self.is_over:
                    raise SessionLost(self._connection.id, "unreachable", "has ended its session")
                self._room = _MAX_ANSWER_BYTES + (self._room if self._calls else _MAX_ANSWER_BYTES)
                self._calls += 1
                try:
                    # Not `call_tool`, which applies the server's schema to its answer: a pattern in there may take for ever.
                    return await client.session.send_request(CallToolRequest(params=params), CallToolResult)
                finally:
                    self._calls -= 1
                    self._used.set()
        except TimeoutError:
            raise ConnectionRefused(self._connection.id, "unreachable", f"gave no answer in {timeout_s:g} s") from None
        except MCPError as err:
            return await self._answer_of(err)
        except ConnectionRefused:
            raise
        except Exception as err:
            message = f"gives an answer that cannot be read: {type(err).__name__}"
            raise ConnectionRefused(self._connection.id, "unreachable", message) from err

    def masked(self, result: CallToolResult) -> CallToolResult:
        """Return a result without the secrets of the connection, which a server may have put in."""
        data = result.model_dump_json(by_alias=True).encode()
        masked = self._masker(data)
        return result if masked == data else CallToolResult.model_validate_json(masked, by_name=False)

    async def _answer_of(self, err: MCPError) -> CallToolResult:
        """Return an error that the server answers with. Raises ConnectionRefused for one that means that it does not answer."""
        if err.code == CONNECTION_CLOSED:
            self._end()
            if self._cause is None:
                await asyncio.wait({self.task}, timeout=_OPEN_S)
            raise self._cause or ConnectionRefused(self._connection.id, "unreachable", "broke off the call")
        status = self._status or 0
        if status in (401, 403, 404) or status >= 500:
            self._end()
            is_lost = status == 404 and err.code == INVALID_REQUEST
            refusal = self._refusal(err)
            raise SessionLost(refusal.connection, refusal.reason, "has ended its session") if is_lost else refusal
        text = self._masker.text(err.message)[:_MAX_ERROR]
        return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)

    async def _live(self) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(self._open_s):
                    client = await stack.enter_async_context(self._connected())
                    try:
                        self.tools = self._checked(await self._list(client))
                    except ConnectionRefused as refused:
                        self._end(refused)  # what the end of the transport raises is no cause
                        raise
                self._client.set_result(client)
                while not self._is_over:
                    await self._wait_for_use()
        except Exception as err:
            self._cause = self._cause or self._refusal(err)
            log.info("a session with the connection %s ended: %s", self._connection.id, self._cause.message)
        finally:
            self._is_over = True
            if not self._client.done():
                refusal = ConnectionRefused(self._connection.id, "unreachable", "is not reached: the gateway stops")
                self._client.set_exception(self._cause or refusal)
                self._client.exception()  # who waits gets it; nobody may wait any more

    async def _wait_for_use(self) -> None:
        """Wait for the end of a call, or of the session when it is idle."""
        self._used.clear()
        try:
            async with asyncio.timeout(_IDLE_S):
                await self._used.wait()
        except TimeoutError:
            self._is_over = self._is_over or not self._calls

    def _end(self, cause: ConnectionRefused | None = None) -> None:
        """Let the session end, so that the next call makes another one."""
        self._cause = self._cause or cause
        self._is_over = True
        self._used.set()

    def _spend(self, size: int) -> None:
        """Count what the server sends. Raises ConnectionRefused for too much."""
        self._room -= size
        if self._room < 0:
            raise self._refused("sends more than was asked for")

    def _refused(self, message: str) -> ConnectionRefused:
        """End the session for what the server does, and return that."""
        cause = ConnectionRefused(self._connection.id, "unreachable", message)
        self._end(cause)
        return cause

    def _connected(self) -> AbstractAsyncContextManager[Client]:
        return Client(_SessionStreams(self), client_info=_US, cache=None)

    @contextlib.asynccontextmanager
    async def streams(self) -> AsyncIterator[Any]:
        """Yield the streams of the transport."""
        spec = self._connection.spec
        assert isinstance(spec, McpConnection)  # noqa: S101
        transport = spec.transport
        if isinstance(transport, Stdio):
            if self._programs is None:
                raise ConnectionRefused(self._connection.id, "unreachable", "is a program, which only a gateway starts")
            running = self._programs.run(self._connection, transport, self._values, self._masker, self._spend)
            async with running as program:
                self._program = program
                yield _Watched(program, self._end), program
        elif isinstance(transport, Sse):
            async with sse_client(transport.url, headers=dict(self._values), httpx_client_factory=self._http_client) as streams:
                yield _Watched(streams[0], self._end), streams[1]
        else:
            async with (
                self._http_client(dict(self._values)) as client,
                streamable_http_client(transport.url, http_client=client, max_sse_event_size=_MAX_ANSWER_BYTES) as streams,
            ):
                yield _Watched(streams[0], self._end), streams[1]

    def _http_client(self, headers: dict[str, Any] | None = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers={"accept-encoding": "identity", **(headers or {})},
            timeout=timeout or httpx2.Timeout(_OPEN_S, read=self._connection.timeout_span.total_seconds()),
            auth=auth,
            follow_redirects=False,
            event_hooks={"response": [self._check_response]},
        )

    async def _check_response(self, response: httpx2.Response) -> None:
        if response.request.method == "POST":
            self._status = response.status_code
            if self._is_sse and response.status_code >= 400:
                self._end(self._refusal(ConnectionError()))  # no other answer will come
        length = response.headers.get("content-length", "0")
        is_too_large = length.isdecimal() and int(length) > _MAX_ANSWER_BYTES
        if is_too_large or response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            problem = f"more than {_MAX_ANSWER_BYTES >> 20} MiB" if is_too_large else "compressed data, which was not asked for"
            raise self._refused(f"answers with {problem}")
        response.stream = _Counted(response.stream, self._spend)

    async def _list(self, client: Client) -> dict[str, Tool]:
        tools: dict[str, Tool] = {}
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools |= {tool.name: tool for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None:
                return tools
        raise ConnectionRefused(self._connection.id, "unreachable", f"has a list of tools of more than {_PAGES} pages")

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
            problem = f"no answer in {self._open_s:g} s" + ("" if self._program is None else self._program.last_error())
        elif isinstance(err, MCPError) and (self._status or 0) < 300:
            problem = self._masker.text(err.message)[:_MAX_ERROR]
        return ConnectionRefused(self._connection.id, "unreachable", f"cannot be reached: {problem}")


class _SessionStreams:
    """A transport of the SDK."""

    def __init__(self, session: ToolSession) -> None:
        self._streams = session.streams()

    async def __aenter__(self) -> Any:
        return await self._streams.__aenter__()

    async def __aexit__(self, *failure: Any) -> bool | None:
        return await self._streams.__aexit__(*failure)


class _Watched:
    """A stream of messages whose end ends a session, whatever the transport."""

    def __init__(self, stream: Any, end: Callable[[ConnectionRefused | None], None]) -> None:
        self._stream, self._end = stream, end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            message: SessionMessage | Exception = await anext(self._stream)
        except ConnectionRefused as refused:
            self._end(refused)
            raise StopAsyncIteration from None
        except StopAsyncIteration:
            self._end(None)
            raise
        return message

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *failure: Any) -> Any:
        return await self._stream.__aexit__(*failure)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Counted(httpx2.AsyncByteStream):
    """The body of an answer, counted as it comes: `count` is called with the size of each part, and raises to end it."""

    def __init__(self, stream: Any, count: Callable[[int], None]) -> None:
        self._stream, self._count = stream, count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._count(len(chunk))
            yield chunk

    async def aclose(self) -> None:
        """Close the body."""
        await self._stream.aclose()
