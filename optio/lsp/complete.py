"""Completion: keys from the schema, values, parameters, files, and paths of the payload that the task's tests contain."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import available_timezones

from optio.compiler.checks.samples import paths_of
from optio.compiler.checks.zone_names import MACHINE_ZONES
from optio.compiler.payloads.deliveries import event_names, paths_sent
from optio.compiler.source_tree import SUFFIXES
from optio.lsp import keys, outline, params
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


def complete(page: OpenPage, offset: int, *, snippets: bool) -> list[CompletionItem]:
    """Return everything that could be written at an offset, the likeliest first, at most `_MAX_ITEMS`."""
    word = params.open_placeholder(page.text, offset)
    if not page.is_yaml:
        return list(_placeholders(page, offset, word)) if word is not None else []
    context = outline.context(page.text, offset)
    if word is not None and context.where in (CursorPlace.TEXT, CursorPlace.VALUE):
        return list(_placeholders(page, offset, word))
    if context.where is CursorPlace.KEY:
        items = [*_keys(page, context, offset), *_values(page, context, offset)]
    elif context.where is CursorPlace.VALUE:
        items = list(_values(page, context, offset))
    else:
        return []
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


def _keys(page: OpenPage, context: CursorContext, offset: int) -> Iterator[CompletionItem]:
    route, task = context.route, page.task
    siblings = {
        entry.route[-1] for entry in page.entries if entry.route[:-1] == route and not entry.start <= context.start <= entry.end
    }
    if len(route) == 4 and route[0] == "triggers" and route[3] == "paramMapping" and task is not None:
        webhook = page.written((*route[:2], "type")) == "webhook"
        for name, schema in params.declared_params(task).items():
            if name not in siblings:
                is_required = name in params.required_params(task)
                text = f"{name}: \\$.$0" if webhook else f"{name}: $0"
                yield CompletionItem(
                    name,
                    text,
                    CompletionKind.PARAMETER,
                    context.start,
                    offset,
                    "required" if is_required else "",
                    _schema_text(schema),
                    rank=0 if is_required else 1,
                    snippet=True,
                )
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


def _with_key(key: str, schema: Schema, context: CursorContext) -> str:
    """Return the key with the part of its value that is always the same."""
    choices = keys.allowed_values(schema)
    if len(choices) == 1:
        return f"{key}: {choices[0].text}"
    if choices:
        return f"{key}: ${{1|{','.join(choice.text for choice in choices)}|}}"
    if key == "promptTemplate" and not context.flow:
        return f"{key}: |\n{_INDENT}$0"
    kind = keys.type_of(schema)
    if kind == "object" or "properties" in schema:
        return f"{key}: {{$0}}" if context.flow else f"{key}:\n{_INDENT}$0"
    if kind == "array":
        return f"{key}: [$0]" if context.flow else f"{key}:\n{_INDENT}- $0"
    if kind == "string" and "pattern" in schema and schema.get("examples"):
        example = str(schema["examples"][0])
        placeholder = (
            f'"${{1:{example}}}"' if example[:1].isdigit() and example.replace(".", "").isdigit() else f"${{1:{example}}}"
        )
        return f"{key}: {placeholder}"
    return f"{key}: $0"


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


def _values(page: OpenPage, context: CursorContext, offset: int) -> Iterator[CompletionItem]:
    route = context.route
    general: Route = tuple(0 if isinstance(step, int) else step for step in route)
    if general in _FILES:
        yield from _files(page, context, offset, _FILES[general])
    elif route[-1:] == ("timezone",):
        for zone in sorted(available_timezones() - MACHINE_ZONES):
            yield CompletionItem(zone, zone, CompletionKind.VALUE, context.start, offset)
    elif route[-1:] == ("cronExpression",):
        for words, expression in cron.PRESETS.items():
            text = expression if context.quote else f'"{expression}"'
            yield CompletionItem(expression, text, CompletionKind.VALUE, context.start, offset, words)
    elif len(route) == 5 and route[3] == "events":
        siblings = {
            page.scalar(entry) for entry in page.entries if entry.route[:-1] == route[:-1] and entry.kind is ValueStyle.SCALAR
        }
        for event in sorted(event_names(str(page.written((*route[:3], "scheme"))))):
            if event in siblings and event != context.word:
                continue
            text = f'"{event}"' if " " in event and not context.quote else event
            yield CompletionItem(event, text, CompletionKind.VALUE, context.start, offset)
    elif len(route) == 5 and route[3] == "paramMapping":
        yield from _payload(page, context, offset)
    elif route[3:] == ("when",):
        yield from list(_filter(page, context, offset)) or _choices(page, context, offset)
    elif general == (*params.REQUIRED, 0):
        items = (entry for entry in page.entries if entry.route[:-1] == params.REQUIRED and entry.kind is ValueStyle.SCALAR)
        siblings = {page.scalar(entry) for entry in items}
        for name in params.declared_params(page.task) if page.task is not None else ():
            if name not in siblings or name == context.word:
                yield CompletionItem(name, name, CompletionKind.PARAMETER, context.start, offset)
    else:
        yield from _choices(page, context, offset)


def _choices(page: OpenPage, context: CursorContext, offset: int) -> Iterator[CompletionItem]:
    for schema in keys.schemas_at(keys.schema_kind(page.path), context.route, page.written):
        for choice in keys.allowed_values(schema):
            yield CompletionItem(choice.text, choice.text, CompletionKind.VALUE, context.start, offset, "", choice.meaning)
        if not keys.allowed_values(schema) and "properties" not in schema:
            for example in schema.get("examples", ()):
                if isinstance(example, str):
                    needs_quotes = not context.quote and (example[:1] in "@*&!%" or example.replace(".", "").isdigit())
                    yield CompletionItem(
                        example,
                        f'"{example}"' if needs_quotes else example,
                        CompletionKind.VALUE,
                        context.start,
                        offset,
                        "an example",
                    )


def _files(page: OpenPage, context: CursorContext, offset: int, endings: tuple[str, ...]) -> Iterator[CompletionItem]:
    """Yield files of the tree as this file would name them, except those it may not read."""
    if page.tree is None:
        return
    directory = posixpath.dirname(page.path)
    for path in page.tree.paths():
        name = posixpath.relpath(path, directory or ".")
        if path.endswith(endings) and path != page.path and not name.startswith(".."):
            if context.route == _TEMPLATES and b"type: template" not in (page.tree.read(path) or b""):
                continue
            yield CompletionItem(name, name, CompletionKind.FILE, context.start, offset)


def _payload(page: OpenPage, context: CursorContext, offset: int) -> Iterator[CompletionItem]:
    for path, sample_path in _payload_paths(page, context.route):
        odd = " #" in path or ": " in path or (context.flow and any(sign in path for sign in "[]{},"))
        needs_quotes = odd and not context.quote
        yield CompletionItem(
            path, f"'{path}'" if needs_quotes else path, CompletionKind.VALUE, context.start, offset, sample_path
        )


def _filter(page: OpenPage, context: CursorContext, offset: int) -> Iterator[CompletionItem]:
    opening = _IN_FILTER.search(page.text, context.start, offset)
    if opening is None:
        return
    for path, sample_path in _payload_paths(page, context.route):
        yield CompletionItem(f"@{path[1:]}", f"@{path[1:]}", CompletionKind.VALUE, opening.start(), offset, sample_path)


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
