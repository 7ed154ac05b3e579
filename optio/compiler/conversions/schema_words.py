"""The keywords of JSON Schema, and those of other systems that mean the same. `param_schema.keywords` corrects schemas by them;
`values` keeps them where it converts another system's parameters."""

import re
from typing import Any

from optio.model.params import SchemaError, validator

# Words under which a schema holds further schemas: by name, in a list, or one.
BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
IN_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
ONE = (
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedProperties",
    "unevaluatedItems",
)
WORDS = frozenset(
    {
        *BY_NAME,
        *IN_LIST,
        *ONE,
        *("$schema", "$id", "$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary", "$comment"),
        *("type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength"),
        *("minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains", "maxProperties"),
        *("minProperties", "required", "dependentRequired", "title", "description", "default", "deprecated", "readOnly"),
        *("writeOnly", "examples", "format", "contentEncoding", "contentMediaType", "contentSchema"),
    }
)
# Keywords under the names of other systems.
_FOREIGN_KEYWORDS = {
    **dict.fromkeys(("options", "choices", "values", "allowed", "allowedvalues", "validvalues", "oneof", "in"), "enum"),
    **dict.fromkeys(("choice", "suggestions", "permittedvalues", "acceptedvalues", "enumvalues"), "enum"),
    **dict.fromkeys(("regex", "regexp", "match", "matches", "allowedpattern", "validationregex", "validator"), "pattern"),
    **dict.fromkeys(("maxchars", "maxcharacters", "maxlen", "length", "maxsize", "size"), "maxLength"),
    **dict.fromkeys(("minchars", "mincharacters", "minlen"), "minLength"),
    **dict.fromkeys(("minvalue", "lowerbound", "gte", "ge"), "minimum"),
    **dict.fromkeys(("maxvalue", "upperbound", "lte", "le"), "maximum"),
    **dict.fromkeys(("step", "increment"), "multipleOf"),
    **dict.fromkeys(("defaultvalue", "initial", "fallback"), "default"),
}
# The ending that completes `max` and `min` to a keyword, by type.
_BOUNDED = {"string": "Length", "array": "Items", "object": "Properties", "integer": "imum", "number": "imum"}


def translate_keyword(word: str, kind: str) -> str | None:
    """Return the keyword that another system calls by this word, for a value of the type `kind`: `max` is `maxLength` or
    `maximum`."""
    bound = _BOUNDED.get(kind) if word in ("max", "min") else None
    return word + bound if bound is not None else _FOREIGN_KEYWORDS.get(re.sub(r"[_-]", "", word).lower())


def is_sound(schema: dict[str, Any]) -> bool:
    """Return True if the schema is a valid JSON Schema, whose patterns compile and whose references exist."""
    try:
        validator(schema)
    except (SchemaError, ValueError):
        return False
    return True
