"""Completion: keys from the schema, values, parameters, files, and paths of the payload that the task's tests contain."""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import available_timezones

from optio.compiler.checks.samples import paths_of
from optio.compiler.checks.zone_names import MACHINE_ZONES
from optio.compiler.payloads.deliveries import event_names, paths_sent
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source_tree import SUFFIXES
from optio.lsp import keys, outline, params, task_connections
from optio.lsp.keys import Schema
from optio.lsp.outline import CursorContext, CursorPlace, ValueStyle
from optio.lsp.pages import OpenPage
from optio.model.route import Route
from optio.scheduling import cron

_MAX_ITEMS = 1_000
_INDENT = "  "
# A path that begins in a filter.
_IN_FILTER = re.compile(r"@[\w.\[\]]*\Z")
_TEMPLATES: Route = ("extends",)
_CONNECTIONS: tuple[Route, ...] = (("connections", 0), ("connections", 0, "id"))
_TOOLS: Route = ("connections", 0, "tools", 0)
_FILES: dict[Route, tuple[str, ...]] = {
    ("extends",): SUFFIXES,
    ("promptFile",): (".md", ".txt", ".prompt"),
    ("tests", 0, "webhook"): (".json",),
    ("tests", 0, "expect", "prompt"): (".md", ".txt"),
}


class CompletionKind(Enum):
    """The kind of a completion; `wire` maps it to the editor's icons."""

    KEY = "key"
    VALUE = "value"
    PARAMETER = "parameter"
    FILE = "file"
    SNIPPET = "snippet"


class CompletionItem(NamedTuple):
    """A proposal: `text` replaces `start:end`. A `snippet` has placeholders such as `${1:name}`; items with a lower `rank` come
    first."""

    label: str
    text: str
    sort: CompletionKind
    start: int
    end: int
    detail: str = ""
    markdown: str = ""
    rank: int = 1
    snippet: bool = False


class _Cursor(NamedTuple):
    """The place to complete at: a page, what belongs there, and the offset of the cursor."""

    page: OpenPage
    context: CursorContext
    offset: int

    def value(self, text: str, label: str = "", detail: str = "", markdown: str = "") -> CompletionItem:
        """Return a proposal for a value, whose text is its label unless it needs quotes."""
        return CompletionItem(label or text, text, CompletionKind.VALUE, self.context.start, self.offset, detail, markdown)

    def siblings(self, parent: Route) -> set[str]:
        """Return the texts of a list that is written already, but for the one at the cursor."""
        entries = (entry for entry in self.page.entries if entry.route[:-1] == parent and entry.kind is ValueStyle.SCALAR)
        return {self.page.scalar(entry) for entry in entries} - {self.context.word}


def complete(page: OpenPage, offset: int, *, snippets: bool) -> list[CompletionItem]:
    """Return everything that could be written at an offset, the likeliest first, at most `_MAX_ITEMS`."""
    word = params.open_placeholder(page.text, offset)
    if not page.is_yaml:
        return list(_placeholders(page, offset, word)) if word is not None else []
    context = outline.context(page.text, offset)
    if word is not None and context.where in (CursorPlace.TEXT, CursorPlace.VALUE):
        return list(_placeholders(page, offset, word))
    cursor = _Cursor(page, context, offset)
    items = list(_keys(cursor)) if context.where is CursorPlace.KEY else []
    if context.where in (CursorPlace.KEY, CursorPlace.VALUE):
        items += _values(cursor)
    items = [item if snippets or not item.snippet else _without_placeholders(item) for item in items]
    return [item for item in items if item.text][:_MAX_ITEMS]


def _placeholders(page: OpenPage, offset: int, word: str) -> Iterator[CompletionItem]:
    closed = page.text.startswith("}}", offset)
    tasks = [page.task] if page.is_yaml else page.users()
    for task in tasks:
        for name, schema in params.declared_params(task).items() if task is not None else ():
            detail = str(schema.get("type", "")) if isinstance(schema, dict) else ""
            text = name if closed else name + "}}"
            yield CompletionItem(name, text, CompletionKind.PARAMETER, offset - len(word), offset, detail, _schema_text(schema))


def _schema_text(schema: Any) -> str:
    return str(schema.get("description", "")) if isinstance(schema, dict) else ""


def _keys(cursor: _Cursor) -> Iterator[CompletionItem]:
    page, context, offset = cursor
    route = context.route
    siblings = {
        entry.route[-1] for entry in page.entries if entry.route[:-1] == route and not entry.start <= context.start <= entry.end
    }
    if len(route) == 4 and route[0] == "triggers" and route[3] == "paramMapping" and page.task is not None:
        yield from (item for item in _mapped_params(cursor, page.task) if item.label not in siblings)
        return
    kind = keys.schema_kind(page.path)
    offered: set[str] = set()
    for schema in keys.schemas_at(kind, route, page.written):
        for key in schema.get("properties", {}):
            if key in siblings or key in offered:
                continue
            offered.add(key)
            own = keys.merge_schemas(keys.schemas_at(kind, (*route, key), page.written))
            rank = 0 if key in schema.get("required", ()) else 1
            text, documentation = _with_key(key, own, context), keys.key_markdown(key, own)
            yield CompletionItem(
                key, text, CompletionKind.KEY, context.start, offset, keys.value_text(own), documentation, rank, snippet=True
            )
        if not siblings:
            yield from _snippets(schema, context, offset)


def _mapped_params(cursor: _Cursor, task: ResolvedTask) -> Iterator[CompletionItem]:
    """Yield the parameters that a trigger can map, those first that it must."""
    place = "\\$.$0" if cursor.page.written((*cursor.context.route[:2], "type")) == "webhook" else "$0"
    required = params.required_params(task)
    for name, schema in params.declared_params(task).items():
        yield CompletionItem(
            name,
            f"{name}: {place}",
            CompletionKind.PARAMETER,
            cursor.context.start,
            cursor.offset,
            "required" if name in required else "",
            _schema_text(schema),
            rank=0 if name in required else 1,
            snippet=True,
        )


def _with_key(key: str, schema: Schema, context: CursorContext) -> str:
    """Return the key with the part of its value that is always the same."""
    choices = [choice.text for choice in keys.allowed_values(schema)]
    kind = keys.type_of(schema)
    if len(choices) == 1:
        value = choices[0]
    elif choices:
        value = f"${{1|{','.join(choices)}|}}"
    elif key == "promptTemplate" and not context.flow:
        value = f"|\n{_INDENT}$0"
    elif kind == "object" or "properties" in schema:
        value = "{$0}" if context.flow else f"\n{_INDENT}$0"
    elif kind == "array":
        value = "[$0]" if context.flow else f"\n{_INDENT}- $0"
    elif kind == "string" and "pattern" in schema and schema.get("examples"):
        example = str(schema["examples"][0])
        is_number = example[:1].isdigit() and example.replace(".", "").isdigit()
        value = f'"${{1:{example}}}"' if is_number else f"${{1:{example}}}"
    else:
        value = "$0"
    return f"{key}:{value}" if value.startswith("\n") else f"{key}: {value}"


def _snippets(schema: Schema, context: CursorContext, offset: int) -> Iterator[CompletionItem]:
    if context.flow:
        return
    for snippet in schema.get("defaultSnippets", ()):
        text = "\n".join(_lines(snippet["body"]))
        yield CompletionItem(
            snippet["label"], text, CompletionKind.SNIPPET, context.start, offset, "", f"```yaml\n{text}\n```", 2, snippet=True
        )


def _lines(body: Any) -> Iterator[str]:
    """Yield the body of a snippet as YAML lines. `^` before a placeholder means that it takes no quotes."""
    if isinstance(body, Mapping):
        for key, value in body.items():
            if isinstance(value, Mapping | list):
                yield f"{key}:"
                yield from (_INDENT + line for line in _lines(value))
            else:
                yield f"{key}: {_scalar(value)}"
    else:
        for item in body:
            first, *rest = _lines(item) if isinstance(item, Mapping | list) else [_scalar(item)]
            yield f"- {first}"
            yield from (_INDENT + line for line in rest)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).removeprefix("^")


def _values(cursor: _Cursor) -> Iterator[CompletionItem]:
    """Yield the values that can stand at the cursor, by the route of their key."""
    route = cursor.context.route
    general: Route = tuple(0 if isinstance(step, int) else step for step in route)
    if general in _FILES:
        return _files(cursor, _FILES[general])
    if general == (*params.REQUIRED, 0):
        return _required_params(cursor)
    if len(route) == 5 and route[3] in _BY_CONFIG_KEY:
        return _BY_CONFIG_KEY[route[3]](cursor)
    if general in _CONNECTIONS:
        return map(cursor.value, sorted(set(task_connections.names(cursor.page)) - cursor.siblings(route[:-1])))
    if general == _TOOLS:
        return _tools(cursor)
    if route[3:] == ("when",):
        return iter(list(_filter(cursor)) or _choices(cursor))
    return _BY_LAST_KEY.get(route[-1] if route else "", _choices)(cursor)


def _zones(cursor: _Cursor) -> Iterator[CompletionItem]:
    return map(cursor.value, sorted(available_timezones() - MACHINE_ZONES))


def _presets(cursor: _Cursor) -> Iterator[CompletionItem]:
    for words, expression in cron.PRESETS.items():
        yield cursor.value(expression if cursor.context.quote else f'"{expression}"', expression, words)


def _events(cursor: _Cursor) -> Iterator[CompletionItem]:
    route = cursor.context.route
    names = event_names(str(cursor.page.written((*route[:3], "scheme"))))
    for event in sorted(set(names) - cursor.siblings(route[:-1])):
        yield cursor.value(f'"{event}"' if " " in event and not cursor.context.quote else event, event)


def _required_params(cursor: _Cursor) -> Iterator[CompletionItem]:
    task, siblings = cursor.page.task, cursor.siblings(params.REQUIRED)
    for name in params.declared_params(task) if task is not None else ():
        if name not in siblings:
            yield cursor.value(name)._replace(sort=CompletionKind.PARAMETER)


def _tools(cursor: _Cursor) -> Iterator[CompletionItem]:
    """Yield the tools of the connection in whose list the cursor is."""
    route = cursor.context.route
    name = task_connections.name_at(cursor.page, route)
    document = None if name is None else task_connections.document_of(cursor.page, name)
    tools = None if document is None else document.value.get("tools")
    for tool, access in tools.items() if isinstance(tools, dict) else ():
        if tool not in cursor.siblings(route[:-1]):
            yield cursor.value(str(tool), detail=str(access))


def _choices(cursor: _Cursor) -> Iterator[CompletionItem]:
    page, context, _ = cursor
    for schema in keys.schemas_at(keys.schema_kind(page.path), context.route, page.written):
        choices = keys.allowed_values(schema)
        yield from (cursor.value(choice.text, markdown=choice.meaning) for choice in choices)
        if choices or "properties" in schema:
            continue
        for example in schema.get("examples", ()):
            if isinstance(example, str):
                needs_quotes = not context.quote and (example[:1] in "@*&!%" or example.replace(".", "").isdigit())
                yield cursor.value(f'"{example}"' if needs_quotes else example, example, "an example")


def _files(cursor: _Cursor, endings: tuple[str, ...]) -> Iterator[CompletionItem]:
    """Yield files of the tree as this file would name them, except those it may not read."""
    page = cursor.page
    if page.tree is None:
        return
    directory = posixpath.dirname(page.path)
    for path in page.tree.paths():
        name = posixpath.relpath(path, directory or ".")
        if path.endswith(endings) and path != page.path and not name.startswith(".."):
            if cursor.context.route == _TEMPLATES and b"type: template" not in (page.tree.read(path) or b""):
                continue
            yield cursor.value(name)._replace(sort=CompletionKind.FILE)


def _payload(cursor: _Cursor) -> Iterator[CompletionItem]:
    for path, sample_path in _payload_paths(cursor.page, cursor.context.route):
        odd = " #" in path or ": " in path or (cursor.context.flow and any(sign in path for sign in "[]{},"))
        yield cursor.value(f"'{path}'" if odd and not cursor.context.quote else path, path, sample_path)


def _filter(cursor: _Cursor) -> Iterator[CompletionItem]:
    opening = _IN_FILTER.search(cursor.page.text, cursor.context.start, cursor.offset)
    if opening is None:
        return
    for path, sample_path in _payload_paths(cursor.page, cursor.context.route):
        yield cursor.value(f"@{path[1:]}", detail=sample_path)._replace(start=opening.start())


# The key below a trigger's `config` of a list or mapping, and the last key of a route -> what completes its values.
_BY_CONFIG_KEY: dict[str | int, Callable[[_Cursor], Iterator[CompletionItem]]] = {"events": _events, "paramMapping": _payload}
_BY_LAST_KEY: dict[str | int, Callable[[_Cursor], Iterator[CompletionItem]]] = {
    "timezone": _zones,
    "cronExpression": _presets,
}


def _payload_paths(page: OpenPage, route: Route) -> Iterator[tuple[str, str]]:
    """Yield (path, sample) for each path in the payloads of the tests, or without tests those that the sender publishes."""
    task = page.task
    if task is None or page.written((*route[:2], "type")) != "webhook":
        return
    examples: dict[str, str] = {}
    for sample in task.samples:
        for path in paths_of(sample.payload):
            examples.setdefault(path, sample.path)
    hook = task.spec.webhook
    if not task.samples and hook is not None:
        examples = paths_sent(hook.config.scheme, hook.config.events or ())
    yield from sorted(examples.items())


def _without_placeholders(item: CompletionItem) -> CompletionItem:
    """Reduce a snippet to its fixed part, for editors without snippets."""
    if item.sort is CompletionKind.SNIPPET:
        return item._replace(text="")
    return item._replace(
        text=item.label + ": " if item.sort in (CompletionKind.KEY, CompletionKind.PARAMETER) else item.text, snippet=False
    )
