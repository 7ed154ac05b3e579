"""Move keys into the mapping that they belong to, with their lines and comments: `cronExpression` beside `config:` goes below
it."""

import copy
from itertools import pairwise
from typing import Any

from optio.compiler.diagnostics import Edit
from optio.compiler.edits.edit_yaml import CannotEdit, plan_edits
from optio.compiler.edits.text_edits import apply_edits
from optio.compiler.source import Position, SourceFile, Span
from optio.compiler.yaml.document import Document, parse
from optio.model.registry import canonical
from optio.model.route import Route, value_at

# Each move parses the file again.
_MAX_TEXT_LENGTH = 30_000


def move_keys_into(document: Document, above: Route, keys: list[str], into: str) -> tuple[Edit, ...] | None:
    """Return the edits that move `keys` of the mapping at `above` into its key `into`, which is created if needed. Returns None
    if one of them cannot be moved."""
    # The document of a template has only the values that tasks inherit, and its other keys must stay in the file.
    if len(document.text) > _MAX_TEXT_LENGTH:
        return None
    whole, wrong = parse(SourceFile(document.path, document.text.encode()))
    if whole is None or wrong:
        return None
    document, wanted = whole, copy.deepcopy(whole.value)
    beside = value_at(wanted, above)
    inner = {} if beside.get(into) is None else beside[into]
    if not isinstance(inner, dict) or any(key not in beside or key in inner for key in keys):
        return None
    beside[into] = inner
    for key in keys:
        inner[key] = beside.pop(key)
    lines = _lines(document, above, keys, into)
    if lines is not None and _reads_as(document, lines, wanted):
        return (lines,)
    try:
        return plan_edits(document, wanted)
    except CannotEdit:
        return None


def _lines(document: Document, above: Route, keys: list[str], into: str) -> Edit | None:
    """Return the edit that moves whole lines, or None where a key shares its lines with another."""
    texts = document.text.split("\n")
    column = document.key_span((*above, keys[0])).start.column - 1
    is_there = document.has((*above, into))
    inner = next(iter(value_at(document.value, (*above, into)) or ()), None)
    if document.is_flow(above) or (inner is not None and document.is_flow((*above, into))):
        return None
    by = 2 if inner is None else document.key_span((*above, into, inner)).start.column - 1 - column
    own = [_of_key(texts, document.key_span((*above, key)).start.line - 1, column) for key in keys]
    taken = sorted(number for each in own for number in each)
    gaps = [range(one + 1, other) for one, other in pairwise(taken)]
    blank = [number for gap in gaps if not any(texts[number].strip() for number in gap) for number in gap]
    taken = sorted(taken + blank)
    target = _of_key(texts, document.key_span((*above, into)).start.line - 1, column)[-1] + 1 if is_there else taken[0]
    new = [] if is_there else [" " * column + into + ":"]
    new += [" " * by + texts[number] if texts[number].strip() else texts[number] for number in taken]
    first, last = min(taken[0], target), max(taken[-1], target - 1)
    gone = set(taken)
    before = [texts[number] for number in range(first, target) if number not in gone]
    after = [texts[number] for number in range(target, last + 1) if number not in gone]
    span = Span(Position(first + 1, 1), Position(last + 1, len(texts[last]) + 1))
    return Edit(span, "\n".join([*before, *new, *after]))


def _of_key(texts: list[str], line: int, column: int) -> range:
    """Return the lines of the key that begins there: the comments right above it, and below it the deeper lines and dashes."""
    first, last, margin = line, line, " " * column
    while first and texts[first - 1].startswith(margin + "#"):
        first -= 1
    for number in range(line + 1, len(texts)):
        if texts[number].startswith((margin + " ", margin + "-")):
            last = number
        elif texts[number].strip() and not texts[number].startswith(margin + "#"):
            break
    return range(first, last + 1)


def _reads_as(document: Document, change: Edit, wanted: Any) -> bool:
    found, _ = parse(SourceFile(document.path, apply_edits(document.text.encode(), [change])))
    return found is not None and canonical(found.value) == canonical(wanted)
