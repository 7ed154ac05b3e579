"""Effects on callers: does a caller that did everything right still get a run? Compares two JSON Schemas in normal form,
keyword by keyword.

A value that was accepted and is refused now breaks callers; the reverse does not. Keywords that combine schemas (`anyOf`,
`$ref` and the like) are not solved: where they differ, the plan says that it cannot be decided.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
    return [] if before is None or after is None else list(_compare_schemas(_SchemaPair(normalize(before), normalize(after))))


@dataclass(frozen=True, slots=True)
class _SchemaPair:
    """Two schemas of one value, before and after: the route of the newer one, and the name of the value in messages."""

    old: Any
    new: Any
    route: Route = ()
    name: str = ""

    def breaks(self, text: str, *steps: str) -> SchemaDifference:
        """Return the difference that a value is refused now, at a keyword below the route."""
        return SchemaDifference(EffectKind.CALLERS_BREAK, text, (*self.route, *steps), self.name)

    def widens(self, text: str, *steps: str) -> SchemaDifference:
        """Return the difference that a value is accepted now."""
        return SchemaDifference(EffectKind.PARAMS_WIDENED, text, (*self.route, *steps), self.name)

    def changes(self, text: str, *steps: str) -> SchemaDifference:
        """Return a difference of which it is not known whether callers break."""
        return SchemaDifference(EffectKind.PARAMS_CHANGED, text, (*self.route, *steps), self.name)

    def at(self, old: Any, new: Any, name: str, *steps: str) -> "_SchemaPair":
        """Return two schemas below these."""
        return _SchemaPair(old, new, (*self.route, *steps), name)

    def member(self, key: str) -> str:
        """Return the name of a key of this value."""
        return f"{self.name}.{key}" if self.name else key


def _compare_schemas(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    old, new = pair.old, pair.new
    if canonical(old) == canonical(new):
        return
    if isinstance(old, bool) or isinstance(new, bool) or len(pair.route) > _MAX_DEPTH:
        yield _compare_whole(pair)
        return
    yield from _compare_defaults(pair)
    if enum_values(old) is not None or enum_values(new) is not None:
        yield from _compare_values(pair)
        return
    types = list(_compare_types(pair))
    if types and not types_of(old) & types_of(new):
        yield from types
        return
    undecided = list(_undecided_keywords(pair))
    changes = [*types, *_compare_bounds(pair), *_compare_assertions(pair), *_compare_objects(pair), *_compare_items(pair)]
    # A keyword that cannot be decided may refuse the values that another keyword newly accepts.
    yield from (difference for difference in changes if not undecided or difference.kind is not EffectKind.PARAMS_WIDENED)
    yield from undecided


def _compare_whole(pair: _SchemaPair) -> SchemaDifference:
    if pair.new is False:
        return pair.breaks("no value is accepted any more")
    if pair.old is False:
        return pair.widens("is accepted now")
    if pair.new is True or pair.new == {}:
        return pair.widens("any value is accepted")
    return pair.changes("is checked differently")


def _compare_types(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    was, now = types_of(pair.old), types_of(pair.new)
    text = f"type {_types_text(was)} -> {_types_text(now)}"
    # Widening integer to number loses nothing; narrowing number to integer does.
    if any(t not in now and not (t == "integer" and "number" in now) for t in was):
        yield pair.breaks(text, "type")
    elif any(t not in was and not (t == "integer" and "number" in was) for t in now):
        yield pair.widens(text, "type")


def _types_text(types: set[str]) -> str:
    return "any" if types >= TYPES - {"integer"} else " or ".join(sorted(types))


def _compare_values(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    """Compare two schemas of which one accepts only a few values: try each of these on the other side."""
    was, now = finite_values(pair.old), finite_values(pair.new)
    steps = [keyword for keyword in ("enum", "const") if keyword in pair.new][:1]
    try:
        refused_values = None if was is None else _refused_values(pair.new, was)
        new_values = None if now is None else _refused_values(pair.old, now)
    except SchemaError:  # the rest of the schema is invalid by itself
        yield pair.changes("other values; whether callers break cannot be decided", *steps)
        return
    if refused_values is None and now is not None:
        yield pair.breaks(f"only {_values_text(now)} accepted", *steps)
    elif refused_values:
        yield pair.breaks(f"{_values_text(refused_values)} refused", *steps)
    if now is None:
        yield pair.widens("other values are accepted too", *steps)
    elif new_values:
        yield pair.widens(f"{_values_text(new_values)} accepted", *steps)


def _refused_values(schema: Any, values: list[Any]) -> list[Any]:
    takes = validator(schema).is_valid
    return [value for value in values if not takes(value)]


def _values_text(values: list[Any]) -> str:
    """Return the values with their verb: `a` is, or `a`, `b` are."""
    return f"{listed([quoted(value) for value in values])} {'is' if len(values) == 1 else 'are'}"


def _compare_bounds(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    for keyword, strict, lower, noun in _BOUNDS:
        was, now = _bound(pair.old, keyword, strict), _bound(pair.new, keyword, strict)
        if was == now:
            continue
        sign = 1 if lower else -1
        is_tighter = now is not None and (was is None or (sign * now[0], now[1]) > (sign * was[0], was[1]))
        text = f"{noun} {_bound_text(was, lower)} -> {_bound_text(now, lower)}"
        yield (pair.breaks if is_tighter else pair.widens)(text, strict if strict and strict in pair.new else keyword)


def _bound(schema: Mapping[str, Any], keyword: str, strict: str | None) -> tuple[Any, bool] | None:
    """Return the bound, and whether the bound itself is refused."""
    if strict is not None and strict in schema:
        return schema[strict], True
    return (schema[keyword], False) if keyword in schema else None


def _bound_text(bound: tuple[Any, bool] | None, lower: bool) -> str:
    if bound is None:
        return "none"
    return f"{'above' if lower else 'below'} {bound[0]}" if bound[1] else f"{bound[0]}"


def _compare_assertions(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    """Compare keywords that refuse some values. If both sides have the keyword with different values, neither contains the
    other."""
    for keyword, nothing in (("uniqueItems", False), ("pattern", None), ("format", None), ("multipleOf", None)):
        was, now = pair.old.get(keyword, nothing), pair.new.get(keyword, nothing)
        if was == now:
            continue
        if was == nothing:
            yield pair.breaks(f"must have {keyword if now is True else f'{keyword} {quoted(now)}'}", keyword)
        elif now == nothing:
            yield pair.widens(f"no longer needs {keyword}", keyword)
        else:
            yield pair.changes(f"{keyword} {' -> '.join(quoted_pair(was, now))}", keyword)


def _compare_defaults(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    was, now = ([side["default"]] if "default" in side else [] for side in (pair.old, pair.new))
    if canonical(was) == canonical(now):
        return
    texts = quoted_pair(was[0], now[0]) if was and now else [quoted(value[0]) if value else "none" for value in (was, now)]
    yield _default_change(" -> ".join(texts), (*pair.route, "default"), pair.name)


def _default_change(text: str, route: Route, name: str) -> SchemaDifference:
    return SchemaDifference(EffectKind.DEFAULT_CHANGED, f"default {text}", route, name)


def _compare_objects(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    were, are = pair.old.get("properties", {}), pair.new.get("properties", {})
    yield from _compare_additional(pair)
    yield from _compare_required(pair)
    for key in sorted({*were, *are}):
        if key in were and key in are:
            yield from _compare_schemas(pair.at(were[key], are[key], pair.member(key), "properties", key))
        elif key in are:
            yield from _added_property(pair, key)
        else:
            yield from _removed_property(pair, key)


def _added_property(pair: _SchemaPair, key: str) -> Iterator[SchemaDifference]:
    rest, schema = pair.old.get("additionalProperties", True), pair.new["properties"][key]
    inner = pair.at(rest, schema, pair.member(key), "properties", key)
    default = f", by default {quoted(schema['default'])}" if _has_default(schema) else ""
    if rest is False:
        if key not in _names_to_give(pair.new):
            yield inner.widens(f"a new parameter{default}")
    elif rest is not True:
        yield from _compare_schemas(inner)
    elif schema != {}:
        yield inner.changes(f"a new parameter{default}: any value was accepted, now it is checked")


def _removed_property(pair: _SchemaPair, key: str) -> Iterator[SchemaDifference]:
    rest, schema = pair.new.get("additionalProperties", True), pair.old["properties"][key]
    inner = pair.at(schema, rest, pair.member(key), "properties")
    if rest is False:
        yield inner.breaks("is removed from the schema and refused")
    elif rest is not True:
        yield from _compare_schemas(inner)
    elif schema != {}:
        if _has_default(schema):
            yield _default_change(f"{quoted(schema['default'])} -> none", inner.route, inner.name)
        yield inner.widens("is removed from the schema: any value is accepted")


def _compare_additional(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    was, now = (side.get("additionalProperties", True) for side in (pair.old, pair.new))
    noun, step = "parameters that are not in the schema are", "additionalProperties"
    if canonical(was) == canonical(now):
        return
    if now is False:
        yield pair.breaks(f"{noun} refused", step)
    elif was is False or now is True:
        yield pair.widens(f"{noun} accepted", step)
    else:
        yield pair.changes(f"{noun} checked differently", step)


def _compare_required(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    """Compare the parameters that a caller must give: required, and without a default."""
    was, now = _names_to_give(pair.old), _names_to_give(pair.new)
    for key in sorted(now - was):
        yield replace(pair.breaks("must be given", "required"), name=pair.member(key))
    for key in sorted(was - now):
        if key in pair.new.get("properties", {}):
            yield replace(pair.widens("may be left out", "required"), name=pair.member(key))


def _names_to_give(schema: Mapping[str, Any]) -> set[str]:
    properties = schema.get("properties", {})
    return {key for key in schema.get("required", ()) if not _has_default(properties.get(key))}


def _has_default(schema: Any) -> bool:
    return isinstance(schema, Mapping) and "default" in schema


def _compare_items(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    if "items" in pair.old or "items" in pair.new:
        yield from _compare_schemas(pair.at(pair.old.get("items", {}), pair.new.get("items", {}), f"{pair.name}[]", "items"))


def _undecided_keywords(pair: _SchemaPair) -> Iterator[SchemaDifference]:
    for keyword in sorted({*pair.old, *pair.new} - _DECIDABLE_KEYWORDS - _BOUND_KEYWORDS):
        if canonical(pair.old.get(keyword)) != canonical(pair.new.get(keyword)):
            yield pair.changes(f"`{keyword}` differs: whether callers break cannot be decided", keyword)
