"""Lookup in the JSON Schema for editors: the schemas, allowed values and descriptions that apply at a route of a file."""

import json
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from optio.compiler.json_schema import SCHEMAS
from optio.compiler.layers import DEFAULTS, POLICY
from optio.model.connection import DIRECTORY as CONNECTIONS
from optio.model.route import Route

Schema = Mapping[str, Any]
ScalarAt = Callable[[Route], str | None]
"""Returns the scalar at a route of the file as text, or None."""
_MAX_DEFAULT_LENGTH = 60


@dataclass(frozen=True, slots=True)
class AllowedValue:
    """One value of a closed list, with its meaning if the schema gives one."""

    text: str
    meaning: str = ""


def schema_kind(path: str) -> str:
    """Return the name of the schema for a file: `task`, `defaults`, `policy` or `connection`."""
    directory, name = posixpath.split(path)
    if directory == CONNECTIONS:
        return "connection"
    return "policy" if path == POLICY else "defaults" if name in DEFAULTS else "task"


def schemas_at(kind: str, route: Route, scalar_at: ScalarAt) -> list[Schema]:
    """Return the schemas of the value at a route; several if the schema has alternatives. `written` returns the scalar at a
    route, and so picks the alternative by `type`."""
    root = _schema(kind)
    schemas: list[Schema] = [root]
    for index, step in enumerate(route):
        parent = route[:index]
        schemas = [
            sub for schema in schemas for option in _options(schema, root, parent, scalar_at) for sub in _step(option, step)
        ]
    return [option for schema in schemas for option in _options(schema, root, route, scalar_at)]


@cache
def _schema(kind: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(SCHEMAS[kind]())
    return loaded


def _options(schema: Schema, root: Schema, route: Route, scalar_at: ScalarAt) -> Iterator[Schema]:
    """Yield the schema without references; of alternatives, those that fit the `type` or `kind` in the file."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        schema = {**root["$defs"][name], **{key: value for key, value in schema.items() if key != "$ref"}}
    several = schema.get("oneOf") or schema.get("anyOf")
    if several is None:
        yield schema
        return
    options = [option for each in several for option in _options(each, root, route, scalar_at)]
    fitting = options
    for key in ("type", "kind"):
        word = scalar_at((*route, key))
        fitting = [each for each in fitting if word is not None and _constant(each, key) == word] or fitting
    shared = {key: value for key, value in schema.items() if key not in ("oneOf", "anyOf")}
    for index, each in enumerate(fitting):
        # Snippets stand for all alternatives together, so they are offered once.
        snippets = {"defaultSnippets": shared["defaultSnippets"]} if index == 0 and "defaultSnippets" in shared else {}
        yield {**each, **(snippets if "properties" in each else shared)}


def _constant(schema: Schema, key: str) -> object:
    declared = schema.get("properties", {}).get(key, {})
    words = declared.get("enum", ())
    return words[0] if len(words) == 1 else declared.get("const")


def _step(schema: Schema, step: str | int) -> Iterator[Schema]:
    if isinstance(step, int):
        if isinstance(schema.get("items"), Mapping):
            yield schema["items"]
    elif step in schema.get("properties", {}):
        yield schema["properties"][step]
    elif isinstance(schema.get("additionalProperties"), Mapping):
        yield schema["additionalProperties"]


def merge_schemas(schemas: list[Schema]) -> Schema:
    """Merge alternatives into the first, with the allowed values of all of them."""
    choices = [choice for schema in schemas for choice in allowed_values(schema)]
    if len(schemas) < 2 or not choices:
        return schemas[0]
    texts = dict.fromkeys(choice.text for choice in choices)
    rest = {key: value for key, value in schemas[0].items() if key not in ("const", "description", "markdownDescription")}
    return {**rest, "enum": list(texts), "enumDescriptions": [""] * len(texts)}


def allowed_values(schema: Schema) -> list[AllowedValue]:
    """Return the closed list of values; empty if any value of the type is possible."""
    if "const" in schema:
        return [AllowedValue(str(schema["const"]))]
    if "enum" in schema:
        meanings = schema.get("enumDescriptions", [])
        return [AllowedValue(str(value), meanings[i] if i < len(meanings) else "") for i, value in enumerate(schema["enum"])]
    if type_of(schema) == "boolean":
        return [AllowedValue("true"), AllowedValue("false")]
    return []


def type_of(schema: Schema) -> str:
    """Return the type, or the first of several types; empty if there is none."""
    kind = schema.get("type", "")
    return str(kind[0] if isinstance(kind, list) else kind)


def value_text(schema: Schema) -> str:
    """Return the kind of value in words, such as `a number from 1 to 100`."""
    if "enum" in schema or "const" in schema:
        return "one of these values"
    if type_of(schema) == "integer":
        minimum, maximum = schema.get("minimum"), schema.get("maximum")
        if minimum is not None and maximum is not None and maximum < 2**31 - 1:
            return f"a number from {minimum:,} to {maximum:,}"
        return "a number" if minimum is None else f"a number, {minimum:,} or more"
    type_words = {"string": "a text", "boolean": "true or false", "array": "a list", "object": "a mapping"}
    return type_words.get(type_of(schema), "")


def key_markdown(key: str, schema: Schema) -> str:
    """Return a key as Markdown: purpose, allowed values, default."""
    lines = [f"**`{key}`**" + (f": {kind}" if (kind := value_text(schema)) else "")]
    if schema.get("description"):
        lines += ["", str(schema["description"])]
    choices = allowed_values(schema) if type_of(schema) != "boolean" else []
    if choices:
        lines += ["", *(f"- `{choice.text}`" + (f": {choice.meaning}" if choice.meaning else "") for choice in choices)]
    if "default" in schema:
        lines += ["", f"Default: `{json.dumps(schema['default'], ensure_ascii=False)[:_MAX_DEFAULT_LENGTH]}`"]
    return "\n".join(lines)
