"""Tell a file of another program, such as dbt's `profiles.yml`, from a task with mistakes. Imported only for a file without any
of the keys that nearly each task has."""

from collections.abc import Iterable

from optio.compiler.conversions.key_table import STEMS, TASK, find_row, names_at
from optio.compiler.conversions.known_keys import fold_key, known_keys
from optio.compiler.suggest import suggest

# A shorter word is like too many others.
_MIN_LIKE = 5


def is_of_another_program(keys: Iterable[str]) -> bool:
    """Return True if none of the keys is one of a task, is like one, or has the place of one in another system."""
    known, foreign = known_keys({}, ()), list(names_at(TASK))
    return not any(
        key in known
        or find_row(TASK, fold_key(key))
        or any(stem.pattern.search(fold_key(key)) for stem in STEMS)
        or (len(key) >= _MIN_LIKE and (suggest(key, known) or suggest(fold_key(key), foreign)))
        for key in keys
    )
