"""Generate the JSON Schemas for editors from the model; descriptions are the docstrings below the model's fields.

The schemas are draft 2020-12 with keywords of editors that the standard ignores: `markdownDescription`,
`markdownEnumDescriptions`, `enumDescriptions`, `defaultSnippets` and `patternErrorMessage`.
"""

import ast
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from msgspec.json import schema_components

from optio.compiler import json_schema_texts as words
from optio.compiler.layers import NOT_IN_DEFAULTS
from optio.compiler.rules.codes import RETIRED, RULES
from optio.compiler.rules.rule import Rule
from optio.model import connection, example, policy, task, trigger
from optio.model.connection import KINDS
from optio.model.policy import EFFECTS, PolicySpec
from optio.model.runtimes import declaration_of, known_names
from optio.model.spec import NOT_BLANK, Spec, keys_of, portable
from optio.model.task import TaskSpec

Schema = dict[str, Any]

# Mappings that a template or the defaults may set, and those of them that a task replaces as a whole.
_REMOVABLE = ("Environment", "Network", "Resources", "Amounts", "StartLimit", "Dedupe", "ResultSpec")
_WHOLE = ("StartLimit", "Dedupe", "ResultSpec")


def task_schema() -> str:
    """Return the text of `schemas/task.schema.json`, for tasks and for the templates that they extend."""
    schema = _task()
    # A template lacks what its tasks have, and a task what its template or the defaults above it have: all but its name.
    schema["if"] = {"properties": {"type": {"const": "template"}}, "required": ["type"]}
    schema["else"] = {"required": ["name"]}
    schema["defaultSnippets"] = words.TASK
    return _written("Optio task", schema)


def defaults_schema() -> str:
    """Return the text of `schemas/defaults.schema.json`, for the keys allowed in `_defaults.yaml`."""
    schema = _task()
    schema["description"] = "Defaults for every task of this directory and of those below it; the task's own values win."
    for key in NOT_IN_DEFAULTS:
        del schema["properties"][key]
    return _written("Optio defaults", _without_unused(schema))


def connection_schema() -> str:
    """Return the text of `schemas/connection.schema.json`, for the files of `connections/`."""
    _, definitions = schema_components(KINDS.values(), ref_template="#/$defs/{name}")
    _tidy(definitions)
    for name, spec in _models(connection).items():
        if name in definitions:
            _describe(definitions[name], name, spec)
    tools = definitions["McpConnection"]["properties"]["tools"]
    tools["additionalProperties"] = _choice(words.TOOL_CLASSES)
    schema = {
        "description": "A service that runs reach through the gateway.",
        "type": "object",
        "required": ["type", "kind"],
        "oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in KINDS.values()],
        "defaultSnippets": words.CONNECTIONS,
        "$defs": definitions,
    }
    _mark(schema)
    return _written("Optio connection", schema)


def policy_schema() -> str:
    """Return the text of `schemas/policy.schema.json`, for the keys allowed in `_policy.yaml`."""
    schema = _of(PolicySpec, policy)
    schema["$defs"]["Allow"]["properties"]["runtimes"]["items"] |= _choice(_runtimes())
    schema["properties"]["failOn"]["items"] = {"type": "string", "enum": list(EFFECTS)}
    rules = schema["properties"]["rules"]
    schema["properties"]["rules"] = {
        "type": "object",
        "description": rules["description"],
        "properties": {
            **{code: _level(rule) for code, rule in RULES.items()},
            **{code: {"$ref": "#/$defs/Level", "description": "A rule of earlier versions: no effect."} for code in RETIRED},
        },
        "additionalProperties": False,
    }
    # The severity of an error cannot be changed.
    choices = {"Level": words.LEVELS, "Error": {"error": words.LEVELS["error"]}}
    for name, meanings in choices.items():
        schema["$defs"][name] = {"description": "The severity of a finding.", **_choice(meanings)}
    _mark(schema)
    return _written("Optio policy", schema)


SCHEMAS: dict[str, Callable[[], str]] = {
    "task": task_schema,
    "defaults": defaults_schema,
    "policy": policy_schema,
    "connection": connection_schema,
}


def _task() -> Schema:
    schema = _of(TaskSpec, task, trigger, example)
    del schema["required"]
    properties = schema["properties"]
    kind = properties["type"]
    kind.pop("const", None)
    kind |= _choice(words.MEANINGS["TaskSpec"]["type"])
    properties["paramsSchema"] |= {key: value for key, value in words.parameters().items() if value}
    schema["$defs"]["ResultSpec"]["properties"]["schema"] |= words.result()
    properties["triggers"]["items"] = {
        "oneOf": properties["triggers"]["items"]["anyOf"],
        "defaultSnippets": words.TRIGGERS,
    }
    schema["$defs"]["Environment"]["defaultSnippets"] = words.ENVIRONMENT
    for key in properties.keys() - {"name", "type"}:
        _or_nothing(properties[key])
    for name in _REMOVABLE:
        definition = schema["$defs"][name]
        _or_nothing(definition)
        if name not in _WHOLE:
            for part in definition["properties"].values():
                _or_nothing(part)
    _or_nothing(schema["$defs"]["Environment"]["properties"]["env"]["additionalProperties"])
    _mark(schema)
    return schema


def _level(rule: Rule) -> Schema:
    kind = "Error" if rule.severity == "error" else "Level"
    return {"$ref": f"#/$defs/{kind}", "description": f"{rule.title[:1].upper()}{rule.title[1:]}."}


def _of(model: type[Spec], *modules: object) -> Schema:
    _, definitions = schema_components([model], ref_template="#/$defs/{name}")
    _tidy(definitions)
    for name, spec in _models(*modules).items():
        if name in definitions:
            _describe(definitions[name], name, spec)
    schema = definitions.pop(model.__name__)
    return {**schema, "$defs": definitions}


def _describe(part: Schema, name: str, model: type[Spec]) -> None:
    documented = field_texts(model)
    for field in keys_of(model):
        key = field.written
        property_schema = part["properties"][key]
        if key == model.__struct_config__.tag_field:
            kind = property_schema.pop("enum")[0]
            property_schema |= {"type": "string", "const": kind, "description": f"`{kind}`."}
        if field.name in documented:
            property_schema["description"] = " ".join(documented[field.name].split())
        if key in words.EXAMPLES.get(name, {}):
            property_schema["examples"] = words.EXAMPLES[name][key]
        if key in words.SNIPPETS.get(name, {}):
            property_schema["defaultSnippets"] = words.SNIPPETS[name][key]
        if field.annotation == task.Runtime:
            property_schema |= _choice(_runtimes())
        if key in words.MEANINGS.get(name, {}):
            property_schema.pop("const", None)
            property_schema |= _choice(words.MEANINGS[name][key])
        if key in words.PATTERNS.get(name, {}):
            for option in property_schema.get("anyOf", [property_schema]):
                if option.get("type") == "string":
                    option["pattern"], option["patternErrorMessage"] = words.PATTERNS[name][key]


def _or_nothing(found: Schema) -> None:
    """Allow `null`, which removes what a template or the defaults set. A reference stays as it is: its definition allows it."""
    if isinstance(found.get("type"), str) and "enum" not in found:
        found["type"] = [found["type"], "null"]
    elif "anyOf" in found:
        found["anyOf"].append({"type": "null"})


def _runtimes() -> dict[str, str]:
    """Return what each runtime runs. A plug-in that cannot be loaded has a title of its own: its name."""
    declarations = {name: declaration_of(name) for name in known_names()}
    return {name: name if agent is None else agent.title for name, agent in declarations.items()}


def _choice(meanings: dict[str, str]) -> Schema:
    """Return the schema of an enumeration with the meaning of each value; a constant is an enumeration of one."""
    return {"type": "string", "enum": list(meanings), "enumDescriptions": list(meanings.values())}


def _mark(schema: Any) -> None:
    """Add the descriptions as Markdown, for editors that show `backquotes` as code."""
    if isinstance(schema, list):
        for item in schema:
            _mark(item)
    if not isinstance(schema, dict):
        return
    for word, value in schema.items():
        if word not in ("examples", "default", "enum", "defaultSnippets", "enumDescriptions"):
            _mark(value)
    for plain, markdown_word in (("description", "markdownDescription"), ("enumDescriptions", "markdownEnumDescriptions")):
        value = schema.get(plain)
        if isinstance(value, str if plain == "description" else list) and "`" in str(value):
            schema[markdown_word] = value


def _models(*modules: object) -> dict[str, type[Spec]]:
    members = [member for module in modules for member in vars(module).values()]
    return {m.__name__: m for m in members if isinstance(m, type) and issubclass(m, Spec) and m is not Spec}


def field_texts(model: type) -> dict[str, str]:
    """Return the text below each attribute that a class itself declares, by its name."""
    definition = class_definitions(model.__module__)[model.__name__]
    texts: dict[str, str] = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            value = text.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                texts[field.target.id] = value.value
    return texts


@lru_cache(maxsize=8)
def class_definitions(module: str) -> Mapping[str, ast.ClassDef]:
    """Return the syntax of the classes of an imported module, by name. `inspect.getsource` of a class would parse it again."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _tidy(schema: Any) -> None:
    """Remove what helps nobody in an editor: titles (class names), `or null`, and defaults that only say that nothing is there.
    Patterns and choices get the messages that editors show."""
    if isinstance(schema, list):
        for item in schema:
            _tidy(item)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("title"), str):
        del schema["title"]
    if isinstance(schema.get("description"), str):
        schema["description"] = " ".join(schema["description"].split())
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        del schema["anyOf"]
        schema.update({**options[0], **schema})
    elif options:
        schema["anyOf"] = options
    if isinstance(pattern := schema.get("pattern"), str):
        schema["pattern"] = portable(pattern)
        if pattern == NOT_BLANK:
            schema["patternErrorMessage"] = "write a text or delete the key"
    if isinstance(schema.get("enum"), list):
        schema["type"] = "string"
    if schema.get("required") == []:
        del schema["required"]
    default = schema.get("default", 0)
    if default in (None, "") or isinstance(default, dict | list):
        del schema["default"]
    for word, value in schema.items():
        if word not in ("examples", "default", "enum", "const"):
            _tidy(value)


def _without_unused(schema: Schema) -> Schema:
    """Return the schema without the definitions that no reference reaches."""
    definitions = schema["$defs"]
    used_names: set[str] = set()
    parts = [{key: value for key, value in schema.items() if key != "$defs"}]
    while parts:
        part = parts.pop()
        for name in definitions.keys() - used_names:
            if f'"#/$defs/{name}"' in json.dumps(part):
                used_names.add(name)
                parts.append(definitions[name])
    return {**schema, "$defs": {name: part for name, part in definitions.items() if name in used_names}}


def _written(title: str, schema: Schema) -> str:
    definitions = schema.pop("$defs")
    # The id names the schema wherever it lies; it is the one that SchemaStore, whose catalogue editors read, would give it.
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://www.schemastore.org/{title.lower().replace(' ', '-')}.json",
        "title": title,
    }
    document = {**head, **schema, "$defs": definitions}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
