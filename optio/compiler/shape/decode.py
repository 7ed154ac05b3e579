"""Decode a document into a TaskSpec. A wrong value is reported and removed, so that the rest of the file is still checked."""

import copy
from collections import Counter
from typing import Any, NamedTuple

from optio.compiler.conversions.known_keys import fold_key
from optio.compiler.diagnostics import Diagnostic, Severity, diagnostic
from optio.compiler.layers import OTHER_TYPES, MergedDocument
from optio.compiler.shape.unknown_keys import UnknownKey, explain_unknown_key
from optio.compiler.validation import TEXT, IssueKind, ValidationIssue, find_issues
from optio.compiler.yaml.document import Document
from optio.compiler.yaml.scalars import yaml_1_1_reading
from optio.model import runtimes
from optio.model.route import Route, value_at
from optio.model.task import TaskSpec

_FILLERS: dict[str, Any] = {"name": "unnamed", "agentRuntime": "claude-code"}
_MAX_ROUNDS = 8
# Further errors are only counted: each costs a search for suggestions, and nobody reads that many.
_MAX_ERRORS = 200
_CODES: dict[IssueKind, str] = {
    "unknown": "OPT101", "missing": "OPT102", "variant": "OPT321", "type": "OPT103", "word": "OPT104", "blank": "OPT106",
    "pattern": "OPT105", "least": "OPT105", "most": "OPT105", "longest": "OPT105",
}  # fmt: skip


class DecodedTask(NamedTuple):
    """The task as far as it is valid. `gaps` are the routes that were removed; nothing is known about them."""

    spec: TaskSpec
    gaps: frozenset[Route] = frozenset()


def decode_task(document: Document | MergedDocument) -> tuple[DecodedTask | None, list[Diagnostic]]:
    """Return the decoded task and the findings; the task is None if too little is left to say anything about it."""
    try:
        spec = TaskSpec.of(document.value)
    except ValueError:
        return _read_broken(document)
    if not runtimes.is_known(spec.agent_runtime):
        return _read_broken(document)
    if not document.odd:
        return DecodedTask(spec), []
    from optio.compiler.shape.messages import odd_scalar

    odd = [odd_scalar(document, route, text, str(yaml_1_1_reading(text)), None) for route, text in document.odd.items()]
    return DecodedTask(spec, frozenset(each.route for each in odd if each.severity is Severity.ERROR)), odd


def _read_broken(document: Document | MergedDocument) -> tuple[DecodedTask | None, list[Diagnostic]]:
    from optio.compiler.shape.messages import odd_scalar, to_diagnostic

    wrong = list(find_issues(document.value, TaskSpec))
    at = {misfit.route: misfit for misfit in reversed(wrong)}
    strange = {misfit.route for misfit in wrong if misfit.kind == "unknown"}
    odd = {r: text for r, text in document.odd.items() if not any(r[:length] in strange for length in range(1, len(r) + 1))}
    readings = {route: str(yaml_1_1_reading(text)) for route, text in odd.items()}
    readings |= {route: reading for route, misfit in at.items() if (reading := _misread(document, misfit))}
    found = [odd_scalar(document, r, document.plain(r) or "", reading, at.get(r)) for r, reading in readings.items()]
    later = isinstance(document.value, dict) and document.value.get("type") in OTHER_TYPES
    reported = set(readings)
    # A misspelt key is one mistake, not a key too many and a key too few.
    unknown = [misfit.route for misfit in wrong[:_MAX_ERRORS] if misfit.kind == "unknown"]
    explained = {route: explain_unknown_key(document.value, route) for route in unknown}
    meant = {place for route, what in explained.items() if (place := _suggested_place(route, what))}
    # Nor is a key missing that stands too deep, in a mapping such as `spec:`.
    meant |= {(key,) for route in strange if len(route) == 1 for key in _keys_below(document.value, route)}
    reported |= {misfit.route for misfit in wrong if misfit.kind == "missing" and misfit.route in meant}
    if at.keys() & {("type",), ("extends",)} or ("extends",) in meant:
        # The type of the document or its template is unknown, so missing keys cannot be determined.
        reported |= {misfit.route for misfit in wrong if misfit.kind == "missing" and len(misfit.route) == 1}
    more: Counter[str] = Counter()
    codes = dict(_CODES)
    for count, misfit in enumerate(wrong):
        # A document of another type has other keys.
        if misfit.route not in reported and not (later and misfit.route != ("type",)):
            if count < _MAX_ERRORS:
                found.append(to_diagnostic(document, misfit, explained.get(misfit.route)))
                codes[misfit.kind] = found[-1].code
            else:
                more[codes[misfit.kind]] += 1
        reported.add(misfit.route)
    found += [diagnostic(code, "not shown", path=document.path, more=count) for code, count in more.items()]
    if later or not isinstance(document.value, dict):
        return None, found
    return _drop_wrong_values(document.value, list(at), frozenset(readings) | meant), found


def _keys_below(root: Any, route: Route) -> list[str]:
    """Return the keys of a mapping that the mapping around it lacks."""
    value, around = value_at(root, route), value_at(root, route[:-1])
    keys = [str(key) for key in value if key not in around] if isinstance(value, dict) else []
    if not keys:
        return []
    from optio.compiler.conversions.foreign_keys import TASK, find_row  # imported only for a file with a mistake

    rows = (find_row(TASK, fold_key(key)) for key in keys)
    return [*keys, *(row.ours for row in rows if row is not None and row.ours.isidentifier())]


def _suggested_place(route: Route, unknown: UnknownKey) -> Route | None:
    """Return the route of the key that an unknown key was probably meant to be, or None."""
    key = unknown.meant or unknown.sibling or (unknown.entry.partition(":")[0] if unknown.entry is not None else None)
    return None if key is None else (*route[:-1], key)


def _misread(document: Document | MergedDocument, misfit: ValidationIssue) -> str | None:
    """Return how YAML reads `~`, `null` or `1e3` in the place of a text, or None; the author may have meant the word itself."""
    if misfit.wanted != TEXT or misfit.route == ("budgetUsd",):
        return None
    written = (document.plain(misfit.route) or "").lower()
    if written in ("~", "null"):
        return "null"
    return "a text" if "e" in written and isinstance(misfit.value, float) else None


def _drop_wrong_values(value: dict[str, Any], wrong: list[Route], gaps: frozenset[Route]) -> DecodedTask | None:
    """Remove each wrong value and decode the rest. A required value takes its parent with it, and so on upwards."""
    value = copy.deepcopy(value)
    taken = set(gaps)
    for _ in range(_MAX_ROUNDS):
        gone: set[Route] = set()
        for route in sorted(set(wrong), key=lambda each: (-len(each), [str(step) for step in each])):
            # A route inside a removed value is skipped; otherwise its parent would be removed instead.
            if not any(route[:length] in gone for length in range(len(route) + 1)):
                gone.add(_take_out(value, route))
        taken |= gone
        try:
            return DecodedTask(TaskSpec.of(value), frozenset(taken))
        except ValueError:
            wrong = [misfit.route for misfit in find_issues(value, TaskSpec)]
    return None


def _take_out(value: dict[str, Any], route: Route) -> Route:
    """Remove the value at the route, or the nearest value around it that can be removed, and return its route."""
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
