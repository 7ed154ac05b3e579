"""A real MCP server (streamable HTTP, the SDK's) with tools that a test chooses, behind a bearer token."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool, ToolAnnotations

from tests.model_server import MCP_TOOL

TOKEN = "mcp-token-canary-0123456789"
_TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@dataclass
class ToolServer:
    """What the server offers, may be changed at any time, and what it was asked."""

    url: str = ""
    tools: dict[str, dict[str, Any]] = field(default_factory=lambda: {MCP_TOOL: _TEXT, "delete_all": _TEXT, "big": _TEXT})
    descriptions: dict[str, str] = field(default_factory=dict)
    readers: set[str] = field(default_factory=set)  # tools that the server itself calls read-only
    is_closed: bool = False  # it refuses each request
    pause_s: float = 0.0
    calls: list[str] = field(default_factory=list)
    requests: int = 0

    async def list_tools(self, context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[self._tool(name) for name in self.tools])

    def _tool(self, name: str) -> Tool:
        return Tool(
            name=name,
            description=self.descriptions.get(name, "A tool."),
            input_schema=self.tools[name],
            annotations=ToolAnnotations(read_only_hint=True) if name in self.readers else None,
        )

    async def call_tool(self, context: Any, params: Any) -> CallToolResult:
        self.calls.append(params.name)
        await asyncio.sleep(self.pause_s)
        text = "x" * 50_000_000 if params.name == "big" else f"echo: {(params.arguments or {}).get('text')}"
        return CallToolResult(content=[TextContent(type="text", text=text)])


@contextlib.contextmanager
def tool_server() -> Iterator[ToolServer]:
    """Serve on a free port of loopback."""
    offered = ToolServer()
    server: Server[Any] = Server("tools", on_list_tools=offered.list_tools, on_call_tool=offered.call_tool)
    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=False)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        offered.requests += 1
        if offered.is_closed or dict(scope["headers"]).get(b"authorization") != f"Bearer {TOKEN}".encode():
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})
            return
        await manager.handle_request(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as sock:
        offered.url = f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
        running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        running.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]

        async def live() -> None:
            async with manager.run():
                await running.serve(sockets=[sock])

        thread = threading.Thread(target=lambda: asyncio.run(live()))
        thread.start()
        try:
            yield offered
        finally:
            running.should_exit = True
            thread.join()
