"""A normal form for JSON Schemas of parameters, so that two spellings of one schema compare equal.

Equal forms accept the same values; unequal forms prove nothing. References to `#/...` are inlined, `allOf` is merged,
alternatives that are values become `enum`, alternatives by type become a list of types, and integer bounds become inclusive.
Annotations are dropped, as are defaults that are never filled in: those inside references and alternatives.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optio.model.params import FORMATS, SchemaError, validator
from optio.model.registry import canonical

Schema = dict[str, Any]

TYPES = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
# Annotations, which the validator ignores.
_ANNOTATIONS = frozenset({"title", "description", "examples", "$comment", "deprecated", "readOnly", "writeOnly"}) | {
    *("$schema", "$id", "$anchor", "$defs", "definitions")
}
# Keyword -> the types that it applies to; values of other types pass.
_KEYWORD_TYPES = {
    keyword: frozenset(types)
    for types, keywords in {
        ("number", "integer"): ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        ("string",): ("minLength", "maxLength", "pattern", "format"),
        ("array",): ("minItems", "maxItems", "uniqueItems", "items", "contains", "prefixItems", "minContains", "maxContains"),
        ("object",): (
            *("minProperties", "maxProperties", "properties", "required", "additionalProperties", "propertyNames"),
            *("patternProperties", "dependentRequired", "dependentSchemas", "unevaluatedProperties"),
        ),
    }.items()
    for keyword in keywords
}
_DEFAULT_VALUES: Schema = {
    **dict.fromkeys(("minLength", "minItems", "minProperties"), 0),
    **dict.fromkeys(("additionalProperties", "items", "propertyNames", "unevaluatedProperties", "unevaluatedItems"), True),
    **{key: {} for key in ("properties", "patternProperties", "dependentRequired", "dependentSchemas")},
    "uniqueItems": False,
    "required": [],
}
# Keywords whose value is a map of schemas, one schema, or a list of schemas.
_SCHEMA_MAPS = ("properties", "patternProperties", "dependentSchemas")
_SUBSCHEMA_KEYWORDS = (
    *("additionalProperties", "items", "propertyNames", "contains", "not", "if", "then", "else"),
    *("unevaluatedProperties", "unevaluatedItems"),
)
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
# Keyword -> a function that combines two values into one that demands both.
_STRICTER_VALUE: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
    "required": lambda one, other: sorted({*one, *other}),
    "uniqueItems": lambda one, other: one or other,
}
# Keywords whose meaning depends on their neighbours, so that they cannot be merged; and keywords that never affect them.
_CONTEXT_KEYWORDS = frozenset(
    {
        *("additionalProperties", "unevaluatedProperties", "unevaluatedItems", "if", "then", "else", "$dynamicRef"),
        *("prefixItems", "minContains", "maxContains"),
    }
)
_INDEPENDENT_KEYWORDS = frozenset(
    {"type", "enum", "const", "not", "pattern", "format", "multipleOf", "dependentRequired", *_STRICTER_VALUE}
)
_MAX_DEPTH, _MAX_SUBSCHEMAS = 20, 5_000
_MAX_VALUES = 1_000
_FINITE_TYPES: dict[str, tuple[Any, ...]] = {"boolean": (False, True), "null": (None,)}


def normalize(schema: Mapping[str, Any]) -> Schema:
    """Return the normal form of a whole schema of parameters. A schema that is too large or uses `unevaluated...` only loses
    its annotations."""
    root = dict(schema)
    whole, plain = _Normalizer(root), _Normalizer(root, plain=True)
    try:
        found: Schema = whole.of(root, (), filled=True)
    except (ArithmeticError, RecursionError):  # a bound such as NaN, or endless recursion
        return root
    if whole.left < 0 or '"unevaluated' in canonical(found):
        found = plain.of(root, (), filled=True)
    if '"$ref"' in canonical(found) or '"$dynamicRef"' in canonical(found):
        found |= {key: root[key] for key in ("$defs", "definitions", "$id", "$anchor") if key in root}
    return found


class _Normalizer:
    def __init__(self, root: Schema, *, plain: bool = False) -> None:
        self._root, self._plain = root, plain
        self._has_ids = '"$id"' in canonical(root)
        # Inlined references may multiply.
        self.left = _MAX_SUBSCHEMAS

    def of(self, schema: Any, within: tuple[str, ...], *, filled: bool) -> Any:
        """Return the form of one schema. `within` are the references being inlined; `filled` says that its defaults are
        used."""
        if not isinstance(schema, Mapping):
            return schema
        self.left -= 1
        if (self.left < 0 and not self._plain) or len(within) > _MAX_DEPTH:
            return dict(schema)
        found = {key: value for key, value in schema.items() if key not in _ANNOTATIONS and not key.startswith("x-")}
        default = {"default": found.pop("default")} if "default" in found else {}
        self._below(found, within, filled=filled)
        if not self._plain:
            found = _simplify(_fold_alternatives(self._written_out(found, within)))
        return found | default if filled else found

    def _below(self, found: Schema, within: tuple[str, ...], *, filled: bool) -> None:
        for key in _SCHEMA_MAPS:
            if isinstance(found.get(key), Mapping):
                inner = filled and key == "properties"
                found[key] = {
                    name: {} if each is True else self.of(each, within, filled=inner) for name, each in found[key].items()
                }
        for key in _SUBSCHEMA_KEYWORDS:
            if key in found:
                found[key] = self.of(found[key], within, filled=False)
                if key not in ("if", "not", "contains") and found[key] == {}:
                    found[key] = True
        for key in _SCHEMA_LISTS:
            if isinstance(found.get(key), list):
                found[key] = [self.of(each, within, filled=False) for each in found[key]]
                if key != "prefixItems":
                    found[key] = sorted(found[key], key=canonical)

    def _written_out(self, found: Schema, within: tuple[str, ...]) -> Schema:
        """Merge references and `allOf` into the schema where that keeps its meaning."""
        parts, left = [], []
        target = self._target(found.get("$ref"))
        if target is not None and found["$ref"] not in within:
            parts.append(self.of(target, (*within, found["$ref"]), filled=False))
            found = {key: value for key, value in found.items() if key != "$ref"}
        parts += found.get("allOf", [])
        for key in ("anyOf", "oneOf"):
            if isinstance(found.get(key), list) and len(found[key]) == 1:
                parts += found.pop(key)
        for part in parts:
            merged = _merge(found | {"allOf": []}, part)
            if merged is None:
                left.append(part)
            else:
                found = merged
        found.pop("allOf", None)
        return found | ({"allOf": sorted(left, key=canonical)} if left else {})

    def _target(self, reference: Any) -> Any:
        """Return the schema that `#/...` names; None for other references, and if an `$id` changes their base."""
        if not isinstance(reference, str) or self._has_ids or not (reference == "#" or reference.startswith("#/")):
            return None
        value: Any = self._root
        for step in reference.split("/")[1:]:
            value = value.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(value, Mapping) else None
        return value if isinstance(value, Mapping) else None


def _merge(one: Schema, other: Any) -> Schema | None:
    """Return one schema that accepts what both accept, or None if their keywords cannot be combined."""
    if other is True or other == {}:
        return one
    if not isinstance(other, dict):
        return None
    if _CONTEXT_KEYWORDS & {*one, *other} and not _are_independent(one, other):
        return None
    found = dict(one)
    for key, value in other.items():
        if key == "allOf":
            return None
        if key not in found or canonical(found[key]) == canonical(value):
            found[key] = value
        elif key in _STRICTER_VALUE:
            found[key] = _STRICTER_VALUE[key](found[key], value)
        elif key == "type":
            found[key] = _common_types(types_of(one), types_of(other))
        elif key == "enum":
            known = {canonical(each) for each in value}
            found[key] = [each for each in found[key] if canonical(each) in known]
        elif key == "properties" and not set(found[key]) & set(value):
            found[key] = found[key] | value
        else:
            return None
    return found


def _are_independent(one: Schema, other: Schema) -> bool:
    """Return whether keywords that depend on their neighbours keep their meaning when the two schemas are merged."""
    if set(one) <= _INDEPENDENT_KEYWORDS or set(other) <= _INDEPENDENT_KEYWORDS:
        return True
    objects = {"properties", "patternProperties", "additionalProperties"}
    return _CONTEXT_KEYWORDS & {*one, *other} == {"additionalProperties"} and not (objects & set(one) and objects & set(other))


def _common_types(one: set[str], other: set[str]) -> list[str]:
    both = one & other
    if "integer" in one ^ other and "number" in one ^ other:
        both |= {"integer"}
    return sorted(both)


def types_of(schema: Mapping[str, Any]) -> set[str]:
    """Return the types that a schema accepts; `number` includes integers."""
    given = schema.get("type", sorted(TYPES - {"integer"}))
    return {given} if isinstance(given, str) else set(given)


def _fold_alternatives(found: Schema) -> Schema:
    """Turn alternatives that are values into `enum`, and alternatives with distinct types into one schema."""
    for key in ("anyOf", "oneOf"):
        parts = found.get(key)
        if not isinstance(parts, list) or not all(isinstance(each, dict) for each in parts):
            continue
        rest = {name: value for name, value in found.items() if name != key}
        folded = _fold_values(parts, key) or _fold_types(parts)
        merged = None if folded is None else _merge(rest, folded)
        if merged is not None:
            found = merged
    return found


def _fold_values(parts: Sequence[Schema], key: str) -> Schema | None:
    if any(set(each) != {"enum"} for each in parts):
        return None
    values = [value for each in parts for value in each["enum"]]
    names = {canonical(each) for each in values}
    # `oneOf` refuses a value that fits two alternatives.
    return None if key == "oneOf" and len(names) < len(values) else {"enum": values}


def _fold_types(parts: Sequence[Schema]) -> Schema | None:
    """Merge alternatives such as `string or null`, each with its own types and only keywords of these."""
    found: Schema = {"type": []}
    known: set[str] = set()
    for each in parts:
        types = types_of(each)
        wider = types | ({"integer", "number"} if types & {"integer", "number"} else set())
        keywords = {key: value for key, value in each.items() if key != "type"}
        if "type" not in each or known & wider or any(not _KEYWORD_TYPES.get(key, TYPES) <= wider for key in keywords):
            return None
        known |= wider
        found |= keywords
        found["type"] += types
    return found


def _simplify(found: Schema) -> Schema:
    """Reduce a schema to its shortest equal form."""
    if "const" in found:
        only = found.pop("const")
        found = _merge(found, {"enum": [only]}) or found | {"const": only}
    types = types_of(found)
    if "number" in types:
        types.discard("integer")
        if found.get("multipleOf") == 1:
            types = types - {"number"} | {"integer"}
    if "integer" in types:
        _round_bounds(found)
    _drop_looser_bounds(found)
    found = {key: value for key, value in found.items() if not _is_idle(key, value, types)}
    if found.get("unevaluatedProperties") is False and not set(found) & {
        *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "$ref", "$dynamicRef", "dependentSchemas"),
        "additionalProperties",
    }:
        found["additionalProperties"] = found.pop("unevaluatedProperties")
    found.pop("type", None)
    if types < TYPES - {"integer"} or "integer" in types:
        found["type"] = min(types) if len(types) == 1 else sorted(types)
    if "required" in found:
        found["required"] = sorted(set(found["required"]))
    return _simplify_enum(found)


def _is_idle(keyword: str, value: Any, types: set[str]) -> bool:
    """Return whether a keyword refuses nothing beside these types."""
    if keyword == "format":
        return value not in FORMATS or "string" not in types
    if keyword in _KEYWORD_TYPES and not _KEYWORD_TYPES[keyword] & types:
        return True
    return keyword in _DEFAULT_VALUES and canonical(value) == canonical(_DEFAULT_VALUES[keyword])


def _round_bounds(found: Schema) -> None:
    """Turn the bounds of integers into inclusive ones."""
    for key, strict, round_, step in (
        ("minimum", "exclusiveMinimum", math.ceil, 1),
        ("maximum", "exclusiveMaximum", math.floor, -1),
    ):
        bounds = []
        if key in found:
            bounds.append(round_(found.pop(key)))
        if strict in found:
            value = found.pop(strict)
            bounds.append(round_(value) + step * (round_(value) == value))
        if bounds:
            found[key] = max(bounds) if step > 0 else min(bounds)
    if found.get("multipleOf") == 1:
        del found["multipleOf"]


def _drop_looser_bounds(found: Schema) -> None:
    """Keep the stricter of an inclusive and an exclusive bound."""
    for key, strict, sign in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
        if key in found and strict in found:
            del found[strict if sign * found[key] > sign * found[strict] else key]


def _simplify_enum(found: Schema) -> Schema:
    """Drop values of `enum` that the other keywords refuse; a full `enum` becomes the whole schema."""
    if not isinstance(found.get("enum"), list):
        return found
    rest = {key: value for key, value in found.items() if key != "enum"}
    try:
        takes = validator(rest).is_valid
        values = {canonical(_integer_if_whole(each)): each for each in found["enum"] if takes(each)}
    except SchemaError:  # the rest of the schema is invalid by itself
        return found
    names = set(values)
    if names == {"true", "false"}:
        return {"type": "boolean"}
    if names == {"null"}:
        return {"type": "null"}
    return {"enum": [_integer_if_whole(values[name]) for name in sorted(names)]}


def _integer_if_whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def enum_values(schema: Mapping[str, Any]) -> list[Any] | None:
    """Return the values of `enum` in a normal form, or None if it has none."""
    return schema["enum"] if isinstance(schema.get("enum"), list) else None


def finite_values(schema: Mapping[str, Any]) -> list[Any] | None:
    """Return all values that a normal form accepts if they are few: of `enum`, `boolean`, `null`, or a short range of
    integers."""
    if schema.get("type") == "integer" and set(schema) - {"default"} == {"type", "minimum", "maximum"}:
        low, high = schema["minimum"], schema["maximum"]
        return list(range(low, high + 1)) if high - low < _MAX_VALUES else None
    kind = schema.get("type")
    return list(_FINITE_TYPES[kind]) if isinstance(kind, str) and kind in _FINITE_TYPES else enum_values(schema)
