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
    _, found = schema_components(kinds, ref_template=_REFERENCE)
    for name, schema in found.items():
        for key, text in _texts(models[name]) if name in models else ():
            schema["properties"][key]["description"] = text
    for shown in ("DefinitionBody", "TaskBody", "WrittenTaskBody"):
        for key in _UNSHOWN:
            del found[shown]["properties"][key]
    found["ProblemBody"]["properties"]["type"] = reference("ProblemType")
    return {**found, **{name: _vocabulary(name) for name in _VOCABULARIES}}


def structs(module: ModuleType) -> Iterator[tuple[str, type[Struct]]]:
    """Yield the public types that a module defines, by name."""
    for name, member in vars(module).items():
        is_struct = isinstance(member, type) and issubclass(member, Struct) and member.__module__ == module.__name__
        if is_struct and not name.startswith("_") and member is not Body:
            yield name, member


def _texts(model: type[Struct]) -> Iterator[tuple[str, str]]:
    """Yield the text of each key of a model that has one."""
    sources = [NewTask, *NewTask.__mro__] if model is TaskPatch else model.__mro__
    found: dict[str, str] = {}
    for source in sources:
        if source.__module__.startswith("optio."):
            found = {**field_texts(source), **found}
    for field, key in zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True):
        if field in found:
            yield key, found[field]


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
    found = {"title": name, "type": "string", "enum": words, "description": described}
    if name == "ProblemType":
        # Generated clients name their constants by the words.
        found["enum"] = [problems.URN + word for word in words]
        found["x-enum-varnames"] = [word.replace("-", "_").upper() for word in words]
    return found


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
    found: dict[str, str] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in _VOCABULARIES and part.id != name:
            found |= _meanings(part.id)[1]
    text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    found |= dict(re.findall(r'"([\w-]+)",?\s+# (.+)$', text, re.MULTILINE))
    above = node.lineno - 1
    while lines[above - 1].startswith("#"):
        above -= 1
    return " ".join(line.strip("# ") for line in lines[above : node.lineno - 1]), found


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef):
        return {node.name}
    return {target.id for target in node.targets if isinstance(target, ast.Name)} if isinstance(node, ast.Assign) else set()


def tidy(document: Schema) -> Schema:
    """Return a document in which vocabularies are references, names have no `Body` at their end, patterns are portable, and
    every component is referred to."""
    found: Schema = _tidied(document, {frozenset(_words(name)): name for name in _VOCABULARIES})
    components = found["components"]["schemas"]
    used: set[str] = set()
    ahead = _references({**found, "components": {**found["components"], "schemas": {}}})
    while ahead:
        used |= ahead
        ahead = {each for name in ahead for each in _references(components[name])} - used
    found["components"]["schemas"] = {name: schema for name, schema in components.items() if name in used}
    return found


def _references(part: Any) -> set[str]:
    return set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(part)))


def _tidied(part: Any, named: dict[frozenset[str], str]) -> Any:
    if isinstance(part, list):
        return [_tidied(item, named) for item in part]
    if not isinstance(part, dict):
        return part
    if "schema" in part and part.get("in") in ("query", "header"):
        # A parameter cannot be null: it is left out.
        part = {**part, "schema": _without_null(part["schema"])}
        part["schema"].pop("description", None)
    part = _with_reference(part, named)
    found: Schema = {}
    for key, value in part.items():
        is_noise = (key in _FLAGS and value is False) or (key, value) in (("headers", {}), ("default", None))
        if is_noise or (key == "title" and not part.keys().isdisjoint(("type", "anyOf"))):
            continue
        if key in ("example", "examples", "default", "enum", "const"):
            found[key] = value
        elif key == "$ref":
            found[key] = value.removesuffix("Body")
        elif key == "mapping":
            found[key] = {name: target.removesuffix("Body") for name, target in value.items()}
        elif key == "pattern" and isinstance(value, str):
            found[key] = portable(value)
        elif key == "description" and isinstance(value, str) and "\n- " not in value:
            found[key] = " ".join(value.split())
        elif key in ("schemas", "properties"):
            found[key] = {name.removesuffix("Body"): _tidied(each, named) for name, each in value.items()}
        else:
            found[key] = _tidied(value, named)
    if "enum" in found and not any(isinstance(word, int) for word in found["enum"]):
        found["type"] = "string"
    return found


def _without_null(schema: Schema) -> Schema:
    options = [option for option in schema.get("oneOf", []) if option != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "oneOf"}
    if "enum" in schema:
        return {**schema, "enum": [word for word in schema["enum"] if word is not None]}
    return {**options[0], **rest} if len(options) == 1 else {**schema, **({"oneOf": options} if options else {})}


def _with_reference(part: Schema, named: dict[frozenset[str], str]) -> Schema:
    """Replace an enumeration by the reference to its vocabulary. A union of two is one."""
    options = part.get("anyOf", part.get("oneOf"))
    if part.get("enum") and "title" not in part:
        name = named.get(frozenset(str(word) for word in part["enum"]))
        if name is not None:
            rest = {key: value for key, value in part.items() if key not in ("enum", "type")}
            return {**reference(name), **rest}
    elif options and sum("enum" in option for option in options) > 1:
        words = [word for option in options for word in option.get("enum", [])]
        others = [option for option in options if "enum" not in option]
        whole: Schema = {"enum": words}
        rest = {key: value for key, value in part.items() if key not in ("anyOf", "oneOf")}
        merged = _with_reference(whole, named)
        return {**rest, "anyOf": [merged, *others]} if others else {**merged, **rest}
    return part
