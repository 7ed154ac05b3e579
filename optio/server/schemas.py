"""JSON Schemas of the bodies of the API, for the OpenAPI and AsyncAPI documents.

msgspec derives them from the classes of `BODIES`. Added are the texts below their attributes, and closed
vocabularies as schemas of their own, with the meaning of each value: the comment beside it in the source.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from enum import EnumType
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, get_args

from msgspec import Struct
from msgspec.json import schema_components

from optio import errors
from optio.compiler.json_schema import field_texts
from optio.model import agent_event, effect, example, pool, run, task, trigger, usage
from optio.model.spec import portable
from optio.runs import admission, delivery_gates, replay
from optio.server import bodies, problems
from optio.server.bodies import overview
from optio.server.bodies.base import Body
from optio.server.bodies.tasks import NewTask, TaskPatch
from optio.store import values

Schema = dict[str, Any]
# The modules that define bodies.
BODIES = tuple(import_module(f"{bodies.__name__}.{each.name}") for each in iter_modules(bodies.__path__))
_REFERENCE = "#/components/schemas/{name}"
# Closed vocabularies, and the modules that define them.
_VOCABULARIES: dict[str, ModuleType] = {
    "ProblemType": errors,
    "RefusalVerdict": errors,
    "DeliveryVerdict": values,
    "DecisionVerdict": replay,
    "Difference": replay,
    "GateName": delivery_gates,
    "GateOutcome": delivery_gates,
    "SlotOutcome": values,
    "HoldReason": admission,
    "RunState": run,
    "RunTrigger": run,
    "CostSource": usage,
    "LogKind": run,
    "ToolKind": agent_event,
    "StartKind": pool,
    "TaskState": overview,
    "EffectKind": effect,
    "EffectWeight": effect,
}
# What Litestar writes out though it is the default.
_FLAGS = {"deprecated", "allowEmptyValue", "allowReserved"}
# Keys of task files that no answer has.
_UNSHOWN = {"tests", "promptFile"}


def reference(name: str) -> Schema:
    """Return a reference to a schema of the components."""
    return {"$ref": _REFERENCE.format(name=name)}


def of(kind: Any) -> Schema:
    """Return the schema of a type, with references to the components."""
    (schema,), _ = schema_components([kind], ref_template=_REFERENCE)
    return schema


@cache
def components() -> dict[str, Schema]:
    """Return the schema of each body, and of what they consist of, by name; `tidy` names and completes a copy of them."""
    models = {name: kind for module in (trigger, example, task, agent_event, *BODIES) for name, kind in structs(module)}
    kinds = [kind for module in BODIES for _, kind in structs(module)]
    _, schemas = schema_components(kinds, ref_template=_REFERENCE)
    for name, schema in schemas.items():
        for key, text in _texts(models[name]) if name in models else ():
            schema["properties"][key]["description"] = text
    for task_body in ("DefinitionBody", "TaskBody", "WrittenTaskBody"):
        for key in _UNSHOWN:
            del schemas[task_body]["properties"][key]
    schemas["ProblemBody"]["properties"]["type"] = reference("ProblemType")
    return {**schemas, **{name: _vocabulary(name) for name in _VOCABULARIES}}


def structs(module: ModuleType) -> Iterator[tuple[str, type[Struct]]]:
    """Yield the public types that a module defines, by name."""
    for name, member in vars(module).items():
        is_struct = isinstance(member, type) and issubclass(member, Struct) and member.__module__ == module.__name__
        if is_struct and not name.startswith("_") and member is not Body:
            yield name, member


def _texts(model: type[Struct]) -> Iterator[tuple[str, str]]:
    """Yield the text of each key of a model that has one."""
    sources = [NewTask, *NewTask.__mro__] if model is TaskPatch else model.__mro__
    texts: dict[str, str] = {}
    for source in sources:
        if source.__module__.startswith("optio."):
            texts = {**field_texts(source), **texts}
    for field, key in zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True):
        if field in texts:
            yield key, texts[field]


@cache
def _vocabulary(name: str) -> Schema:
    """Return the schema of a vocabulary: an enumeration, whose description has a line for each value."""
    module = _VOCABULARIES[name]
    words = list(_words(name))
    defined = getattr(module, name)
    text, meanings = _meanings(name)
    if isinstance(defined, type):
        text = inspect.cleandoc(defined.__doc__ or "").replace("\n", " ")
    described = "\n".join([text, "", *(f"- `{word}`: {meanings[word]}" for word in words if word in meanings)]).strip()
    schema = {"title": name, "type": "string", "enum": words, "description": described}
    if name == "ProblemType":
        # Generated clients name their constants by the words.
        schema["enum"] = [problems.URN + word for word in words]
        schema["x-enum-varnames"] = [word.replace("-", "_").upper() for word in words]
    return schema


def _words(name: str) -> Iterator[str]:
    kind: Any = getattr(_VOCABULARIES[name], name)
    for word in kind if isinstance(kind, EnumType) else get_args(kind):
        yield from [str(word)] if isinstance(word, str) else get_args(word)


@cache
def _source(module: ModuleType) -> tuple[list[str], dict[str, ast.stmt]]:
    """Return the lines of a module, and its statements by the names that they define."""
    text = inspect.getsource(module)
    return text.splitlines(), {name: node for node in ast.parse(text).body for name in _names(node)}


def _meanings(name: str) -> tuple[str, dict[str, str]]:
    """Return the comment above a vocabulary, and the comment beside each of its values, those of vocabularies in it too."""
    lines, statements = _source(_VOCABULARIES[name])
    node = statements[name]
    meanings: dict[str, str] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in _VOCABULARIES and part.id != name:
            meanings |= _meanings(part.id)[1]
    text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    meanings |= dict(re.findall(r'"([\w-]+)",?\s+# (.+)$', text, re.MULTILINE))
    line_number = node.lineno - 1
    while lines[line_number - 1].startswith("#"):
        line_number -= 1
    return " ".join(line.strip("# ") for line in lines[line_number : node.lineno - 1]), meanings


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef):
        return {node.name}
    return {target.id for target in node.targets if isinstance(target, ast.Name)} if isinstance(node, ast.Assign) else set()


def tidy(document: Schema) -> Schema:
    """Return a document in which vocabularies are references, names have no `Body` at their end, patterns are portable, and
    every component is referred to."""
    tidied: Schema = _tidied(document, {frozenset(_words(name)): name for name in _VOCABULARIES})
    components = tidied["components"]["schemas"]
    used_names: set[str] = set()
    new_names = _references({**tidied, "components": {**tidied["components"], "schemas": {}}})
    while new_names:
        used_names |= new_names
        new_names = {reference_name for name in new_names for reference_name in _references(components[name])} - used_names
    tidied["components"]["schemas"] = {name: schema for name, schema in components.items() if name in used_names}
    return tidied


def _references(part: Any) -> set[str]:
    return set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(part)))


def _tidied(part: Any, vocabularies: dict[frozenset[str], str]) -> Any:
    if isinstance(part, list):
        return [_tidied(item, vocabularies) for item in part]
    if not isinstance(part, dict):
        return part
    if "schema" in part and part.get("in") in ("query", "header"):
        # A parameter cannot be null: it is left out.
        part = {**part, "schema": _without_null(part["schema"])}
        part["schema"].pop("description", None)
    part = _with_reference(part, vocabularies)
    schema = {key: _tidied_member(key, value, vocabularies) for key, value in part.items() if not _is_noise(key, value, part)}
    if "enum" in schema and not any(isinstance(word, int) for word in schema["enum"]):
        schema["type"] = "string"
    return schema


def _is_noise(key: str, value: Any, part: Schema) -> bool:
    """Return whether a member says nothing: a default, or the title of a type."""
    is_default = (key in _FLAGS and value is False) or (key, value) in (("headers", {}), ("default", None))
    return is_default or (key == "title" and not part.keys().isdisjoint(("type", "anyOf")))


def _tidied_member(key: str, value: Any, vocabularies: dict[frozenset[str], str]) -> Any:
    if key in ("example", "examples", "default", "enum", "const"):
        return value
    if key == "$ref":
        return value.removesuffix("Body")
    if key == "mapping":
        return {name: target.removesuffix("Body") for name, target in value.items()}
    if key == "pattern" and isinstance(value, str):
        return portable(value)
    if key == "description" and isinstance(value, str) and "\n- " not in value:
        return " ".join(value.split())
    if key in ("schemas", "properties"):
        return {name.removesuffix("Body"): _tidied(component, vocabularies) for name, component in value.items()}
    return _tidied(value, vocabularies)


def _without_null(schema: Schema) -> Schema:
    options = [option for option in schema.get("oneOf", []) if option != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "oneOf"}
    if "enum" in schema:
        return {**schema, "enum": [word for word in schema["enum"] if word is not None]}
    return {**options[0], **rest} if len(options) == 1 else {**schema, **({"oneOf": options} if options else {})}


def _with_reference(part: Schema, vocabularies: dict[frozenset[str], str]) -> Schema:
    """Replace an enumeration by the reference to its vocabulary. A union of two is one."""
    options = part.get("anyOf", part.get("oneOf"))
    if part.get("enum") and "title" not in part:
        name = vocabularies.get(frozenset(str(word) for word in part["enum"]))
        if name is not None:
            rest = {key: value for key, value in part.items() if key not in ("enum", "type")}
            return {**reference(name), **rest}
    elif options and sum("enum" in option for option in options) > 1:
        words = [word for option in options for word in option.get("enum", [])]
        other_options = [option for option in options if "enum" not in option]
        vocabulary: Schema = {"enum": words}
        rest = {key: value for key, value in part.items() if key not in ("anyOf", "oneOf")}
        reference_schema = _with_reference(vocabulary, vocabularies)
        return {**rest, "anyOf": [reference_schema, *other_options]} if other_options else {**reference_schema, **rest}
    return part
