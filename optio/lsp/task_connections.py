"""The connections that a task names: their names and tools for completion, what each opens for hover, and where each is
declared."""

import posixpath
from collections.abc import Iterator

from optio.compiler.connection_document import decode
from optio.compiler.layers import is_connection
from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import Document, parse
from optio.lsp.markdown import inline_code
from optio.lsp.pages import OpenPage
from optio.model.connection import DIRECTORY, SUFFIXES, Connection, HttpConnection, McpConnection, ModelConnection
from optio.model.route import Route

_KINDS = {"mcp": "an MCP server", "http": "a service over HTTP", "model": "a model service"}


def names(page: OpenPage) -> list[str]:
    """Return the names of the tree's connections."""
    paths = [] if page.tree is None else page.tree.paths()
    files = (posixpath.split(path) for path in paths if path.endswith(SUFFIXES))
    return sorted({posixpath.splitext(name)[0] for directory, name in files if directory == DIRECTORY})


def name_at(page: OpenPage, route: Route) -> str | None:
    """Return the connection that a task names at a route, or whose tools it names there; None for another route."""
    if route[:1] != ("connections",) or len(route) < 2:
        return None
    return page.written(route) if len(route) == 2 else page.written((*route[:2], "id"))


def document_of(page: OpenPage, name: str) -> Document | None:
    """Return the file of a connection; None where the tree has none that can be read."""
    for suffix in SUFFIXES:
        path = f"{DIRECTORY}/{name}{suffix}"
        data = None if page.tree is None else page.tree.read(path)
        document = None if data is None else parse(SourceFile(path, data))[0]
        if document is not None and is_connection(document):
            return document
    return None


def connection_of(page: OpenPage, name: str) -> Connection | None:
    """Return a connection with the tools that the task names, or with all; None where its file is wrong."""
    task = page.task
    used = next((each for each in task.connections if each.id == name), None) if task is not None else None
    document = document_of(page, name)
    spec = None if document is None else decode(document)[0]
    if spec is None:
        return used
    all_tools = tuple(spec.tools) if isinstance(spec, McpConnection) else ()
    tools = all_tools if used is None else tuple(tool for tool in used.tools if tool in all_tools)
    return Connection(id=name, spec=spec, tools=tools)


def describe(connection: Connection) -> str:
    """Return what a connection opens for a run, as Markdown."""
    spec = connection.spec
    address = inline_code(connection.address)
    head = f"**{inline_code(connection.id)}**: {_KINDS[spec.kind]}, {address}"
    return "\n".join([head, "", *([spec.description, ""] if spec.description else []), *_entries(connection)])


def _entries(connection: Connection) -> Iterator[str]:
    spec, writes = connection.spec, connection.writes
    if isinstance(spec, McpConnection):
        yield f"- tools of the run: {_listed(tuple(tool for tool in connection.tools if tool not in writes)) or 'none'}"
    elif isinstance(spec, HttpConnection):
        yield f"- address in the run: {inline_code('$' + connection.variable)}"
        yield f"- requests: {_listed(tuple(entry for entry in spec.allow if entry not in writes)) or 'none'}"
    elif isinstance(spec, ModelConnection):
        yield f"- models: {_listed(tuple(spec.models)) or 'any'}"
    if writes:
        yield f"- changes something by: {_listed(writes)}"
    if connection.secrets:
        yield f"- secrets, which only the gateway reads: {_listed(connection.secrets)}"


def _listed(texts: tuple[str, ...]) -> str:
    return ", ".join(map(inline_code, texts))
