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
    return DecodedTask(spec, frozenset(finding.route for finding in odd if finding.severity is Severity.ERROR)), odd


def _read_broken(document: Document | MergedDocument) -> tuple[DecodedTask | None, list[Diagnostic]]:
    issues = list(find_issues(document.value, TaskSpec))
    issue_at = {issue.route: issue for issue in reversed(issues)}
    findings, misread = _odd_scalars(document, issue_at)
    is_other_type = isinstance(document.value, dict) and document.value.get("type") in OTHER_TYPES
    unknown = [issue.route for issue in issues[:_MAX_ERRORS] if issue.kind == "unknown"]
    explained = {route: explain_unknown_key(document.value, route) for route in unknown}
    suggested_places = _meant_places(document.value, issue_at, explained)
    reported = misread | _not_missing(issue_at, suggested_places)
    left_out: Counter[str] = Counter()
    codes = dict(_CODES)
    for count, issue in enumerate(issues):
        # A document of another type has other keys.
        if issue.route not in reported and (not is_other_type or issue.route == ("type",)):
            if count < _MAX_ERRORS:
                findings.append(_diagnostic_of(document, issue, explained))
                codes[issue.kind] = findings[-1].code
            else:
                left_out[codes[issue.kind]] += 1
        reported.add(issue.route)
    findings += [diagnostic(code, "not shown", path=document.path, more=count) for code, count in left_out.items()]
    if is_other_type or not isinstance(document.value, dict):
        return None, findings
    return _drop_wrong_values(document.value, list(issue_at), frozenset(misread | suggested_places)), findings


def _diagnostic_of(
    document: Document | MergedDocument, issue: ValidationIssue, explained: dict[Route, UnknownKey]
) -> Diagnostic:
    from optio.compiler.shape.messages import to_diagnostic  # imported only for a file with a mistake

    return to_diagnostic(document, issue, explained.get(issue.route))


def _odd_scalars(
    document: Document | MergedDocument, issue_at: dict[Route, ValidationIssue]
) -> tuple[list[Diagnostic], set[Route]]:
    """Return the findings for texts without quotes that other readers take for another value, and their routes."""
    from optio.compiler.shape.messages import odd_scalar  # imported only for a file with a mistake

    unknown = {route for route, issue in issue_at.items() if issue.kind == "unknown"}
    odd = {
        route: text
        for route, text in document.odd.items()
        if unknown.isdisjoint(route[:length] for length in range(1, len(route) + 1))
    }
    readings = {route: str(yaml_1_1_reading(text)) for route, text in odd.items()}
    readings |= {route: reading for route, issue in issue_at.items() if (reading := _misread(document, issue))}
    findings = [
        odd_scalar(document, route, document.plain(route) or "", reading, issue_at.get(route))
        for route, reading in readings.items()
    ]
    return findings, set(readings)


def _meant_places(root: Any, issue_at: dict[Route, ValidationIssue], explained: dict[Route, UnknownKey]) -> set[Route]:
    """Return the routes of the keys that unknown keys were probably meant to be, and of keys that stand too deep, in a mapping
    such as `spec:`: each is one mistake, not a key too many and a key too few."""
    places = {place for route, unknown in explained.items() if (place := _suggested_place(route, unknown))}
    top = [route for route, issue in issue_at.items() if issue.kind == "unknown" and len(route) == 1]
    return places | {(key,) for route in top for key in _keys_below(root, route)}


def _not_missing(issue_at: dict[Route, ValidationIssue], suggested_places: set[Route]) -> set[Route]:
    """Return the routes of missing keys that are not reported."""
    missing = [route for route, issue in issue_at.items() if issue.kind == "missing"]
    if issue_at.keys() & {("type",), ("extends",)} or ("extends",) in suggested_places:
        # The type of the document or its template is unknown, so it is not known either which keys are missing.
        return {route for route in missing if len(route) == 1 or route in suggested_places}
    return {route for route in missing if route in suggested_places}


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
    word = (document.plain(misfit.route) or "").lower()
    if word in ("~", "null"):
        return "null"
    return "a text" if "e" in word and isinstance(misfit.value, float) else None


def _drop_wrong_values(value: dict[str, Any], wrong: list[Route], gaps: frozenset[Route]) -> DecodedTask | None:
    """Remove each wrong value and decode the rest. A required value takes its parent with it, and so on upwards."""
    value = copy.deepcopy(value)
    removed_routes = set(gaps)
    for _ in range(_MAX_ROUNDS):
        removed_now: set[Route] = set()
        for route in sorted(set(wrong), key=lambda each: (-len(each), [str(step) for step in each])):
            # A route inside a removed value is skipped; otherwise its parent would be removed instead.
            if not any(route[:length] in removed_now for length in range(len(route) + 1)):
                removed_now.add(_take_out(value, route))
        removed_routes |= removed_now
        try:
            return DecodedTask(TaskSpec.of(value), frozenset(removed_routes))
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
