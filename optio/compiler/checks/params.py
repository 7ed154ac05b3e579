"""Check `paramsSchema`: it must be valid JSON Schema 2020-12, satisfiable, and hold defaults and examples that fit. The parts
live in `optio.compiler.param_schema`; advice about a valid schema is in `params_pedantic`."""

import copy
import re
from collections.abc import Iterator
from typing import Any

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
    known = declared_parameters(task)
    meant = schema if known is None or known.schema is None else known.schema
    yield from _names(task, meant)
    yield from check_values(task, ROUTE, schema)
    if isinstance(value_at(meant, ("properties", "additionalProperties")), bool):
        yield _too_deep(task, "OPT215", (*ROUTE, "properties", "additionalProperties"))
    elif meant.get("properties") and "additionalProperties" not in meant and "unevaluatedProperties" not in meant:
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


def _invalid(task: ResolvedTask, at: Route, schema: dict[str, Any], found: list[Pattern]) -> Iterator[Diagnostic]:
    wrong = patterns.invalid_patterns(found)
    yield from patterns.explain_patterns(task, at, wrong, len(found))
    for place, keyword, message in iter_schema_faults(schema, patterns.pattern_size_limit(found)):
        if any(place == p[: len(place)] for p in wrong):
            continue
        route: Route = at + place
        word = place[-1] if place else ""
        value = value_at(schema, place)
        if place[-2:-1] in (("oneOf",), ("anyOf",)) and isinstance(value, (str, int)) and not isinstance(value, bool):
            listed_in = value_at(schema, place[:-1])
            if place[-1] == 0 and len(shown := flow(listed_in)) <= _MAX_MADE:
                hint = f"write `enum: {shown}`"
                yield task.at("OPT205", f"`{place[-2]}` is a list of schemas", route[:-1], key=True, hint=hint)
        elif place[-2:-1] == ("properties",) and word == "required" and isinstance(value, list):
            yield _too_deep(task, "OPT205", route)
        elif place[-2:-1] == ("properties",) and keyword == "type" and not isinstance(value, bool | dict):
            meant = _suggest_type(value) if isinstance(value, str) else None
            hint, write = f"write `{word}: {{type: {meant or 'string'}}}`", f"{{type: {meant}}}" if meant else None
            yield task.at("OPT205", f"`{word}` needs a schema", route, hint=hint, write=write, safe=False)
        elif word == "type" and isinstance(value, str):
            meant = _suggest_type(value)
            hint = f"did you mean `{meant}`?" if meant else "allowed: " + ", ".join(TYPES)
            if value.lower() in ("enum", "select", "choice") and isinstance(value_at(schema, (*place[:-1], "enum")), list):
                meant, hint = None, "delete it: `enum` alone says which values fit"
            if value.lower() in ("any", "mixed", "dynamic"):
                hint = "delete it: without a type any value fits"
            several = [_suggest_type(part) for part in re.split(r"\s*(?:[,|/]|\bor\b)\s*", value[:_MAX_TYPE])]
            if len(several) > 1 and all(several):
                meant, hint = None, f"write `type: {flow(several)}`"
            form_of = suggest_format(value)
            if meant == "string" and form_of is not None and "format" not in value_at(schema, place[:-1]):
                hint = f"write `type: string`, and `format: {form_of}` beside it"
            beside = value_at(schema, place[:-1])
            if (members := _members(value, beside)) is not None:
                hint, meant = members, None
            yield task.at("OPT205", f"`{value}` is not a JSON Schema type", route, hint=hint, value=meant, safe=False)
        elif keyword == "uniqueItems" and isinstance(value, list):
            twice = next(index for index, member in enumerate(value) if member in value[:index])
            message = f"`{value[twice]}` appears twice in `{word}`"
            yield task.at("OPT205", message, (*route, twice), hint="delete one of them")
        else:
            listed = (
                [part.strip() for part in re.split(r"[,|\n]|;\s", value)] if word == "enum" and isinstance(value, str) else []
            )
            made = _keyword(at, schema, place, value)
            hint = (
                made
                if made is not None
                else f"write `enum: {flow(listed)}`"
                if listed
                else keyword_form(task.document.value, (*at, *place)) or "see json-schema.org for the form of this keyword"
            )
            fix = _required(task, at + place) if word == "required" and isinstance(value, bool) else None
            yield task.at("OPT205", f"`{word or at[-1]}` {message}", route, hint=hint, fix=fix)


def _members(word: str, sub: dict[str, Any]) -> str | None:
    """Return the hint for a list type such as `list[string]` or `choice`: the items' type, or an `enum`."""
    options = next((name for name in _OPTIONS if isinstance(sub.get(name), list) and sub[name]), None)
    listed = sub[options] if options is not None else ()
    members = [each["value"] if isinstance(each, dict) and "value" in each else each for each in listed]
    if options is not None and len(shown := flow(members)) <= _MAX_MADE:
        if _suggest_type(word) == "array":
            return f"write `type: array` and `items: {{enum: {shown}}}` in the place of `type` and `{options}`"
        return f"write `type: string` and `enum: {shown}` in the place of `type` and `{options}`"
    found = re.fullmatch(_LISTED, word.strip()[:_MAX_TYPE])
    inner = _suggest_type(next(filter(None, found.groups()))) if found is not None else None
    return None if inner is None else f"write `type: array`, and `items: {{type: {inner}}}` beside it"


def _keyword(at: Route, schema: dict[str, Any], place: Route, value: Any) -> str | None:
    """Return the hint for a keyword whose value has another type, with a value derived from the wrong one, or None."""
    word, beside = str(place[-1]) if place else "", value_at(schema, place[:-1])
    if word == "type" and isinstance(value, list):
        types = [each if each in TYPES else _suggest_type(each) for each in value if isinstance(each, str)]
        if len(types) == len(value) and all(types):
            return f"write `type: {flow(types)}`"
    if word in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):
        plain = word.replace("exclusiveM", "m")
        bound = beside.get(plain) if isinstance(beside, dict) else None
        if not value:
            return f"delete it: `{plain}` alone takes the bound itself"
        return f"write `{word}: {bound}`, and delete `{plain}`" if type(bound) in (int, float) else f"write `{word}: 0`"
    if word.endswith(("Length", "Items", "Properties", "imum", "multipleOf")) and isinstance(value, str):
        from optio.compiler.conversions.quantities import number_in  # imported only for a file with a mistake

        number = number_in(value)
        return None if number is None else f"write `{word}: {int(number) if number == int(number) else number}`"
    if word in ("items", "additionalProperties", "contains") and isinstance(value, str):
        if value.lower() in ("true", "false"):
            return f"write `{word}: {value.lower()}`"
        meant = _suggest_type(value)
        return None if meant is None else f"write `{word}: {{type: {meant}}}`"
    if word == "required" and value is False and place[-3:-2] == ("properties",):
        listed = value_at(schema, (*place[:-3], "required"))
        more = f", and take `{place[-2]}` out of `required`" if isinstance(listed, list) and place[-2] in listed else ""
        return f"delete it: a parameter that `required` does not name is optional{more}"
    if word == "required" and value is True and isinstance(beside, dict) and isinstance(beside.get("properties"), dict):
        return f"write `required: {flow(list(beside['properties']))}`"
    if word == "type" and isinstance(value, list) and None in value:
        return f"write `type: {flow(['null' if each is None else each for each in value])}`"
    if word == "required" and isinstance(value, str) and place[-3:-2] != ("properties",):
        return f"write `required: {flow([each for each in re.split(r'[, ]+', value) if each])}`"
    if word == "enum" and isinstance(value, dict) and value:
        return f"write `enum: {flow(list(value))}`" if len(flow(list(value))) <= _MAX_MADE else None
    if word == "properties" and isinstance(value, list):
        from optio.compiler.conversions.values import properties_of, schema_with  # imported only for a file with a mistake

        if place != ("properties",):
            inner = properties_of(value)
            return None if inner is None else f"write `properties: {inner}`"
        made = schema_with(value, beside)
        return None if made is None else f"write `{at[-1]}: {made}`"
    return None


def _required(task: ResolvedTask, place: Route) -> Fix | None:
    """Return a fix that turns `required: true` of one parameter into its name in the list beside `properties`; `false` is
    deleted."""
    from optio.compiler.edits.edit_yaml import CannotEdit, plan_edits  # imported only for a file with a mistake

    own, there = task.document.written(place)
    if place[-3:-2] != ("properties",) or not own.has(there):
        return None
    wanted = copy.deepcopy(own.value)
    schema = value_at(wanted, there[:-3])
    is_required, listed = schema["properties"][place[-2]].pop("required"), schema.get("required", [])
    if not isinstance(listed, list):
        return None
    if is_required and place[-2] not in listed:
        schema["required"] = [*listed, place[-2]]
    try:
        return Fix(plan_edits(own, wanted), safe=False)
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
    required, used = schema.get("required", []), placeholders(task.prompt)
    optional = (name for name in schema.get("properties", {}) if name not in required)
    left = [name for name in optional if name in used and "default" not in str(schema["properties"][name])]
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

        meant = suggest(name, properties)
        hint = f"did you mean `{meant}`?" if meant else f"{declaration_hint({'paramsSchema': schema}, name)}, or delete it here"
        if meant is None and renamed is not None and name not in placeholders(task.prompt):
            hint = f"write `{renamed}`, which is declared and not required, or {hint}"
        yield task.at("OPT209", f"required `{name}` is not declared", (*ROUTE, "required", index), hint=hint)
