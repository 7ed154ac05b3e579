"""Check the values that a schema holds itself: defaults, constants, choices and examples must fit the schema around them."""

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, NamedTuple

from optio.compiler.diagnostics import Diagnostic, report_first
from optio.compiler.param_schema.contradictions import WORDS
from optio.compiler.param_schema.keywords import subschemas
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.yaml.emit import flow
from optio.model.params import SchemaError, describe_error, validator
from optio.model.route import Route

if TYPE_CHECKING:
    from optio.model.params import Validator

# Other languages' words for no value, numbers with units, and words for true and false.
_NOTHING = ("None", "null", "nil", "undefined", "NULL", None)
_WITH_UNIT = r"(-?\d+(?:\.\d+)?)\s*([A-Za-z%$€]{0,10})"
_SWITCHES = {**dict.fromkeys(("true", "yes", "on"), "true"), **dict.fromkeys(("false", "no", "off"), "false")}
_FORMS = {"date": "2026-01-31", "date-time": "2026-01-31T09:00:00Z", "time": "09:00:00Z", "duration": "PT1H"}
_HOLD = frozenset({"default", "const", "enum", "examples"})
# The types and keywords of a schema whose values are compared without a validator: making one takes longer than all else here.
_PLAIN_TYPES = {"string": str, "boolean": bool, "array": list, "object": dict}
_PLAIN_WORDS = frozenset({"type", "title", "description", "maxLength"})


class _HeldValue(NamedTuple):
    code: str
    called: str
    place: Route
    value: Any


class _SchemaValues(NamedTuple):
    """A schema without its own values, and the values to compare with it."""

    sub: dict[str, Any]
    bare: dict[str, Any]
    values: list[_HeldValue]


class _WrongValue(NamedTuple):
    sub: dict[str, Any]
    held: _HeldValue
    fits: "Validator"
    instance: Any


def check_own_values(task: ResolvedTask, at: Route, schema: dict[str, Any], unfit: AbstractSet[Route]) -> Iterator[Diagnostic]:
    """Report values that do not fit a valid schema. `unfit` are routes whose schema no value fits, which is already
    reported."""
    holding = ((route, sub) for route, sub in subschemas(schema, at) if not _HOLD.isdisjoint(sub))
    parts = [part for route, sub in holding for part in _parts(task, route, sub, WORDS if route in unfit else ())]
    parts.reverse()  # the walk yields them in reverse
    if not parts:
        return
    refer = [_refers(part.bare) for part in parts]
    plain_parts = [part for part, refers in zip(parts, refer, strict=True) if not refers]
    referring_parts = [part for part, refers in zip(parts, refer, strict=True) if refers]
    wrong = [*_wrong(plain_parts), *_wrong_of_all(referring_parts, schema)]

    def tell(value: _WrongValue) -> Diagnostic:
        message = describe_error(next(iter(value.fits.iter_errors(value.instance))))
        hint = _cure(value.sub, value.held.value, value.held.code == "OPT207", task.document.plain(value.held.place))
        if value.held.place[-1] == "const" and isinstance(value.held.value, list):
            hint = f"write `enum: {flow(value.held.value)}` if it is one of these"
        return task.at(value.held.code, f"{value.held.called} {message}", value.held.place, hint=hint)

    for code in ("OPT207", "OPT208"):
        yield from report_first((value for value in wrong if value.held.code == code), tell)


def _refers(schema: dict[str, Any]) -> bool:
    source = str(schema)
    return "$ref" in source or "$dynamicRef" in source


def _parts(task: ResolvedTask, route: Route, sub: dict[str, Any], left_out: Iterable[str]) -> Iterator[_SchemaValues]:
    """Yield each schema with its values. A list of values is not compared with itself."""
    default = [_HeldValue("OPT207", "the default", (*route, "default"), sub["default"])] if "default" in sub else []
    members = [((*route, "const"), sub["const"])] if "const" in sub else []
    for word in ("enum", "examples"):
        if isinstance(sub.get(word), list):
            members += [((*route, word, index), value) for index, value in enumerate(sub[word])]
    members_held = [_HeldValue("OPT208", f"`{place[len(route)]}` has a value that", place, value) for place, value in members]
    for group, without in ((default, ()), (members_held, ("enum", "const"))):
        values = [each for each in group if not any(gap[: len(each.place)] == each.place for gap in task.gaps)]
        if values:
            drop = {*without, *left_out, "examples", "default", "$id", "$anchor"}
            bare = {word: value for word, value in sub.items() if word not in drop}
            if not all(_fits_plainly(bare, each.value) for each in values):
                yield _SchemaValues(sub, bare, values)


def _fits_plainly(schema: dict[str, Any], value: Any) -> bool:
    """Return True if a value fits a valid schema that restricts only its type and length. False says nothing."""
    if not schema.keys() <= _PLAIN_WORDS or type(value) is not _PLAIN_TYPES.get(str(schema.get("type"))):
        return False
    return not isinstance(value, str) or len(value) <= schema.get("maxLength", len(value))


def _wrong(parts: list[_SchemaValues]) -> Iterator[_WrongValue]:
    for sub, bare, values in parts:
        fits = _validator(bare)
        if fits is not None:
            yield from (_WrongValue(sub, value, fits, value.value) for value in values if not fits.is_valid(value.value))


def _wrong_of_all(parts: list[_SchemaValues], root: dict[str, Any]) -> Iterator[_WrongValue]:
    """Check values of schemas with references with a single validator, because each validator would hold all referenced
    schemas. Every value stands alone in its list, because explaining each failure is slow."""
    definitions: dict[str, Any] = {word: root[word] for word in ("$defs", "definitions", "properties") if word in root}
    fits = _validator({**definitions, "prefixItems": [{"items": part.bare} for part in parts]}) if parts else None
    if fits is None:
        return
    for index, part in enumerate(parts):
        for value in part.values:
            instance = [*([[]] * index), [value.value]]
            if not fits.is_valid(instance):
                yield _WrongValue(part.sub, value, fits, instance)


def _validator(schema: dict[str, Any]) -> "Validator | None":
    try:
        return validator(schema)
    except (SchemaError, ValueError):  # it has a reference into the whole schema
        return None


def _cure(sub: dict[str, Any], value: Any, is_default: bool, source: str | None) -> str:
    kind, text = sub.get("type"), str(value).strip()
    if is_default and value in _NOTHING:
        return "write the value for runs that give none, or delete `default` and list the parameter under `required`"
    if isinstance(form := sub.get("format"), str) and form in _FORMS:
        return f"write it as in {_FORMS[form]}"
    if kind in ("integer", "number") and (number := re.fullmatch(_WITH_UNIT, text)):
        return f"write {number[1]}: the number alone" if number[2] else f"remove the quotes: {number[1]}"
    if kind == "boolean" and text.lower() in _SWITCHES:
        return f"write {_SWITCHES[text.lower()]}"
    if kind == "string" and isinstance(value, (bool, int, float)):
        return f"put quotes around it: '{source or value}'"
    from optio.compiler.conversions.entries import hint_for_value  # imported only for a file with a mistake

    cure = hint_for_value(sub, value, left_out=value)
    return "write a value that fits, or change the schema" if cure is None else f"{cure}; or change the schema"
