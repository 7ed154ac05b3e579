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
    full_document, wrong = parse(SourceFile(document.path, document.text.encode()))
    if full_document is None or wrong:
        return None
    document, new_value = full_document, copy.deepcopy(full_document.value)
    mapping = value_at(new_value, above)
    inner = {} if mapping.get(into) is None else mapping[into]
    if not isinstance(inner, dict) or any(key not in mapping or key in inner for key in keys):
        return None
    mapping[into] = inner
    for key in keys:
        inner[key] = mapping.pop(key)
    try:
        return plan_edits(document, new_value)
    except CannotEdit:
        return None
