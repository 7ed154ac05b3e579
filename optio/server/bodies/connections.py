"""Bodies of connections: what runs may reach through the gateway, and which tasks do."""

from typing import Annotated

from optio.server.bodies.base import Body, Source


class ConnectionSecretBody(Body, frozen=True, kw_only=True):
    """A secret of a connection, by its name."""

    name: str
    has_value: bool | None
    """Whether this machine has a value for it; null if only a program knows, which was not asked."""


class ConnectedTaskBody(Body, frozen=True, kw_only=True):
    """A task that names the connection."""

    task_id: str
    tools: list[str]
    """The tools of an MCP server that its runs may call."""


class ConnectionBody(Body, frozen=True, kw_only=True):
    """A service that runs reach through the gateway."""

    id: str
    kind: str
    """`mcp`, `http` or `model`."""
    description: str
    transport: str | None
    """How the gateway reaches an MCP server: `streamable-http`, `sse` or `stdio`."""
    address: str
    """The host that the gateway reaches, or the program that it starts."""
    read: list[str]
    """Tools of class `read`, allowed requests that change nothing, or patterns of models."""
    write: list[str]
    """Tools of class `write`, or allowed requests that may change something."""
    pinned: Annotated[bool | None, Source("is_pinned")]
    """Whether each tool is pinned; null where there are no tools."""
    secrets: list[ConnectionSecretBody]
    tasks: list[ConnectedTaskBody]


class ConnectionListBody(Body, frozen=True, kw_only=True):
    """The connections that served tasks name."""

    items: list[ConnectionBody]
