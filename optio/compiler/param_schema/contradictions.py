"""Find schemas that no value can satisfy, such as a `minimum` above the `maximum`."""

from collections.abc import Iterator
from typing import Any

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route

_BOUNDS = (
    ("minimum", "maximum", False),
    ("exclusiveMinimum", "maximum", True),
    ("minimum", "exclusiveMaximum", True),
    ("exclusiveMinimum", "exclusiveMaximum", True),
    ("minLength", "maxLength", False),
    ("minItems", "maxItems", False),
    ("minProperties", "maxProperties", False),
    ("minContains", "maxContains", False),
)
# The least and the greatest number of characters in a text of a format, and an example. A year has four digits.
_LENGTHS: dict[str, tuple[int, int | None, str]] = {
    "date": (10, 10, "2026-01-31"),
    "date-time": (20, None, "2026-01-31T09:00:00Z"),
    "time": (9, None, "09:00:00Z"),
    "uuid": (36, 36, "123e4567-e89b-12d3-a456-426614174000"),
    "ipv4": (7, 15, "192.168.100.200"),
}
# Contradicting keywords are not used to refuse a value as well.
WORDS = frozenset({"enum", "not", *(word for low, high, _ in _BOUNDS for word in (low, high))})
# What a contradiction has at least one of.
_BOUNDED = frozenset({*(low for low, _, _ in _BOUNDS), "format", "enum", "not"})


def check_contradictions(task: ResolvedTask, route: Route, schema: dict[str, Any]) -> Iterator[Diagnostic]:
    """Report at most one contradiction for each property of the schema at a route, and one for the schema itself."""
    yield from _one(task, route, schema)
    for name, sub in schema.get("properties", {}).items():
        place = (*route, "properties", name)
        if sub is False and name in schema.get("required", []):
            yield task.at(
                "OPT211",
                f"`{name}` is required, but no value is allowed",
                place,
                hint="write a schema instead of `false`, such as `{type: string}`",
            )
        elif isinstance(sub, dict):
            yield from _one(task, place, sub)


def _swapped(sub: dict[str, Any], low: str, high: str) -> str:
    if sub[low] == sub[high]:
        return f"raise `{high}` or lower `{low}`"
    return f"swap them: write `{low}: {sub[high]}` and `{high}: {sub[low]}`; or change one"


def _one(task: ResolvedTask, route: Route, sub: dict[str, Any]) -> Iterator[Diagnostic]:
    if _BOUNDED.isdisjoint(sub):
        return
    for low, high, open_end in _BOUNDS:
        if low in sub and high in sub and (sub[low] > sub[high] or (open_end and sub[low] == sub[high])):
            message = f"`{low}: {sub[low]}` leaves nothing below `{high}: {sub[high]}`"
            yield task.at("OPT211", message, (*route, low), hint=_swapped(sub, low, high))
            return
    form = sub.get("format")
    shortest, longest, example = _LENGTHS.get(str(form), (0, None, ""))
    if shortest and sub.get("maxLength", shortest) < shortest:
        exactly = "" if shortest == longest else "at least "
        message = f"`{form}` has {exactly}{shortest} characters, as in `{example}`: `maxLength: {sub['maxLength']}` leaves none"
        yield task.at("OPT211", message, (*route, "maxLength"), hint=f"delete it: `format: {form}` bounds the length")
    elif longest and sub.get("minLength", 0) > longest:
        message = f"`{form}` has at most {longest} characters, as in `{example}`: `minLength: {sub['minLength']}` leaves none"
        yield task.at("OPT211", message, (*route, "minLength"), hint=f"delete it: `format: {form}` bounds the length")
    if sub.get("enum") == []:
        yield task.at(
            "OPT211", "`enum` is empty", (*route, "enum"), hint="list the values, such as `enum: [low, high]`, or delete `enum`"
        )
    if sub.get("not") == {} or sub.get("not") is True:
        yield task.at("OPT211", "`not` forbids every value", (*route, "not"), hint="delete it")
