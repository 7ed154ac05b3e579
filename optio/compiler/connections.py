"""Read `connections/ID.yaml`, and give each task the connections that it names. A run is pinned to what its task was compiled
with, so a later change of the file concerns later runs."""

from collections.abc import Iterator
from dataclasses import replace

from optio.compiler.connection_document import decode
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.layers import Bases, is_connection
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source_tree import MissingFile, SourceTree, Unreadable
from optio.compiler.suggest import suggest
from optio.model.connection import (
    DIRECTORY,
    ID,
    SUFFIXES,
    Connection,
    ConnectionSpec,
    McpConnection,
)
from optio.model.route import Route
from optio.model.task import ConnectionUse
from optio.model.text import slug


def resolve_connections(task: ResolvedTask, tree: SourceTree, bases: Bases) -> tuple[tuple[Connection, ...], list[Diagnostic]]:
    """Return the connections that the task names, with the tools that its runs may call, and the findings about them."""
    connections: dict[str, Connection] = {}
    findings: list[Diagnostic] = []
    for index, use in enumerate(task.spec.connections):
        route: Route = ("connections", index)
        name, place = (use, route) if isinstance(use, str) else (use.id, (*route, "id"))
        if not task.is_known(route):
            continue
        if name in connections:
            hint = "name it once, with all its tools"
            findings.append(task.at("OPT542", f"the connection `{name}` is named twice", place, hint=hint))
            continue
        spec = _read(task, name, place, tree, bases)
        if isinstance(spec, Diagnostic):
            findings.append(spec)
            continue
        problems = list(_wrong_tools(task, use, spec, route))
        findings += problems
        if not problems:
            connections[name] = Connection(id=name, spec=spec, tools=_tools(use, spec))
    return tuple(connections.values()), findings


def _read(task: ResolvedTask, name: str, route: Route, tree: SourceTree, bases: Bases) -> ConnectionSpec | Diagnostic:
    """Return the connection of this name, or the finding at the name that leads to none."""
    if ID.fullmatch(name) is None:
        return _unknown(task, name, route)
    for suffix in SUFFIXES:
        path = f"{DIRECTORY}/{name}{suffix}"
        try:
            document = bases.read(path, tree)
        except MissingFile:
            continue
        except Unreadable as err:
            return task.at("OPT541", f"`{path}` {err.message}", route, hint=err.hint)
        spec = None if document is None or not is_connection(document) else decode(document)[0]
        if spec is None:
            return task.at("OPT541", f"`{path}` cannot be read as a connection", route, hint="correct it first")
        return spec
    return _unknown(task, name, route)


def _unknown(task: ResolvedTask, name: str, route: Route) -> Diagnostic:
    path = f"{DIRECTORY}/{slug(name) or 'my-service'}{SUFFIXES[0]}"
    hint = f"write `{path}`, at the top of the task directory"
    # Which one is meant is known when all files are.
    return replace(task.at("OPT541", f"no connection `{name}`", route, hint=hint), missing_file=path)


def _wrong_tools(task: ResolvedTask, use: str | ConnectionUse, spec: ConnectionSpec, route: Route) -> Iterator[Diagnostic]:
    if isinstance(use, str):
        if isinstance(spec, McpConnection) and not _tools(use, spec):
            hint = f"no tool of it has the class `read`: write `{{id: {use}, tools: [{', '.join(spec.tools)}]}}`, or fewer"
            hint = hint if spec.tools else f"declare its tools in its file, or run `optio connection pin {use} --tools`"
            yield task.at("OPT542", f"the connection `{use}` opens no tool by itself", route, hint=hint)
        return
    if not isinstance(spec, McpConnection):
        message = f"the connection `{use.id}` is of the kind `{spec.kind}`, which has no tools"
        yield task.at("OPT542", message, (*route, "tools"), hint=f"write `{use.id}` alone")
        return
    for number, tool in enumerate(use.tools):
        if tool not in spec.tools:
            near = suggest(tool, spec.tools)
            hint = f"did you mean `{near}`?" if near else f"its tools: {', '.join(spec.tools) or 'none'}"
            message = f"the connection `{use.id}` has no tool `{tool}`"
            yield task.at("OPT542", message, (*route, "tools", number), hint=hint, value=near)
    if not use.tools:
        hint = f"name the tools that the task needs, or write `{use.id}` alone for those of class `read`"
        yield task.at("OPT542", f"no tool of `{use.id}` is named", (*route, "tools"), hint=hint)


def _tools(use: str | ConnectionUse, spec: ConnectionSpec) -> tuple[str, ...]:
    if not isinstance(spec, McpConnection):
        return ()
    if isinstance(use, ConnectionUse):
        return tuple(dict.fromkeys(use.tools))
    return tuple(tool for tool, access in spec.tools.items() if access == "read")
