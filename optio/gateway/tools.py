"""Tools: to an agent all MCP connections of its run are one MCP server, `/mcp`, which offers the tools that the task names.

A tool is called `CONNECTION__TOOL`. Requests that a server makes of its client, such as elicitation and sampling, are refused,
and a result that is too large is cut, with a word that says so.
"""

import asyncio
import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mcp.server import Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from optio.errors import SecretUnavailable, StoreUnavailable
from optio.gateway.asgi import CallRefused, Message, Receive, Send
from optio.gateway.connections import ConnectionRefused, Connections
from optio.gateway.programs import Programs
from optio.gateway.tool_servers import SessionLost, ToolServers, ToolSession
from optio.model.connection import Connection, McpConnection
from optio.model.model_call import AttemptKey
from optio.version import __version__

# What the CLIs put before it must fit into the 64 characters that services of models allow.
_MAX_NAME = 50
_MAX_RESULT_BYTES = 256 << 10
_KEY = "optio.key"


class _RunTool(NamedTuple):
    connection: Connection
    spec: McpConnection
    name: str  # the server's own


class Tools:
    """The MCP server of a gateway. It keeps no session with an agent: any gateway may answer any request."""

    def __init__(self, connections: Connections, programs: Programs | None = None) -> None:
        self._connections, self._servers = connections, ToolServers(programs)
        server: Server[Any] = Server("optio", version=__version__, on_list_tools=self._list, on_call_tool=self._call)
        self._manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)
        self._is_closed = asyncio.Event()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._living = asyncio.create_task(self._live())

    async def serve(self, key: AttemptKey, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request of an agent. Raises CallRefused."""
        if scope["method"] != "POST":
            # There is no session to end, nor anything to say unasked: a stream that is held open costs a task.
            raise CallRefused(405, "method", f"`{scope['method']}` is not answered here: send messages by POST")
        await asyncio.shield(self._started)
        await self._manager.handle_request({**scope, _KEY: key}, receive, send)

    async def close(self) -> None:
        """End all sessions."""
        await self._servers.close()
        self._is_closed.set()
        await self._living

    async def _live(self) -> None:
        # In a task of its own: the SDK ends where it began.
        async with self._manager.run():
            self._started.set_result(None)
            await self._is_closed.wait()

    async def check(self, key: AttemptKey) -> None:
        """Reach every server of a run, and compare what it offers. Raises ConnectionRefused, SecretUnavailable and
        StoreUnavailable."""
        connections = await self._connections.of(key)
        await asyncio.gather(
            *(self._session(key, each) for each in connections.values() if isinstance(each.spec, McpConnection))
        )

    async def _tools_of(self, key: AttemptKey) -> Mapping[str, _RunTool]:
        """Return the tools of a run by the names that its agent knows. Raises StoreUnavailable."""
        return {
            tool_name(connection.id, name): _RunTool(connection, connection.spec, name)
            for connection in (await self._connections.of(key)).values()
            if isinstance(connection.spec, McpConnection)
            for name in connection.tools
        }

    async def _session(self, key: AttemptKey, connection: Connection) -> ToolSession:
        return await self._servers.session(key.digest, connection, await self._connections.filled_in(connection))

    async def _list(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        try:
            return ListToolsResult(tools=await self._offered(_key_of(context)))
        except (StoreUnavailable, SecretUnavailable):
            raise MCPError(INTERNAL_ERROR, "Optio: the gateway cannot take calls now") from None

    async def _offered(self, key: AttemptKey) -> list[Tool]:
        """Return the tools that an agent is offered: those of a server that has gone away meanwhile are left out. Raises
        StoreUnavailable and SecretUnavailable."""
        tools = await self._tools_of(key)
        connections = list({tool.connection.id: tool.connection for tool in tools.values()}.values())
        sessions = await asyncio.gather(*(self._session(key, each) for each in connections), return_exceptions=True)
        offered: dict[tuple[str, str], Tool] = {}
        for connection, session in zip(connections, sessions, strict=True):
            if isinstance(session, ToolSession):
                offered |= {(connection.id, name): tool for name, tool in session.tools.items()}
            elif not isinstance(session, ConnectionRefused):
                raise session
        return [
            Tool(
                name=name,
                title=found.title,
                description=found.description,
                input_schema=found.input_schema,
                output_schema=found.output_schema,
                annotations=found.annotations,
            )
            for name, tool in tools.items()
            if (found := offered.get((tool.connection.id, tool.name))) is not None
        ]

    async def _call(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        key = _key_of(context)
        try:
            tools = await self._tools_of(key)
            if params.name not in tools:
                return _failure(f"this run has no tool `{params.name[:_MAX_NAME]}`: it has {', '.join(tools) or 'none'}")
            tool = tools[params.name]
            await self._connections.count(key, tool.connection, tool.spec.max_calls)
            try:
                return await self._pass(key, tool, params)
            except SessionLost:
                return await self._pass(key, tool, params)
        except (ConnectionRefused, CallRefused) as refused:
            return _failure(refused.message)
        except (StoreUnavailable, SecretUnavailable):
            return _failure("the gateway cannot take calls now")

    async def _pass(self, key: AttemptKey, tool: _RunTool, params: CallToolRequestParams) -> CallToolResult:
        session = await self._session(key, tool.connection)
        return session.masked(cut(await session.call(tool.name, params.arguments)))


def tool_name(connection: str, tool: str) -> str:
    """Return the name by which an agent knows a tool: letters, digits, `_` and `-`, and short enough for all of them."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{connection}__{tool}")
    if len(name) <= _MAX_NAME and name == f"{connection}__{tool}":
        return name
    return f"{name[: _MAX_NAME - 7]}_{hashlib.sha256(tool.encode()).hexdigest()[:6]}"


def cut(result: CallToolResult) -> CallToolResult:
    """Return a result of bounded size: of what is too large, the beginning of its text."""
    size = len(result.model_dump_json(by_alias=True))
    if size <= _MAX_RESULT_BYTES:
        return result
    text = "\n".join(item.text for item in result.content if isinstance(item, TextContent))
    kept = text.encode("utf-8", "replace")[:_MAX_RESULT_BYTES].decode("utf-8", "ignore")
    note = f"[Optio: cut, as the result has {size} bytes and {_MAX_RESULT_BYTES} pass]"
    return CallToolResult(content=[TextContent(type="text", text=f"{kept}\n{note}")], is_error=result.is_error)


def _failure(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=f"Optio: {message}")], is_error=True)


def _key_of(context: ServerRequestContext[Any]) -> AttemptKey:
    key = context.request.scope[_KEY]  # type: ignore[union-attr]
    assert isinstance(key, AttemptKey)  # noqa: S101
    return key
