"""Effects on callers: does a caller that did everything right still get a run? Compares two JSON Schemas in normal form,
keyword by keyword.

A value that was accepted and is refused now breaks callers; the reverse does not. Keywords that combine schemas (`anyOf`,
`$ref` and the like) are not solved: where they differ, the plan says that it cannot be decided.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optio.model.effect import EffectKind, EffectWeight
from optio.model.params import SchemaError, validator
from optio.model.registry import CompiledTask, canonical
from optio.model.route import Route
from optio.plan.effect import Effect
from optio.plan.schemas import TYPES, enum_values, finite_values, normalize, types_of
from optio.plan.words import listed, quoted, quoted_pair

_DECIDABLE_KEYWORDS = frozenset(
    {
        *("type", "enum", "default", "properties", "required", "additionalProperties", "items"),
        *("uniqueItems", "pattern", "format", "multipleOf"),
    }
)
# (keyword, exclusive variant, whether a greater value accepts less, name in messages)
_BOUNDS: tuple[tuple[str, str | None, bool, str], ...] = (
    ("minimum", "exclusiveMinimum", True, "minimum"),
    ("maximum", "exclusiveMaximum", False, "maximum"),
    ("minLength", None, True, "minimum length"),
    ("maxLength", None, False, "maximum length"),
    ("minItems", None, True, "minimum number of items"),
    ("maxItems", None, False, "maximum number of items"),
    ("minProperties", None, True, "minimum number of keys"),
    ("maxProperties", None, False, "maximum number of keys"),
)
_BOUND_KEYWORDS = {keyword for bounds in _BOUNDS for keyword in bounds[:2]}
_MAX_DEPTH = 20
_WEIGHTS = {EffectKind.CALLERS_BREAK: EffectWeight.DANGER, EffectKind.PARAMS_WIDENED: EffectWeight.INFO}


@dataclass(frozen=True, slots=True)
class SchemaDifference:
    """The effect of one keyword on callers. `name` is the parameter as `order.items[]`; empty for the parameters as a whole."""

    kind: EffectKind
    text: str
    route: Route
    name: str = ""


def effects(before: CompiledTask | None, after: CompiledTask | None) -> Iterator[Effect]:
    """Yield one effect for each difference between the two schemas; nothing for a task that is new or removed."""
    if before is None or after is None:
        return
    for difference in differences(before.spec.params_schema, after.spec.params_schema):
        text = f"{difference.name}: {difference.text}" if difference.name else difference.text
        weight = _WEIGHTS.get(difference.kind, EffectWeight.NOTICE)
        yield Effect(kind=difference.kind, text=text, weight=weight, route=("paramsSchema", *difference.route))


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[SchemaDifference]:
    """Return the differences between two schemas of parameters; None as a schema accepts any object."""
    if before is None and after is not None:
        # Without a schema any object is accepted.
        before = {"type": "object"}
    if after is None and before is not None:
        after = {"type": "object"}
    return [] if before is None or after is None else list(_compare_schemas(normalize(before), normalize(after), (), ""))


def _compare_schemas(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    if canonical(old) == canonical(new):
        return
    if isinstance(old, bool) or isinstance(new, bool) or len(route) > _MAX_DEPTH:
        yield from _compare_whole(old, new, route, name)
        return
    yield from _compare_defaults(old, new, route, name)
    if enum_values(old) is not None or enum_values(new) is not None:
        yield from _compare_values(old, new, route, name)
        return
    types = list(_compare_types(old, new, route, name))
    if types and not types_of(old) & types_of(new):
        yield from types
        return
    undecided = list(_undecided_keywords(old, new, route, name))
    changes = [
        *types,
        *(
            difference
            for part in (_compare_bounds, _compare_assertions, _compare_objects, _compare_items)
            for difference in part(old, new, route, name)
        ),
    ]
    # A keyword that cannot be decided may refuse the values that another keyword newly accepts.
    yield from (difference for difference in changes if not undecided or difference.kind is not EffectKind.PARAMS_WIDENED)
    yield from undecided


def _compare_whole(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    if new is False:
        yield SchemaDifference(EffectKind.CALLERS_BREAK, "no value is accepted any more", route, name)
    elif old is False:
        yield SchemaDifference(EffectKind.PARAMS_WIDENED, "is accepted now", route, name)
    elif new is True or new == {}:
        yield SchemaDifference(EffectKind.PARAMS_WIDENED, "any value is accepted", route, name)
    else:
        yield SchemaDifference(EffectKind.PARAMS_CHANGED, "is checked differently", route, name)


def _compare_types(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    was, now = types_of(old), types_of(new)
    place = (*route, "type")
    # Widening integer to number loses nothing; narrowing number to integer does.
    refused_types = {t for t in was - now if not (t == "integer" and "number" in now)}
    gained = {t for t in now - was if not (t == "integer" and "number" in was)}
    text = f"type {_types_text(was)} -> {_types_text(now)}"
    if refused_types:
        yield SchemaDifference(EffectKind.CALLERS_BREAK, text, place, name)
    elif gained:
        yield SchemaDifference(EffectKind.PARAMS_WIDENED, text, place, name)


def _types_text(types: set[str]) -> str:
    return "any" if types >= TYPES - {"integer"} else " or ".join(sorted(types))


def _compare_values(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    """Compare two schemas of which one accepts only a few values: try each of these on the other side."""
    was, now = finite_values(old), finite_values(new)
    place = (*route, "enum") if "enum" in new else (*route, "const") if "const" in new else route
    try:
        refused_values = None if was is None else _refused_values(new, was)
        gained = None if now is None else _refused_values(old, now)
    except SchemaError:  # the rest of the schema is invalid by itself
        yield SchemaDifference(EffectKind.PARAMS_CHANGED, "other values; whether callers break cannot be decided", place, name)
        return
    if refused_values is None and now is not None:
        yield SchemaDifference(EffectKind.CALLERS_BREAK, f"only {_values_text(now)} {_is_or_are(now)} accepted", place, name)
    elif refused_values:
        yield SchemaDifference(
            EffectKind.CALLERS_BREAK, f"{_values_text(refused_values)} {_is_or_are(refused_values)} refused", place, name
        )
    if now is None:
        yield SchemaDifference(EffectKind.PARAMS_WIDENED, "other values are accepted too", place, name)
    elif gained:
        yield SchemaDifference(EffectKind.PARAMS_WIDENED, f"{_values_text(gained)} {_is_or_are(gained)} accepted", place, name)


def _refused_values(schema: Any, values: list[Any]) -> list[Any]:
    takes = validator(schema).is_valid
    return [value for value in values if not takes(value)]


def _values_text(values: list[Any]) -> str:
    return listed([quoted(value) for value in values])


def _is_or_are(values: list[Any]) -> str:
    return "is" if len(values) == 1 else "are"


def _compare_bounds(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    for keyword, strict, lower, noun in _BOUNDS:
        was, now = _bound(old, keyword, strict), _bound(new, keyword, strict)
        if was == now:
            continue
        sign = 1 if lower else -1
        tighter = now is not None and (was is None or (sign * now[0], now[1]) > (sign * was[0], was[1]))
        place = (*route, strict if strict and strict in new else keyword)
        text = f"{noun} {_bound_text(was, lower)} -> {_bound_text(now, lower)}"
        yield SchemaDifference(EffectKind.CALLERS_BREAK if tighter else EffectKind.PARAMS_WIDENED, text, place, name)


def _bound(schema: Mapping[str, Any], keyword: str, strict: str | None) -> tuple[Any, bool] | None:
    """Return the bound, and whether the bound itself is refused."""
    if strict is not None and strict in schema:
        return schema[strict], True
    return (schema[keyword], False) if keyword in schema else None


def _bound_text(bound: tuple[Any, bool] | None, lower: bool) -> str:
    if bound is None:
        return "none"
    return f"{'above' if lower else 'below'} {bound[0]}" if bound[1] else f"{bound[0]}"


def _compare_assertions(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    """Compare keywords that refuse some values. If both sides have the keyword with different values, neither contains the
    other."""
    for keyword, nothing in (("uniqueItems", False), ("pattern", None), ("format", None), ("multipleOf", None)):
        was, now = old.get(keyword, nothing), new.get(keyword, nothing)
        if was == now:
            continue
        place = (*route, keyword)
        if was == nothing:
            assertion = keyword if now is True else f"{keyword} {quoted(now)}"
            yield SchemaDifference(EffectKind.CALLERS_BREAK, f"must have {assertion}", place, name)
        elif now == nothing:
            yield SchemaDifference(EffectKind.PARAMS_WIDENED, f"no longer needs {keyword}", place, name)
        else:
            change_text = " -> ".join(quoted_pair(was, now))
            yield SchemaDifference(EffectKind.PARAMS_CHANGED, f"{keyword} {change_text}", place, name)


def _compare_defaults(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    missing = object()
    was, now = old.get("default", missing), new.get("default", missing)
    if (was is missing) == (now is missing) and (was is missing or canonical(was) == canonical(now)):
        return
    if missing in (was, now):
        texts = ["none" if value is missing else quoted(value) for value in (was, now)]
    else:
        texts = list(quoted_pair(was, now))
    yield SchemaDifference(EffectKind.DEFAULT_CHANGED, f"default {texts[0]} -> {texts[1]}", (*route, "default"), name)


def _compare_objects(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    were, are = old.get("properties", {}), new.get("properties", {})
    yield from _compare_additional(old, new, route, name)
    yield from _compare_required(old, new, route, name)
    for key in sorted({*were, *are}):
        inner, place = _nested_name(name, key), (*route, "properties", key)
        if key in were and key in are:
            yield from _compare_schemas(were[key], are[key], place, inner)
        elif key in are:
            yield from _added_property(old, new, key, place, inner)
        else:
            yield from _removed_property(new, were[key], (*route, "properties"), inner)


def _nested_name(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _added_property(old: Any, new: Any, key: str, route: Route, name: str) -> Iterator[SchemaDifference]:
    rest, schema = old.get("additionalProperties", True), new["properties"][key]
    if rest is True and schema == {}:
        return
    default = f", by default {quoted(schema['default'])}" if _has_default(schema) else ""
    if rest is False:
        if key not in _names_to_give(new):
            yield SchemaDifference(EffectKind.PARAMS_WIDENED, f"a new parameter{default}", route, name)
    elif rest is True:
        text = f"a new parameter{default}: any value was accepted, now it is checked"
        yield SchemaDifference(EffectKind.PARAMS_CHANGED, text, route, name)
    else:
        yield from _compare_schemas(rest, schema, route, name)


def _removed_property(new: Any, schema: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    rest = new.get("additionalProperties", True)
    if rest is True and schema == {}:
        return
    if rest is False:
        yield SchemaDifference(EffectKind.CALLERS_BREAK, "is removed from the schema and refused", route, name)
    elif rest is True:
        if _has_default(schema):
            yield SchemaDifference(EffectKind.DEFAULT_CHANGED, f"default {quoted(schema['default'])} -> none", route, name)
        yield SchemaDifference(EffectKind.PARAMS_WIDENED, "is removed from the schema: any value is accepted", route, name)
    else:
        yield from _compare_schemas(schema, rest, route, name)


def _compare_additional(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    was, now = old.get("additionalProperties", True), new.get("additionalProperties", True)
    if canonical(was) == canonical(now):
        return
    place = (*route, "additionalProperties")
    if now is False:
        yield SchemaDifference(EffectKind.CALLERS_BREAK, "parameters that are not in the schema are refused", place, name)
    elif was is False or now is True:
        yield SchemaDifference(EffectKind.PARAMS_WIDENED, "parameters that are not in the schema are accepted", place, name)
    else:
        yield SchemaDifference(
            EffectKind.PARAMS_CHANGED, "parameters that are not in the schema are checked differently", place, name
        )


def _compare_required(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    """Compare the parameters that a caller must give: required, and without a default."""
    was, now = _names_to_give(old), _names_to_give(new)
    for key in sorted(now - was):
        yield SchemaDifference(EffectKind.CALLERS_BREAK, "must be given", (*route, "required"), _nested_name(name, key))
    for key in sorted(was - now):
        if key in new.get("properties", {}):
            yield SchemaDifference(EffectKind.PARAMS_WIDENED, "may be left out", (*route, "required"), _nested_name(name, key))


def _names_to_give(schema: Mapping[str, Any]) -> set[str]:
    properties = schema.get("properties", {})
    return {key for key in schema.get("required", ()) if not _has_default(properties.get(key))}


def _has_default(schema: Any) -> bool:
    return isinstance(schema, Mapping) and "default" in schema


def _compare_items(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    if "items" in old or "items" in new:
        yield from _compare_schemas(old.get("items", {}), new.get("items", {}), (*route, "items"), f"{name}[]")


def _undecided_keywords(old: Any, new: Any, route: Route, name: str) -> Iterator[SchemaDifference]:
    for keyword in sorted({*old, *new} - _DECIDABLE_KEYWORDS - _BOUND_KEYWORDS):
        if canonical(old.get(keyword)) == canonical(new.get(keyword)):
            continue
        text = f"`{keyword}` differs: whether callers break cannot be decided"
        yield SchemaDifference(EffectKind.PARAMS_CHANGED, text, (*route, keyword), name)
