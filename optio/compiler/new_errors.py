"""New errors: what a change of a file brings to a tree, held against what was wrong before.

An error is new where no error of its code was, on a line that no error was about. An error is about its own lines and those
below its key: of what stands below a misspelt key nothing can be said until the key is mended.
"""

from collections.abc import Iterable, Sequence

from optio.compiler.diagnostics import Diagnostic, Edit, Severity
from optio.model.route import Route

# A trigger of an unknown type is not looked at, whatever its other keys say.
_OF_WHOLE_MAPPING = frozenset({"OPT321"})


def brings_errors(
    before: Iterable[Diagnostic], after: Iterable[Diagnostic], text: str = "", edits: Iterable[Edit] = ()
) -> bool:
    """Return whether one file has an error `after` that is new. `edits` were made in `text`; both are empty of another file
    than the one that was changed."""
    last = [d for d in after if d.severity is Severity.ERROR]
    first = [d for d in before if d.severity is Severity.ERROR]
    same = {(d.code, d.message, d.route) for d in first}
    folded = {d.code for d in first if d.more}
    left = [d for d in last if (d.code, d.message, d.route) not in same and d.code not in folded]
    if not left:
        return False
    lines, changed = text.split("\n"), list(edits)
    about = {number for each in first for number in _about(each, lines)}
    whole = [each.route[:-1] for each in first if each.code in _OF_WHOLE_MAPPING]
    return any(about.isdisjoint(_origins(d, changed)) and not any(_is_below(d.route, route) for route in whole) for d in left)


def _is_below(route: Route, other: Route) -> bool:
    return route[: len(other)] == other


def _about(found: Diagnostic, lines: Sequence[str]) -> range:
    """The finding's lines, and what stands below the key on the last of them."""
    first, last = found.span.start.line, found.span.end.line
    if last > len(lines):
        return range(first, last + 1)
    margin = _indent(lines[last - 1])
    deeper, item = " " * (margin + 1), " " * margin + "-"
    is_item = lines[last - 1].startswith(item)
    for number in range(last + 1, len(lines) + 1):
        line = lines[number - 1]
        if line.startswith(deeper) or (line.startswith(item) and not is_item):
            last = number
        elif line.strip():
            break
    return range(first, last + 1)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _origins(found: Diagnostic, edits: Sequence[Edit]) -> set[int]:
    """The lines that the finding's own lines were before these edits."""
    origins: set[int] = set()
    for number in range(found.span.start.line, found.span.end.line + 1):
        shift = 0
        for span, text in sorted(edits):
            new = text.count("\n")
            if number < span.start.line + shift:
                break
            if number <= span.start.line + shift + new:
                origins.update(range(span.start.line, span.end.line + 1))
            shift += new - (span.end.line - span.start.line)
        origins.add(number - shift)
    return origins
