"""The error for a task that does not exist, with the id that was probably meant."""

from collections.abc import Collection

from optio.compiler.suggest import suggest
from optio.errors import SettingsError

_MAX_NAMED = 20


def unknown_task(task_id: str, known_ids: Collection[str]) -> SettingsError:
    """Return the error for the id of a task that is not among the known ones."""
    suggestion = suggest(task_id, known_ids)
    names = ", ".join(sorted(known_ids)[:_MAX_NAMED]) or "none"
    return SettingsError(f"no task `{task_id}`: " + (f"did you mean `{suggestion}`?" if suggestion else f"there are {names}"))
