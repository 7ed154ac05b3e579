"""Decide whether an edit brings new errors to a file, compared with the errors before it.

An error is new if no error before had the same code, message and route, and if no earlier error covered its line. An earlier
error covers its own lines and those below its key, because nothing below a misspelt key is checked until the key is corrected.
"""

from collections.abc import Iterable, Sequence

from optio.compiler.diagnostics import Diagnostic, Edit, Severity
from optio.model.route import Route

# The other keys of a trigger with an unknown type are not checked.
_OF_WHOLE_MAPPING = frozenset({"OPT321"})


def has_new_errors(
    before: Iterable[Diagnostic], after: Iterable[Diagnostic], text: str = "", edits: Iterable[Edit] = ()
) -> bool:
    """Return True if one file has an error in `after` that is new. `edits` were made in `text`; leave both empty for a file
    that the edits did not change."""
    last = [d for d in after if d.severity is Severity.ERROR]
    first = [d for d in before if d.severity is Severity.ERROR]
    old_keys = {(d.code, d.message, d.route) for d in first}
    folded_codes = {d.code for d in first if d.more}
    candidates = [d for d in last if (d.code, d.message, d.route) not in old_keys and d.code not in folded_codes]
    if not candidates:
        return False
    lines, edit_list = text.split("\n"), list(edits)
    about = {number for finding in first for number in _affected_lines(finding, lines)}
    routes = [finding.route[:-1] for finding in first if finding.code in _OF_WHOLE_MAPPING]
    return any(
        about.isdisjoint(_original_lines(d, edit_list, lines)) and not any(_is_below(d.route, route) for route in routes)
        for d in candidates
    )


def _is_below(route: Route, other: Route) -> bool:
    return route[: len(other)] == other


def _affected_lines(finding: Diagnostic, lines: Sequence[str]) -> range:
    """Return the lines of the finding, and the lines below the key on the last of them."""
    first, last = finding.span.start.line, finding.span.end.line
    if last > len(lines):
        return range(first, last + 1)
    # Behind a dash, the line holds the item's first key; the other keys are aligned with it.
    margin = len(lines[last - 1]) - len(lines[last - 1].lstrip(" -"))
    deeper, item = " " * (margin + 1), " " * margin + "-"
    for number in range(last + 1, len(lines) + 1):
        line = lines[number - 1]
        if line.startswith((deeper, item)):
            last = number
        elif line.strip():
            break
    return range(first, last + 1)


def _original_lines(finding: Diagnostic, edits: Sequence[Edit], lines: Sequence[str]) -> set[int]:
    """Return the lines that the finding's lines were before the edits. A moved line counts as the old one; a rewritten line
    counts as each line that it replaces."""
    origins: set[int] = set()
    for number in range(finding.span.start.line, finding.span.end.line + 1):
        shift, is_written = 0, False
        for span, text in sorted(edits):
            new, first = text.split("\n"), span.start.line + shift
            if number < first:
                break
            if number < first + len(new):
                old = range(span.start.line, span.end.line + 1)
                moved_lines = {
                    row for row in old if lines[row - 1 : row] and lines[row - 1].strip() == new[number - first].strip()
                }
                origins.update(moved_lines or old)
                is_written = True
            shift += len(new) - 1 - (span.end.line - span.start.line)
        if not is_written:
            origins.add(number - shift)
    return origins
