"""Check `paramsSchema`: it must be valid JSON Schema 2020-12, satisfiable, and hold defaults and examples that fit. The parts
live in `optio.compiler.param_schema`; advice about a valid schema is in `params_pedantic`."""

import copy
from collections.abc import Iterator
from typing import Any

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
from optio.model.params import SchemaError, iter_schema_faults, validator
from optio.model.route import Route, value_at

ROUTE: Route = ("paramsSchema",)
DIALECT = "https://json-schema.org/draft/2020-12/schema"
TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
# Types of programming languages and databases.
_FOREIGN_TYPES = {
    **dict.fromkeys(("str", "text", "char", "varchar"), "string"),
    **dict.fromkeys(("int", "long"), "integer"),
    **dict.fromkeys(("float", "double", "decimal"), "number"),
    **dict.fromkeys(("bool", "flag"), "boolean"),
    **dict.fromkeys(("list", "tuple", "set"), "array"),
    **dict.fromkeys(("dict", "map", "hash", "struct"), "object"),
    **dict.fromkeys(("none", "nil"), "null"),
}
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
        yield task.at("OPT206", "the root of `paramsSchema` has no type", ROUTE, key=True, hint="add `type: object`")
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
    regexes = patterns.patterns_in(schema)
    bad = [
        *check_references(task, at, schema),
        *patterns.check_total_work(task, at, regexes),
        *patterns.check_slashes(task, at, regexes),
    ]
    yield from bad
    if bad:
        return
    try:
        validator(schema, patterns.pattern_size_limit(regexes))
    except SchemaError:
        yield from _invalid(task, at, schema, regexes)
    except (ValueError, UnicodeError):
        message = f"`{at[-1]}` holds a value that JSON cannot express"
        yield task.at("OPT205", message, at, key=True, hint="use text, numbers, lists and mappings")


def check_values(task: ResolvedTask, at: Route, schema: dict[str, Any]) -> Iterator[Diagnostic]:
    """Report parts of a valid schema that no value fits, and values in it that do not fit."""
    unfit = list(check_contradictions(task, at, schema))
    yield from unfit
    yield from check_own_values(task, at, schema, {finding.route[:-1] for finding in unfit})


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
    is_parameter = parent == ("properties",)
    if is_parameter and word == "required" and isinstance(value, list):
        yield _too_deep(task, "OPT205", route)
    elif is_parameter and keyword == "type" and not isinstance(value, bool | dict):
        yield _no_schema(task, route, value)
    elif word == "type" and isinstance(value, str):
        yield _bad_type(task, route, value)
    elif keyword == "uniqueItems" and isinstance(value, list):
        second = next(index for index, member in enumerate(value) if member in value[:index])
        message = f"`{value[second]}` appears twice in `{word}`"
        yield task.at("OPT205", message, (*route, second), hint="delete one of them")
    else:
        is_required = word == "required" and isinstance(value, bool)
        hint = keyword_form(task.document.value, route) or "delete it, or see json-schema.org for its form"
        if is_required and not value:
            hint = "delete it: a parameter that `required` does not name is optional"
        fix = _required(task, route) if is_required else None
        yield task.at("OPT205", f"`{word or at[-1]}` {message}", route, hint=hint, fix=fix)


def _no_schema(task: ResolvedTask, route: Route, value: Any) -> Diagnostic:
    kind, name = _suggest_type(value) if isinstance(value, str) else None, route[-1]
    hint, write = f"write `{name}: {{type: {kind or 'string'}}}`", f"{{type: {kind}}}" if kind else None
    return task.at("OPT205", f"`{name}` needs a schema", route, hint=hint, write=write, safe=False)


def _bad_type(task: ResolvedTask, route: Route, value: str) -> Diagnostic:
    kind, form = _suggest_type(value), suggest_format(value)
    hint = f"did you mean `{kind}`?" if kind else f"allowed: {', '.join(TYPES)}"
    if form is not None and kind in (None, "string"):
        kind, hint = "string", f"write `type: string`, and `format: {form}` beside it"
    return task.at("OPT205", f"`{value}` is not a JSON Schema type", route, hint=hint, value=kind, safe=False)


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


def _too_deep(task: ResolvedTask, code: str, route: Route) -> Diagnostic:
    message = f"`{route[-1]}` is below `properties`, where it names a parameter"
    return task.at(code, message, route, key=True, hint="move it beside `properties:`")


def _suggest_type(word: str) -> str | None:
    """Return the JSON Schema type for a word of another language (`str`, `bool`), or for a misspelt type."""
    return _FOREIGN_TYPES.get(word.lower()) or (suggest(word.lower(), TYPES) if word.isalpha() else None)


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
    for index, name in absent:
        from optio.compiler.conversions.entries import declaration_hint  # imported only for a file with a mistake

        similar = suggest(name, properties)
        hint = f"{declaration_hint({'paramsSchema': schema}, name)}, or delete it here"
        if similar is not None:
            hint = f"did you mean `{similar}`?"
        yield task.at("OPT209", f"required `{name}` is not declared", (*ROUTE, "required", index), hint=hint)
