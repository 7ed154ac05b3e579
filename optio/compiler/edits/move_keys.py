"""Move keys into the mapping that they belong to: `cronExpression` beside `config:` goes below it."""

import copy

from optio.compiler.diagnostics import Edit
from optio.compiler.edits.edit_yaml import CannotEdit, plan_edits
from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import Document, parse
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
    try:
        return plan_edits(document, wanted)
    except CannotEdit:
        return None
