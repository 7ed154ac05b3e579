"""A normal form for JSON Schemas of parameters, so that two spellings of one schema compare equal.

Equal forms accept the same values; unequal forms prove nothing. References to `#/...` are inlined, `allOf` is merged,
alternatives that are values become `enum`, alternatives by type become a list of types, and integer bounds become inclusive.
Annotations are dropped, as are defaults that are never filled in: those inside references and alternatives.
"""

import math
from collections.abc import Mapping, Sequence
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
# Keywords whose meaning depends on their neighbours, so that they cannot be merged.
_CONTEXT_KEYWORDS = frozenset(
    {
        *("allOf", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "if", "then", "else", "$dynamicRef"),
        *("prefixItems", "minContains", "maxContains"),
    }
)
_MAX_DEPTH, _MAX_SUBSCHEMAS = 20, 5_000
_MAX_VALUES = 1_000
_FINITE_TYPES: dict[str, tuple[Any, ...]] = {"boolean": (False, True), "null": (None,)}


def normalize(schema: Mapping[str, Any]) -> Schema:
    """Return the normal form of a whole schema of parameters. A schema that is too large or uses `unevaluated...` only loses
    its annotations."""
    root = dict(schema)
    full, plain = _Normalizer(root), _Normalizer(root, plain=True)
    try:
        schema_text: Schema = full.of(root, (), filled=True)
    except (ArithmeticError, RecursionError):  # a bound such as NaN, or endless recursion
        return root
    if full.left < 0 or '"unevaluated' in canonical(schema_text):
        schema_text = plain.of(root, (), filled=True)
    if '"$ref"' in canonical(schema_text) or '"$dynamicRef"' in canonical(schema_text):
        schema_text |= {key: root[key] for key in ("$defs", "definitions", "$id", "$anchor") if key in root}
    return schema_text


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
        normal = {key: value for key, value in schema.items() if key not in _ANNOTATIONS and not key.startswith("x-")}
        default = {"default": normal.pop("default")} if "default" in normal else {}
        self._below(normal, within, filled=filled)
        if not self._plain:
            normal = _simplify(_fold_alternatives(self._written_out(normal, within)))
        return normal | default if filled else normal

    def _below(self, normal: Schema, within: tuple[str, ...], *, filled: bool) -> None:
        for key in _SCHEMA_MAPS:
            if isinstance(normal.get(key), Mapping):
                inner = filled and key == "properties"
                normal[key] = {
                    name: {} if subschema is True else self.of(subschema, within, filled=inner)
                    for name, subschema in normal[key].items()
                }
        for key in _SUBSCHEMA_KEYWORDS:
            if key in normal:
                normal[key] = self.of(normal[key], within, filled=False)
                if key not in ("if", "not", "contains") and normal[key] == {}:
                    normal[key] = True
        for key in _SCHEMA_LISTS:
            if isinstance(normal.get(key), list):
                normal[key] = [self.of(subschema, within, filled=False) for subschema in normal[key]]
                if key != "prefixItems":
                    normal[key] = sorted(normal[key], key=canonical)

    def _written_out(self, normal: Schema, within: tuple[str, ...]) -> Schema:
        """Merge references and `allOf` into the schema where that keeps its meaning."""
        parts, left = [], []
        target = self._target(normal.get("$ref"))
        if target is not None and normal["$ref"] not in within:
            parts.append(self.of(target, (*within, normal["$ref"]), filled=False))
            normal = {key: value for key, value in normal.items() if key != "$ref"}
        parts += normal.get("allOf", [])
        for key in ("anyOf", "oneOf"):
            if isinstance(normal.get(key), list) and len(normal[key]) == 1:
                parts += normal.pop(key)
        for part in parts:
            merge = _merge({key: value for key, value in normal.items() if key != "allOf"}, part)
            if merge is None:
                left.append(part)
            else:
                normal = merge
        normal.pop("allOf", None)
        return normal | ({"allOf": sorted(left, key=canonical)} if left else {})

    def _target(self, reference: Any) -> Any:
        """Return the schema that `#/...` names; None for other references, and if an `$id` changes their base."""
        if not isinstance(reference, str) or self._has_ids or not (reference == "#" or reference.startswith("#/")):
            return None
        value: Any = self._root
        for step in reference.split("/")[1:]:
            value = value.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(value, Mapping) else None
        return value if isinstance(value, Mapping) else None


def _merge(left: Schema, right: Any) -> Schema | None:
    """Return one schema that accepts what both accept; None if that needs more than the keywords of both together."""
    if right is True:
        return left
    if not isinstance(right, dict) or any(canonical(left[key]) != canonical(right[key]) for key in left.keys() & right.keys()):
        return None
    return left | right if not right or not _CONTEXT_KEYWORDS & {*left, *right} else None


def types_of(schema: Mapping[str, Any]) -> set[str]:
    """Return the types that a schema accepts; `number` includes integers."""
    declared_type = schema.get("type", sorted(TYPES - {"integer"}))
    return {declared_type} if isinstance(declared_type, str) else set(declared_type)


def _fold_alternatives(normal: Schema) -> Schema:
    """Turn alternatives that are values into `enum`, and alternatives with distinct types into one schema."""
    for key in ("anyOf", "oneOf"):
        parts = normal.get(key)
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            continue
        rest = {name: value for name, value in normal.items() if name != key}
        alternative = _fold_values(parts, key) or _fold_types(parts)
        merge = None if alternative is None else _merge(rest, alternative)
        if merge is not None:
            normal = merge
    return normal


def _fold_values(parts: Sequence[Schema], key: str) -> Schema | None:
    if any(set(part) != {"enum"} for part in parts):
        return None
    values = [value for part in parts for value in part["enum"]]
    names = {canonical(part) for part in values}
    # `oneOf` refuses a value that fits two alternatives.
    return None if key == "oneOf" and len(names) < len(values) else {"enum": values}


def _fold_types(parts: Sequence[Schema]) -> Schema | None:
    """Merge alternatives such as `string or null`, each with its own types and only keywords of these."""
    union: Schema = {"type": []}
    seen_types: set[str] = set()
    for part in parts:
        types = types_of(part)
        wider = types | ({"integer", "number"} if types & {"integer", "number"} else set())
        keywords = {key: value for key, value in part.items() if key != "type"}
        if "type" not in part or seen_types & wider or any(not _KEYWORD_TYPES.get(key, TYPES) <= wider for key in keywords):
            return None
        seen_types |= wider
        union |= keywords
        union["type"] += types
    return union


def _simplify(normal: Schema) -> Schema:
    """Reduce a schema to its shortest equal form."""
    if "const" in normal:
        constant = normal.pop("const")
        normal = _merge(normal, {"enum": [constant]}) or normal | {"const": constant}
    types = types_of(normal)
    if "number" in types:
        types.discard("integer")
        if normal.get("multipleOf") == 1:
            types = types - {"number"} | {"integer"}
    if "integer" in types:
        _round_bounds(normal)
    _drop_looser_bounds(normal)
    normal = {key: value for key, value in normal.items() if not _is_idle(key, value, types)}
    if normal.get("unevaluatedProperties") is False and not set(normal) & {
        *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "$ref", "$dynamicRef", "dependentSchemas"),
        "additionalProperties",
    }:
        normal["additionalProperties"] = normal.pop("unevaluatedProperties")
    normal.pop("type", None)
    if types < TYPES - {"integer"} or "integer" in types:
        normal["type"] = min(types) if len(types) == 1 else sorted(types)
    if "required" in normal:
        normal["required"] = sorted(set(normal["required"]))
    return _simplify_enum(normal)


def _is_idle(keyword: str, value: Any, types: set[str]) -> bool:
    """Return whether a keyword refuses nothing beside these types."""
    if keyword == "format":
        return value not in FORMATS or "string" not in types
    if keyword in _KEYWORD_TYPES and not _KEYWORD_TYPES[keyword] & types:
        return True
    return keyword in _DEFAULT_VALUES and canonical(value) == canonical(_DEFAULT_VALUES[keyword])


def _round_bounds(normal: Schema) -> None:
    """Turn the bounds of integers into inclusive ones."""
    for key, strict, round_, step in (
        ("minimum", "exclusiveMinimum", math.ceil, 1),
        ("maximum", "exclusiveMaximum", math.floor, -1),
    ):
        bounds = []
        if key in normal:
            bounds.append(round_(normal.pop(key)))
        if strict in normal:
            value = normal.pop(strict)
            bounds.append(round_(value) + step * (round_(value) == value))
        if bounds:
            normal[key] = max(bounds) if step > 0 else min(bounds)
    if normal.get("multipleOf") == 1:
        del normal["multipleOf"]


def _drop_looser_bounds(normal: Schema) -> None:
    """Keep the stricter of an inclusive and an exclusive bound."""
    for key, strict, sign in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
        if key in normal and strict in normal:
            del normal[strict if sign * normal[key] > sign * normal[strict] else key]


def _simplify_enum(normal: Schema) -> Schema:
    """Drop values of `enum` that the other keywords refuse; a full `enum` becomes the whole schema."""
    if not isinstance(normal.get("enum"), list):
        return normal
    rest = {key: value for key, value in normal.items() if key != "enum"}
    try:
        takes = validator(rest).is_valid
        values = {canonical(_integer_if_whole(value)): value for value in normal["enum"] if takes(value)}
    except SchemaError:  # the rest of the schema is invalid by itself
        return normal
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
