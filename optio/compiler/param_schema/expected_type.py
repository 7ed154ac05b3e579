"""Determine the type that the author's schema expects at a place: of a keyword, and of a value that a parameter gets."""

from typing import Any

from optio.compiler.conversions.schema_words import BY_NAME, IN_LIST, ONE
from optio.compiler.validation import LIST, MAPPING, SWITCH, TEXT
from optio.model.route import Route, value_at

NUMBER = "a number"
# The places of a task file that hold a JSON Schema.
SCHEMAS: tuple[Route, ...] = (("paramsSchema",), ("result", "schema"))
# Examples of keywords.
_FORMS = {
    "properties": "{NAME: {type: string}}",
    "required": "[NAME]",
    "enum": "[low, high]",
    "type": "string",
    "items": "{type: string}",
    "pattern": "^[a-z]+$",
    "format": "date",
    "uniqueItems": "true",
    "additionalProperties": "false",
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "minProperties", "maxProperties"), "20"
    ),
}
_TYPES = {"string": TEXT, "integer": NUMBER, "number": NUMBER, "boolean": SWITCH, "array": LIST, "object": MAPPING}
_BOUNDS = ("Length", "Items", "Contains", "Properties", "imum", "multipleOf")
_KEYWORDS = {
    **dict.fromkeys(("uniqueItems", "deprecated", "readOnly", "writeOnly"), SWITCH),
    **dict.fromkeys((*IN_LIST, "required", "enum", "examples"), LIST),
    **dict.fromkeys((*BY_NAME, "dependentRequired"), MAPPING),
    **dict.fromkeys(ONE, SWITCH),
}
_MEMBERS = ("default", "const", "enum", "examples")


def keyword_form(root: Any, route: Route) -> str | None:
    """Return an example of how a schema keyword is written, or None."""
    word = str(route[-1])
    if word == "required" and "properties" in route:
        listed_names = value_at(root, (*route[:-3], "required"))
        names = dict.fromkeys(map(str, [*(listed_names if isinstance(listed_names, list) else ()), route[-2]]))
        return f"delete it here, and write `required: [{', '.join(names)}]` beside `properties:`"
    return f"write it as in `{word}: {_FORMS[word]}`" if word in _FORMS else None


def expected_type(root: Any, route: Route) -> str | None:
    """Return the expected type at a route, in the words of `validation`, or `NUMBER`; None where any type is allowed."""
    for at in SCHEMAS:
        if route[: len(at)] == at:
            return _of_schema(value_at(root, at), route[len(at) :])
    names = route[route.index("paramMapping") + 1 :] if "paramMapping" in route else ()
    if route[:1] == ("tests",) and "params" in route:
        names = route[route.index("params") + 1 :]
    names = names[:1] + names[2:] if names[1:2] == ("literal",) else names
    return _of_value(value_at(root, ("paramsSchema",)), names) if names else None


def _of_schema(schema: Any, route: Route) -> str | None:
    """Return the expected type at a place inside a schema. The schema itself may be `true` or `false`."""
    if not route:
        return SWITCH
    word, inner_route = str(route[0]), route[1:]
    if word in _MEMBERS and (inner_route or word in ("default", "const")):
        return _of_value(schema, inner_route[1:] if word in ("enum", "examples") else inner_route)
    inner = value_at(schema, (word,))
    if word in (*BY_NAME, *IN_LIST) and inner_route:
        return _of_schema(value_at(inner, inner_route[:1]), inner_route[1:])
    if word in ONE:
        return _of_schema(inner, inner_route)
    if inner_route:
        return TEXT
    return _KEYWORDS.get(word) or (NUMBER if word.endswith(_BOUNDS) else TEXT)


def _of_value(schema: Any, route: Route) -> str | None:
    """Return the expected type at a place inside a value that must fit the schema."""
    for step in route:
        schema = value_at(schema, ("items",) if isinstance(step, int) else ("properties", step))
    return _TYPES.get(str(value_at(schema, ("type",))))
