"""Match task files with the patterns by which the policy assigns a Kubernetes namespace, and report patterns that match
none."""

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from optio.compiler.diagnostics import Diagnostic, diagnostic
from optio.compiler.facts import TaskFacts, ValuePlace
from optio.compiler.layers import POLICY


def pattern_of(path: str, patterns: Iterable[str]) -> str | None:
    """Return the first pattern that matches the path of a task's file, relative to the task directory, or None."""
    return next((pattern for pattern in patterns if fnmatchcase(path, pattern)), None)


def check(claims: Sequence[TaskFacts]) -> Iterator[Diagnostic]:
    """Report patterns that no task uses. A misspelt pattern leaves the tasks that it was written for in another namespace."""
    places = {str(place.route[-1]): place for claim in claims for place in claim.namespaces}
    paths = [claim.path for claim in claims if claim.path != POLICY and claim.connection is None]
    used_patterns = {pattern_of(path, places) for path in paths}
    for pattern, place in places.items():
        if paths and pattern not in used_patterns:
            yield _unused(pattern, place, paths)


def _unused(pattern: str, place: ValuePlace, paths: Sequence[str]) -> Diagnostic:
    message = f"the pattern `{pattern}` matches no task"
    hint = "delete or correct it: patterns are matched with the path of a task's file below the task directory"
    children_pattern = f"{pattern.rstrip('/')}/*"
    if any(fnmatchcase(path, pattern) for path in paths):
        hint = "an earlier pattern matches first: write the narrower one above the wider one"
    elif any(fnmatchcase(path, children_pattern) for path in paths):
        hint = f"write `{children_pattern}` for all tasks below that directory"
    return diagnostic("OPT122", message, path=POLICY, span=place.span, route=place.route, hint=hint)
