"""Shape: Document -> TaskSpec. What is wrong is reported and taken out, so that the rest of the file is still checked."""

import copy
from typing import Any, NamedTuple

from pydantic import ValidationError

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.document import Document
from optio.compiler.keys import TRIGGERS, unknown
from optio.compiler.layers import Merged
from optio.compiler.scalars import other_reading
from optio.compiler.wording import ELSEWHERE, LATER_TYPES, odd_scalar, translate
from optio.model.route import Route, value_at
from optio.model.task import TaskSpec

_FILLERS: dict[str, Any] = {"name": "unnamed", "agentRuntime": "claude-code"}
_MOST_ROUNDS = 8
# Beyond this nobody reads on, and each costs a search for what was meant.
_MOST_ERRORS = 200


class Shape(NamedTuple):
    """The task as far as it is sound. `gaps` are the routes that were taken out: nothing is known about them."""

    spec: TaskSpec
    gaps: frozenset[Route] = frozenset()


def read(document: Document | Merged) -> tuple[Shape | None, list[Diagnostic]]:
    """The task as written, or None when nothing can be said about it; and the reasons."""
    try:
        spec = TaskSpec.model_validate(document.value)
    except ValidationError as err:
        return _read_broken(document, err)
    odd = [odd_scalar(document, route, text, str(other_reading(text)), set()) for route, text in document.odd.items()]
    return Shape(spec, frozenset(document.odd)), odd


def _read_broken(document: Document | Merged, err: ValidationError) -> tuple[Shape | None, list[Diagnostic]]:
    errors = [(_route(document.value, error["loc"]), error) for error in err.errors(include_url=False)]
    wanted: dict[Route, set[str]] = {}
    for route, error in errors:
        wanted.setdefault(route, set()).add(error["type"])
    readings = {route: str(other_reading(text)) for route, text in document.odd.items()}
    readings |= {route: reading for route, types in wanted.items() if (reading := _misread(document, route, types))}
    found = [odd_scalar(document, r, document.plain(r) or "", reading, wanted.get(r, set())) for r, reading in readings.items()]
    later = isinstance(document.value, dict) and document.value.get("type") in (*LATER_TYPES, *ELSEWHERE)
    reported = set(readings)
    # A misspelt key is one mistake, not a key too many and a key too few.
    meant = {(*route[:-1], word) for route, error in errors[:_MOST_ERRORS] if (word := _meant(document, route, error["type"]))}
    reported |= {route for route, error in errors if error["type"] == "missing" and route in meant}
    if wanted.keys() & {("type",), ("extends",)} or ("extends",) in meant:
        # Of which kind the document is, or what else it is made of, is not known: what it lacks is not, either.
        reported |= {route for route, error in errors if error["type"] == "missing" and len(route) == 1}
    # A union complains that a list is no text, too, when something in the list is wrong.
    reported |= {route for route in wanted if route == ("command",) and any(other[:1] == route != other for other in wanted)}
    for route, error in errors[:_MOST_ERRORS]:
        # A union complains once for each of its members; a document of another type has other keys.
        if route not in reported and not (later and route != ("type",)):
            found.extend(translate(document, error, route))
        reported.add(route)
    if later or not isinstance(document.value, dict):
        return None, found
    return _without(document.value, list(wanted), frozenset(readings) | meant), found


def _meant(document: Document | Merged, route: Route, kind: str) -> str | None:
    if kind != "extra_forbidden":
        return None
    what = unknown(document.value, route)
    return what.meant or (what.hint.split("`")[1] if "`" in what.hint else None)


def _misread(document: Document | Merged, route: Route, types: set[str]) -> str | None:
    """`~`, `null` and `1e3` in a text's place: words somebody may have meant."""
    if "string_type" not in types or route == ("budgetUsd",):
        return None
    written = (document.plain(route) or "").lower()
    if written in ("~", "null"):
        return "null"
    return "a text" if "e" in written and isinstance(value_at(document.value, route), float) else None


def _without(value: dict[str, Any], wrong: list[Route], gaps: frozenset[Route]) -> Shape | None:
    """The task with each wrong value taken out; a value that is required takes its parent with it, and so on upwards."""
    value = copy.deepcopy(value)
    taken = set(gaps)
    for _ in range(_MOST_ROUNDS):
        gone: set[Route] = set()
        for route in sorted(set(wrong), key=lambda each: (-len(each), [str(step) for step in each])):
            # What went with another is not looked for again: something around it would go instead.
            if not any(route[:length] in gone for length in range(len(route) + 1)):
                gone.add(_take_out(value, route))
        taken |= gone
        try:
            return Shape(TaskSpec.model_validate(value), frozenset(taken))
        except ValidationError as err:
            wrong = [_route(value, error["loc"]) for error in err.errors(include_url=False)]
    return None


def _take_out(value: dict[str, Any], route: Route) -> Route:
    """Removes what stands there, or else the nearest thing around it that can be removed; says which."""
    if len(route) == 1 and route[0] in _FILLERS:
        value[str(route[0])] = _FILLERS[str(route[0])]
        return route
    while route:
        parent = value_at(value, route[:-1])
        if isinstance(parent, dict) and route[-1] in parent:
            del parent[route[-1]]
            return route
        if isinstance(parent, list) and route[:-1] == ("triggers",):
            parent[int(route[-1])] = {"type": "manual"}
            return route
        route = route[:-1]
    return route


def _route(value: Any, loc: tuple[int | str, ...]) -> Route:
    """pydantic's `loc` without the union tags it puts between the steps, and without its `[key]` marks."""
    route: list[int | str] = []
    for index, step in enumerate(loc):
        if step == "[key]":
            continue
        if (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int)):
            route.append(step)
            value = value[step]  # type: ignore[index]
        elif index == len(loc) - 1 and not _is_tag(step, route):
            route.append(step)
    return tuple(route)


def _is_tag(step: int | str, route: list[int | str]) -> bool:
    """The name of a union's member: `webhook`, `list[...]`."""
    return isinstance(step, str) and (step.endswith("]") or (step in TRIGGERS and route[:1] == ["triggers"]))
