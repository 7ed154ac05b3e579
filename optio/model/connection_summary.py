"""Summaries of connections: what each opens, and who uses it. `optio connection list`, the API and the dashboard show them.
Values of secrets are never part of one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from optio.model.connection import Connection, ConnectionSpec, HttpConnection, McpConnection
from optio.model.registry import CompiledTask


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedTask:
    """A task that names a connection, and the tools of an MCP server that its runs may call."""

    task_id: str
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSecret:
    """A secret of a connection. `has_value` is None where only a program knows, which was not asked."""

    name: str
    has_value: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSummary:
    """A connection. `address` is a host or a program. `read` and `write` are its tools, allowed requests or models, by whether
    they may change something. `is_pinned` is None where there are no tools to pin."""

    id: str
    kind: str
    description: str
    transport: str | None
    address: str
    read: tuple[str, ...]
    write: tuple[str, ...]
    is_pinned: bool | None
    secrets: tuple[ConnectionSecret, ...]
    tasks: tuple[ConnectedTask, ...]


def summarize(
    specs: Mapping[str, ConnectionSpec], tasks: Iterable[CompiledTask], has_value: Callable[[str], bool | None]
) -> list[ConnectionSummary]:
    """Return the connections by id, each with the tasks that name it."""
    connected: dict[str, list[ConnectedTask]] = {}
    for task in tasks:
        for each in task.connections:
            connected.setdefault(each.id, []).append(ConnectedTask(task_id=task.id, tools=each.tools))
    return [_summary(id, spec, tuple(connected.get(id, ())), has_value) for id, spec in sorted(specs.items())]


def specs_of(tasks: Iterable[CompiledTask]) -> Mapping[str, ConnectionSpec]:
    """Return the connections that these tasks were compiled with. Of two versions, that of the last task counts."""
    return {each.id: each.spec for task in tasks for each in task.connections}


def _summary(
    id: str, spec: ConnectionSpec, tasks: tuple[ConnectedTask, ...], has_value: Callable[[str], bool | None]
) -> ConnectionSummary:
    tools = tuple(spec.tools) if isinstance(spec, McpConnection) else ()
    connection = Connection(id=id, spec=spec, tools=tools)
    entries = tools or tuple(spec.allow if isinstance(spec, HttpConnection) else getattr(spec, "models", None) or ())
    is_pinned = None
    if isinstance(spec, McpConnection):
        is_pinned = spec.pin is not None and spec.tools.keys() <= spec.pin.keys()
    return ConnectionSummary(
        id=id,
        kind=spec.kind,
        description=spec.description,
        transport=spec.transport.type if isinstance(spec, McpConnection) else None,
        address=connection.address,
        read=tuple(entry for entry in entries if entry not in connection.writes),
        write=connection.writes,
        is_pinned=is_pinned,
        secrets=tuple(ConnectionSecret(name=name, has_value=has_value(name)) for name in connection.secrets),
        tasks=tasks,
    )
