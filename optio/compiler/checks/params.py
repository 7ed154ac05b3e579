"""Check `paramsSchema`: it must be valid JSON Schema 2020-12, satisfiable, and hold defaults and examples that fit. The parts
live in `optio.compiler.param_schema`; advice about a valid schema is in `params_pedantic`."""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from optio.compiler.conversions.schema_words import WORDS
from optio.compiler.diagnostics import Diagnostic, Fix
from optio.compiler.param_schema import patterns
from optio.compiler.param_schema.contradictions import check_contradictions
from optio.compiler.param_schema.declared import declared_parameters
from optio.compiler.param_schema.expected_type import keyword_form
from optio.compiler.param_schema.keywords import suggest_format
from optio.compiler.param_schema.patterns import Pattern
from optio.compiler.param_schema.references import check_references
from optio.compiler.param_schema.self_check import check_own_values
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.compiler.yaml.emit import flow
from optio.model.params import SchemaError, iter_schema_faults, validator
from optio.model.prompt import placeholders
from optio.model.route import Route, value_at

ROUTE: Route = ("paramsSchema",)
DIALECT = "https://json-schema.org/draft/2020-12/schema"
TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_FOREIGN_TYPES = {
    **dict.fromkeys(("str", "text", "char", "date", "datetime", "uri", "url", "email"), "string"),
    **dict.fromkeys(("int", "long"), "integer"),
    **dict.fromkeys(("float", "double", "decimal"), "number"),
    **dict.fromkeys(("bool", "flag"), "boolean"),
    **dict.fromkeys(("list", "tuple", "set"), "array"),
    **dict.fromkeys(("dict", "map", "hash", "struct"), "object"),
    **dict.fromkeys(("none", "nil"), "null"),
    **dict.fromkeys(("choice", "select", "dropdown", "radio", "password", "secret", "file", "path", "multiline"), "string"),
    **dict.fromkeys(
        ("textarea", "input", "environment", "credential", "regex", "version", "uuid", "time", "duration"), "string"
    ),
    **dict.fromkeys(("timestamp", "datepicker", "enumeration", "options", "varchar", "commaseparated"), "string"),
    **dict.fromkeys(("multiselect", "checkboxes", "multichoice", "vector", "stringlist"), "array"),
    **dict.fromkeys(("json", "hashmap", "dictionary", "record", "mapping"), "object"),
    **dict.fromkeys(("toggle", "checkbox", "switch", "yesno"), "boolean"),
}
# `string[]`, `list(string)` and `array<int>` of other languages.
_LISTED = r"(?i)(?P<of>\w+)\[\]|\[\](?P<go>\w+)|(?:list|array|set|sequence|vector)\s*[(\[<]\s*(?P<in>\w+)\s*[)\]>]"
_OPTIONS = ("options", "choices", "values", "allowed", "enum_values", "allowedValues")
_MAX_MADE, _MAX_TYPE = 200, 60
RESERVED = frozenset({"__proto__", "constructor", "prototype"})


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the mistakes of the schema from the outside in: a schema whose root is wrong is not examined further."""
    schema = task.spec.params_schema
    if schema is None or not task.is_known(ROUTE):
        return
    if schema.get("type", "object") != "object":
        yield task.at(
            "OPT206", f"the root of `paramsSchema` has type `{schema['type']}`", (*ROUTE, "type"), hint="write `type: object`"
        )
        return
    bad = list(check_validity(task, ROUTE, schema))
    yield from bad
    if bad:
        return
    if "type" not in schema:
        yield task.at("OPT206", "the root of `paramsSchema` has no type", ROUTE, key=True, hint=_typed(schema))
    parameters = declared_parameters(task)
    repaired = schema if parameters is None or parameters.schema is None else parameters.schema
    yield from _names(task, repaired)
    yield from check_values(task, ROUTE, schema)
    if isinstance(value_at(repaired, ("properties", "additionalProperties")), bool):
        yield _too_deep(task, "OPT215", (*ROUTE, "properties", "additionalProperties"))
    elif repaired.get("properties") and repaired.keys().isdisjoint(("additionalProperties", "unevaluatedProperties")):
        from optio.compiler.edits import fix_edits

        yield task.at(
            "OPT215",
            "`paramsSchema` accepts parameters that it does not declare",
            ROUTE,
            key=True,
            hint="add `additionalProperties: false`",
            fix=fix_edits.insert_key_before(task.document, (*ROUTE, "properties"), "additionalProperties: false", safe=False),
        )


def check_validity(task: ResolvedTask, at: Route, schema: dict[str, Any]) -> Iterator[Diagnostic]:
    """Report why the schema at a route cannot be used: it is not valid, or needs too much work. Nothing for a usable one."""
    if schema.get("$schema", DIALECT) not in (DIALECT, DIALECT + "#"):
        message, hint = "only JSON Schema 2020-12 is supported", f"write `{DIALECT}`, or delete it"
        yield task.at("OPT205", message, (*at, "$schema"), hint=hint)
        return
    found = patterns.patterns_in(schema)
    bad = [
        *check_references(task, at, schema),
        *patterns.check_total_work(task, at, found),
        *patterns.check_slashes(task, at, found),
    ]
    yield from bad
    if bad:
        return
    try:
        validator(schema, patterns.pattern_size_limit(found))
    except SchemaError:
        yield from _invalid(task, at, schema, found)
    except (ValueError, UnicodeError):
        message = f"`{at[-1]}` holds a value that JSON cannot express"
        yield task.at("OPT205", message, at, key=True, hint="use text, numbers, lists and mappings")


def check_values(task: ResolvedTask, at: Route, schema: dict[str, Any]) -> Iterator[Diagnostic]:
    """Report parts of a valid schema that no value fits, and values in it that do not fit."""
    unfit = list(check_contradictions(task, at, schema))
    yield from unfit
    yield from check_own_values(task, at, schema, {each.route[:-1] for each in unfit})


def _invalid(task: ResolvedTask, at: Route, schema: dict[str, Any], regexes: list[Pattern]) -> Iterator[Diagnostic]:
    wrong = patterns.invalid_patterns(regexes)
    yield from patterns.explain_patterns(task, at, wrong, len(regexes))
    for place, keyword, message in iter_schema_faults(schema, patterns.pattern_size_limit(regexes)):
        if not any(place == route[: len(place)] for route in wrong):
            yield from _fault(task, at, schema, place, keyword, message)


def _fault(
    task: ResolvedTask, at: Route, schema: dict[str, Any], place: Route, keyword: str | None, message: str
) -> Iterator[Diagnostic]:
    """Report one fault of a schema at its place, with the value that was meant where that follows from the wrong one."""
    route: Route = at + place
    word, parent, value = (place[-1] if place else ""), place[-2:-1], value_at(schema, place)
    is_text = isinstance(value, (str, int)) and not isinstance(value, bool)
    if parent in (("oneOf",), ("anyOf",)) and is_text:
        members = flow(value_at(schema, place[:-1]))
        if word == 0 and len(members) <= _MAX_MADE:
            hint = f"write `enum: {members}`"
            yield task.at("OPT205", f"`{parent[0]}` is a list of schemas", route[:-1], key=True, hint=hint)
    elif parent == ("properties",) and word == "required" and isinstance(value, list):
        yield _too_deep(task, "OPT205", route)
    elif parent == ("properties",) and keyword == "type" and not isinstance(value, bool | dict):
        kind = _suggest_type(value) if isinstance(value, str) else None
        hint, write = f"write `{word}: {{type: {kind or 'string'}}}`", f"{{type: {kind}}}" if kind else None
        yield task.at("OPT205", f"`{word}` needs a schema", route, hint=hint, write=write, safe=False)
    else:
        yield _bad_keyword(task, _Keyword(str(word), value, value_at(schema, place[:-1]), schema, at, place), keyword, message)


def _bad_keyword(task: ResolvedTask, key: "_Keyword", keyword: str | None, message: str) -> Diagnostic:
    route, value = key.at + key.place, key.value
    if key.word == "type" and isinstance(value, str):
        hint, kind = _type_hint(value, key.sub)
        return task.at("OPT205", f"`{value}` is not a JSON Schema type", route, hint=hint, value=kind, safe=False)
    if keyword == "uniqueItems" and isinstance(value, list):
        second = next(index for index, member in enumerate(value) if member in value[:index])
        message = f"`{value[second]}` appears twice in `{key.word}`"
        return task.at("OPT205", message, (*route, second), hint="delete one of them")
    form = _FORMS.get(key.word)
    cure = (form and form(key)) or keyword_form(task.document.value, route)
    fix = _required(task, route) if key.word == "required" and isinstance(value, bool) else None
    hint = cure or "see json-schema.org for the form of this keyword"
    return task.at("OPT205", f"`{key.word or key.at[-1]}` {message}", route, hint=hint, fix=fix)


def _type_hint(word: str, sub: dict[str, Any]) -> tuple[str, str | None]:
    """Return the hint for a type that JSON Schema does not have, and the type if it alone is to be written."""
    kind, members = _suggest_type(word), _members(word, sub)
    several = [_suggest_type(part) for part in re.split(r"\s*(?:[,|/]|\bor\b)\s*", word[:_MAX_TYPE])]
    form = suggest_format(word)
    if members is not None:
        return members, None
    if kind == "string" and form is not None and "format" not in sub:
        return f"write `type: string`, and `format: {form}` beside it", "string"
    if len(several) > 1 and all(several):
        return f"write `type: {flow(several)}`", None
    if word.lower() in ("any", "mixed", "dynamic"):
        return "delete it: without a type any value fits", None
    if word.lower() in ("enum", "select", "choice") and isinstance(sub.get("enum"), list):
        return "delete it: `enum` alone says which values fit", None
    return f"did you mean `{kind}`?" if kind else "allowed: " + ", ".join(TYPES), kind


def _members(word: str, sub: dict[str, Any]) -> str | None:
    """Return the hint for a list type such as `list[string]` or `choice`: the items' type, or an `enum`."""
    options = next((name for name in _OPTIONS if isinstance(sub.get(name), list) and sub[name]), None)
    listed = sub[options] if options is not None else ()
    members = flow([member["value"] if isinstance(member, dict) and "value" in member else member for member in listed])
    if options is not None and len(members) <= _MAX_MADE:
        if _suggest_type(word) == "array":
            return f"write `type: array` and `items: {{enum: {members}}}` in the place of `type` and `{options}`"
        return f"write `type: string` and `enum: {members}` in the place of `type` and `{options}`"
    match = re.fullmatch(_LISTED, word.strip()[:_MAX_TYPE])
    inner = _suggest_type(next(filter(None, match.groups()))) if match is not None else None
    return None if inner is None else f"write `type: array`, and `items: {{type: {inner}}}` beside it"


class _Keyword(NamedTuple):
    """A keyword whose value has the wrong form: its schema, the whole schema, and the routes to both."""

    word: str
    value: Any
    sub: Any
    schema: dict[str, Any]
    at: Route
    place: Route


def _form_of_type(key: _Keyword) -> str | None:
    if not isinstance(key.value, list):
        return None
    names = ["null" if name is None else name for name in key.value]
    types = [name if name in TYPES else _suggest_type(name) for name in names if isinstance(name, str)]
    return f"write `type: {flow(types)}`" if len(types) == len(names) and all(types) else None


def _form_of_bound(key: _Keyword) -> str | None:
    if not isinstance(key.value, bool):
        return _form_of_number(key)
    plain = key.word.replace("exclusiveM", "m")
    bound = key.sub.get(plain) if isinstance(key.sub, dict) else None
    if not key.value:
        return f"delete it: `{plain}` alone takes the bound itself"
    return f"write `{key.word}: {bound}`, and delete `{plain}`" if type(bound) in (int, float) else None


def _form_of_number(key: _Keyword) -> str | None:
    from optio.compiler.conversions.quantities import number_in  # imported only for a file with a mistake

    number = number_in(key.value) if isinstance(key.value, str) else None
    return None if number is None else f"write `{key.word}: {int(number) if number == int(number) else number}`"


def _form_of_schema(key: _Keyword) -> str | None:
    if not isinstance(key.value, str):
        return None
    if key.value.lower() in ("true", "false"):
        return f"write `{key.word}: {key.value.lower()}`"
    kind = _suggest_type(key.value)
    return None if kind is None else f"write `{key.word}: {{type: {kind}}}`"


def _form_of_required(key: _Keyword) -> str | None:
    is_parameter = key.place[-3:-2] == ("properties",)
    if key.value is False and is_parameter:
        listed = value_at(key.schema, (*key.place[:-3], "required"))
        more = f", and take `{key.place[-2]}` out of `required`" if isinstance(listed, list) and key.place[-2] in listed else ""
        return f"delete it: a parameter that `required` does not name is optional{more}"
    if key.value is True and isinstance(key.sub, dict) and isinstance(key.sub.get("properties"), dict):
        return f"write `required: {flow(list(key.sub['properties']))}`"
    if isinstance(key.value, str) and not is_parameter:
        return f"write `required: {flow([name for name in re.split(r'[, ]+', key.value) if name])}`"
    return None


def _form_of_enum(key: _Keyword) -> str | None:
    members = list(key.value) if isinstance(key.value, dict) else []
    if isinstance(key.value, str):
        members = [part.strip() for part in re.split(r"[,|\n]|;\s", key.value)]
    return f"write `enum: {flow(members)}`" if members and len(flow(members)) <= _MAX_MADE else None


def _form_of_properties(key: _Keyword) -> str | None:
    from optio.compiler.conversions.values import properties_of, schema_with  # imported only for a file with a mistake

    if not isinstance(key.value, list):
        return None
    made = properties_of(key.value) if key.place != ("properties",) else schema_with(key.value, key.sub)
    name = "properties" if key.place != ("properties",) else key.at[-1]
    return None if made is None else f"write `{name}: {made}`"


_NUMBERS = (
    "minimum",
    "maximum",
    "multipleOf",
    *(f"{end}{what}" for end in ("min", "max") for what in ("Length", "Items", "Properties")),
)
_FORMS: dict[str, Callable[[_Keyword], str | None]] = {
    **dict.fromkeys(_NUMBERS, _form_of_number),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), _form_of_bound),
    **dict.fromkeys(("items", "additionalProperties", "contains"), _form_of_schema),
    "type": _form_of_type,
    "required": _form_of_required,
    "enum": _form_of_enum,
    "properties": _form_of_properties,
}


def _required(task: ResolvedTask, place: Route) -> Fix | None:
    """Return a fix that turns `required: true` of one parameter into its name in the list beside `properties`; `false` is
    deleted."""
    from optio.compiler.edits.edit_yaml import CannotEdit, plan_edits  # imported only for a file with a mistake

    layer, there = task.document.written(place)
    if place[-3:-2] != ("properties",) or not layer.has(there):
        return None
    wanted = copy.deepcopy(layer.value)
    schema = value_at(wanted, there[:-3])
    is_required, listed = schema["properties"][place[-2]].pop("required"), schema.get("required", [])
    if not isinstance(listed, list):
        return None
    if is_required and place[-2] not in listed:
        schema["required"] = [*listed, place[-2]]
    try:
        return Fix(plan_edits(layer, wanted), safe=False)
    except CannotEdit:
        return None


def _typed(schema: dict[str, Any]) -> str:
    """Return the hint for a schema without a type. Where its keys look like names of parameters, the hint holds a whole
    schema."""
    if "properties" in schema or not schema or any(key in WORDS or key.startswith("$") for key in schema):
        return "add `type: object`"
    from optio.compiler.conversions.values import schema as made_of  # imported only for a file with a mistake

    made = made_of(schema)
    return f"write `paramsSchema: {made}`" if made is not None and len(made) <= _MAX_MADE else "add `type: object`"


def _too_deep(task: ResolvedTask, code: str, route: Route) -> Diagnostic:
    message = f"`{route[-1]}` is below `properties`, where it names a parameter"
    return task.at(code, message, route, key=True, hint="move it beside `properties:`")


def _suggest_type(word: str) -> str | None:
    """Return the JSON Schema type for a word of another language (`str`, `bool`), or for a misspelt type."""
    return _FOREIGN_TYPES.get(word.lower()) or suggest(word.lower(), TYPES)


def _renamed(task: ResolvedTask, schema: dict[str, Any]) -> str | None:
    """Return the parameter that a required name without a declaration stands for: the only one that the prompt uses and that a
    run may lack."""
    required, used_names = schema.get("required", []), placeholders(task.prompt)
    optional = (name for name in schema.get("properties", {}) if name not in required)
    left = [name for name in optional if name in used_names and "default" not in str(schema["properties"][name])]
    return left[0] if len(left) == 1 else None


def _names(task: ResolvedTask, schema: dict[str, Any]) -> Iterator[Diagnostic]:
    properties = schema.get("properties", {})
    seen: dict[str, str] = {}
    for name in properties:
        route = (*ROUTE, "properties", name)
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            hint = f"rename one of them, such as `{name}_2`, here and where it is used"
            yield task.at("OPT226", f"`{name}` differs from `{other}` only by case", route, key=True, hint=hint)
        elif name in RESERVED:
            hint = f"write `{name.strip('_').upper()}_`, here and where it is used"
            yield task.at("OPT226", f"`{name}` is a name that programs reserve", route, key=True, hint=hint)
    if any(word in schema for word in ("allOf", "anyOf", "oneOf", "$ref", "patternProperties", "if")):
        return
    absent = [(index, name) for index, name in enumerate(schema.get("required", [])) if name not in properties]
    renamed = _renamed(task, schema) if len(absent) == 1 else None
    for index, name in absent:
        from optio.compiler.conversions.entries import declaration_hint  # imported only for a file with a mistake

        similar = suggest(name, properties)
        hint = (
            f"did you mean `{similar}`?"
            if similar
            else f"{declaration_hint({'paramsSchema': schema}, name)}, or delete it here"
        )
        if similar is None and renamed is not None and name not in placeholders(task.prompt):
            hint = f"write `{renamed}`, which is declared and not required, or {hint}"
        yield task.at("OPT209", f"required `{name}` is not declared", (*ROUTE, "required", index), hint=hint)
