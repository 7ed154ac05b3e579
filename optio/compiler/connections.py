"""Read `connections/ID.yaml`, and give each task the connections that it names. A run is pinned to what its task was compiled
with, so a later change of the file concerns later runs."""

import posixpath
from collections.abc import Iterator
from typing import Any

from optio.compiler.diagnostics import Diagnostic, diagnostic
from optio.compiler.layers import Bases, is_connection
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source_tree import MissingFile, SourceTree, Unreadable
from optio.compiler.suggest import suggest
from optio.compiler.validation import ValidationIssue, find_issues
from optio.compiler.yaml.document import Document
from optio.model.connection import (
    DIRECTORY,
    ID,
    KINDS,
    SUFFIXES,
    Connection,
    ConnectionSpec,
    McpConnection,
)
from optio.model.route import Route, show
from optio.model.spec import names_of
from optio.model.task import ConnectionUse
from optio.model.text import slug

_KINDS = ", ".join(f"`{kind}`" for kind in KINDS)


def check_connection(document: Document) -> list[Diagnostic]:
    """Return the findings about a connection's own file."""
    _, findings = _decode(document)
    directory, name = posixpath.split(document.path)
    stem = posixpath.splitext(name)[0]
    span = document.span(("type",))
    if directory != DIRECTORY:
        message = f"a connection is a file of `{DIRECTORY}/` at the top of the task directory, so no task finds this one"
        hint = f"move it to `{DIRECTORY}/{name}`"
        findings.append(diagnostic("OPT540", message, path=document.path, span=span, route=("type",), hint=hint))
    elif ID.fullmatch(stem) is None:
        message = f"tasks name a connection by its file, and `{stem}` is no such name"
        hint = f"rename it to `{slug(stem) or 'my-service'}.yaml`: a-z, 0-9 and single dashes"
        findings.append(diagnostic("OPT540", message, path=document.path, span=span, route=("type",), hint=hint))
    return findings


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
        return _unknown(task, name, route, tree)
    for suffix in SUFFIXES:
        path = f"{DIRECTORY}/{name}{suffix}"
        try:
            document = bases.read(path, tree)
        except MissingFile:
            continue
        except Unreadable as err:
            return task.at("OPT541", f"`{path}` {err.message}", route, hint=err.hint)
        spec = None if document is None or not is_connection(document) else _decode(document)[0]
        if spec is None:
            return task.at("OPT541", f"`{path}` cannot be read as a connection", route, hint="correct it first")
        return spec
    return _unknown(task, name, route, tree)


def _unknown(task: ResolvedTask, name: str, route: Route, tree: SourceTree) -> Diagnostic:
    known_names = [
        posixpath.splitext(posixpath.basename(path))[0] for path in tree.task_files() if posixpath.dirname(path) == DIRECTORY
    ]
    near = suggest(name, known_names)
    if near is not None:
        return task.at("OPT541", f"no connection `{name}`", route, hint=f"did you mean `{near}`?", value=near)
    if known_names:
        hint = f"connections: {', '.join(known_names)}; or write `{DIRECTORY}/{slug(name) or 'my-service'}.yaml`"
    else:
        hint = f"write `{DIRECTORY}/{slug(name) or 'my-service'}.yaml`, at the top of the task directory"
    return task.at("OPT541", f"no connection `{name}`", route, hint=hint)


def _wrong_tools(task: ResolvedTask, use: str | ConnectionUse, spec: ConnectionSpec, route: Route) -> Iterator[Diagnostic]:
    if isinstance(use, str):
        if isinstance(spec, McpConnection) and not _tools(use, spec):
            tools = ", ".join(spec.tools) or "tool"
            hint = f"no tool of it has the class `read`: write `{{id: {use}, tools: [{tools}]}}` with those that the task needs"
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


def _decode(document: Document) -> tuple[ConnectionSpec | None, list[Diagnostic]]:
    """Return the connection as its file states it, None where that is wrong, and the findings."""
    value: dict[str, Any] = document.value
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        route: Route = ("kind",) if "kind" in value else ("type",)
        message = f"`{kind}` is no kind of connection" if "kind" in value else "`kind` is missing"
        hint = f"write one of {_KINDS}"
        return None, [diagnostic("OPT540", message, path=document.path, span=document.span(route), route=route, hint=hint)]
    model = KINDS[kind]
    try:
        return model.of(value), []
    except ValueError:
        return None, [_wrong(document, issue, names_of(model)) for issue in find_issues(value, model)]


def _wrong(document: Document, issue: ValidationIssue, known_names: list[str]) -> Diagnostic:
    route = issue.route
    span = document.key_span(route) if issue.kind == "unknown" else document.span(route)
    message, hint = f"`{show(route)}` cannot be read", "see `optio explain OPT540`"
    if issue.kind == "missing":
        message, hint = f"`{show(route)}` is missing", f"add `{route[-1]}:`"
        span = document.span(route[:-1]) if route[:-1] else document.span(("type",))
    elif issue.kind == "unknown":
        message = f"unknown key `{show(route)}`"
        near = suggest(str(route[-1]), known_names) if len(route) == 1 else None
        hint = f"did you mean `{near}`?" if near else "delete it"
    elif issue.kind in ("word", "variant"):
        wanted = issue.wanted or ("streamable-http", "sse", "stdio")
        hint = f"write one of {', '.join(map(str, wanted))}"
    elif issue.kind == "type":
        hint = f"write {issue.wanted}"
    return diagnostic("OPT540", message, path=document.path, span=span, route=route, hint=hint)
