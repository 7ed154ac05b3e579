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
# Contradicting keywords are not used to refuse a value as well.
WORDS = frozenset({"enum", "not", *(word for low, high, _ in _BOUNDS for word in (low, high))})


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
    for low, high, open_end in _BOUNDS:
        if low in sub and high in sub and (sub[low] > sub[high] or (open_end and sub[low] == sub[high])):
            message = f"`{low}: {sub[low]}` leaves nothing below `{high}: {sub[high]}`"
            yield task.at("OPT211", message, (*route, low), hint=_swapped(sub, low, high))
            return
    if sub.get("enum") == []:
        yield task.at(
            "OPT211", "`enum` is empty", (*route, "enum"), hint="list the values, such as `enum: [low, high]`, or delete `enum`"
        )
    if sub.get("not") == {} or sub.get("not") is True:
        yield task.at("OPT211", "`not` forbids every value", (*route, "not"), hint="delete it")
