"""Go to definition, and find references: from a parameter or file name to its declaration, and from a declaration to its
uses."""

from collections.abc import Iterator
from typing import NamedTuple

from optio.compiler.source import START, Span, span_at
from optio.lsp import outline, params, task_connections
from optio.lsp.outline import ValueStyle
from optio.lsp.pages import OpenPage
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route


class LinkTarget(NamedTuple):
    """A span in a file of the tree; `wire` turns it into the editor's location."""

    path: str
    span: Span


def definition(page: OpenPage, offset: int) -> list[LinkTarget]:
    """Return the declaration of the parameter at an offset, or the start of the file named there."""
    use = _use(page, offset)
    if use is not None:
        return list(dict.fromkeys(_declarations(page, use.name)))
    entry = outline.entry_at(page.entries, offset) if page.is_yaml else None
    name = None if entry is None else task_connections.name_at(page, entry.route)
    if entry is not None and name is not None:
        return _connection(page, name, entry)
    if entry is None or entry.kind is not ValueStyle.SCALAR or not _names_a_file(entry.route) or page.tree is None:
        return []
    path = page.path_beside(page.scalar(entry))
    return [LinkTarget(path, START)] if path is not None and page.tree.read(path) is not None else []


def references(page: OpenPage, offset: int) -> list[LinkTarget]:
    """Return every use of the parameter at an offset, including its declaration."""
    use = _use(page, offset)
    if use is None:
        return []
    declarations = list(_declarations(page, use.name))
    if page.is_yaml:
        declarations += [LinkTarget(page.path, span_at(page.text, o.start, o.end)) for o in _uses(page) if o.name == use.name]
        task = page.task
        if task is not None and task.prompt_path is not None:
            declarations += _declarations_in(task.prompt_path, task.prompt, use.name)
    else:
        declarations += _declarations_in(page.path, page.text, use.name)
    return list(dict.fromkeys(declarations))


def _connection(page: OpenPage, name: str, entry: outline.OutlineEntry) -> list[LinkTarget]:
    """Return the file of a connection, or the place of a tool in it."""
    document = task_connections.document_of(page, name)
    if document is None:
        return []
    is_tool = len(entry.route) == 4 and entry.route[2] == "tools" and entry.kind is ValueStyle.SCALAR
    route: Route = ("tools", page.scalar(entry)) if is_tool else ()
    return [LinkTarget(document.path, document.key_span(route) if route and document.has(route) else START)]


def _use(page: OpenPage, offset: int) -> params.ParamUse | None:
    return params.use_at(_uses(page), offset)


def _uses(page: OpenPage) -> Iterator[params.ParamUse]:
    if page.is_yaml:
        return params.uses(page.text, page.entries)
    return params.placeholders(page.text, 0, len(page.text))


def _declarations(page: OpenPage, name: str) -> Iterator[LinkTarget]:
    """Yield the declaration in the current text, else in the template or defaults that the task inherits it from."""
    entry = page.entry((*params.PROPERTIES, name)) if page.is_yaml else None
    if entry is not None:
        yield LinkTarget(page.path, span_at(page.text, entry.start, entry.end))
        return
    for task in [page.task] if page.is_yaml else page.users():
        place = params.declaration(task, name) if task is not None else None
        if place is not None:
            yield LinkTarget(*place)


def _declarations_in(path: str, text: str, name: str) -> list[LinkTarget]:
    return [LinkTarget(path, span_at(text, at.start(1), at.end(1))) for at in PLACEHOLDER.finditer(text) if at[1] == name]


def _names_a_file(route: Route) -> bool:
    if route[:1] == ("tests",):
        return route[2:] in (("webhook",), ("expect", "prompt"))
    return route in (("promptFile",), ("extends",))
