"""Pins of tools: a server that offers another tool than was pinned is refused, and one that betters its words is not."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from optio.gateway.connections import ConnectionRefused
from optio.gateway.examine import read_offer
from optio.gateway.pins import pin_of
from optio.gateway.tool_servers import ToolSession
from optio.model.connection import Connection, McpConnection
from optio.secrets.local import LocalSecrets
from tests.gateway.tool_server import TOKEN, ToolServer, tool_server
from tests.model_server import MCP_TOOL

VALUES = {"Authorization": f"Bearer {TOKEN}"}
OTHER = {"type": "object", "properties": {"path": {"type": "string"}}}


@pytest.fixture
def server() -> Iterator[ToolServer]:
    with tool_server() as made:
        yield made


def connection(server: ToolServer, pins: Mapping[str, str] | None, used: tuple[str, ...] = (MCP_TOOL,)) -> Connection:
    transport = {"type": "streamable-http", "url": server.url, "headers": VALUES}
    tools = {MCP_TOOL: "read", "delete_all": "write"}
    document = {"type": "connection", "kind": "mcp", "transport": transport, "tools": tools}
    spec = McpConnection.of(document if pins is None else {**document, "pin": pins})
    return Connection(id="tools", spec=spec, tools=used)


def no_program(command: object, variables: object) -> NoReturn:
    raise AssertionError(command)


def pins_of(server: ToolServer) -> dict[str, str]:
    offered = asyncio.run(read_offer(connection(server, None), LocalSecrets(Path("/nonexistent"), {}), no_program))
    return {name: pin_of(tool) for name, tool in offered.items() if name != "big"}


def begin(of: Connection) -> list[str]:
    """Open a session as a run does; return its tools. Raises ConnectionRefused."""

    async def opened() -> list[str]:
        session = ToolSession(of, VALUES)
        try:
            await session.opened()
            return list(session.tools)
        finally:
            session.task.cancel()
            await asyncio.wait({session.task})

    return asyncio.run(opened())


def test_a_run_begins_as_long_as_its_tools_have_the_schemas_that_were_pinned(server: ToolServer) -> None:
    pins = pins_of(server)
    server.descriptions[MCP_TOOL] = "Better words."

    assert begin(connection(server, pins)) == [MCP_TOOL]


def test_a_tool_with_another_schema_is_refused_by_its_name(server: ToolServer) -> None:
    pins = pins_of(server)
    server.tools[MCP_TOOL] = OTHER

    with pytest.raises(ConnectionRefused) as refused:
        begin(connection(server, pins))

    assert refused.value.reason == "changed"
    assert f"offers `{MCP_TOOL}` with other schemas than pinned: see `optio connection diff tools`" in refused.value.message


def test_a_tool_without_a_pin_is_refused_where_others_have_one(server: ToolServer) -> None:
    pins = pins_of(server)
    del pins["delete_all"]

    assert begin(connection(server, pins)) == [MCP_TOOL]
    with pytest.raises(ConnectionRefused, match="`delete_all` with other schemas"):
        begin(connection(server, pins, used=("delete_all",)))


def test_a_changed_tool_that_a_run_does_not_use_is_no_reason_to_refuse_it(server: ToolServer) -> None:
    pins = pins_of(server)
    server.tools["delete_all"] = OTHER

    assert begin(connection(server, pins)) == [MCP_TOOL]
