"""Write files into a task tree, for commands that edit it."""

import os
from pathlib import Path

from optio.cli.shared import apply_fixes
from optio.errors import SettingsError


def write_file(root: Path, path: str, data: bytes) -> None:
    """Write or create a file below the root; raises SettingsError if it cannot be written or leads outside."""
    target = root / path
    if not os.path.realpath(target).startswith(os.path.realpath(root).rstrip(os.sep) + os.sep):
        raise SettingsError(f"`{target}` leads out of the task tree: nothing was written there")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        apply_fixes.write_fixes(root, {path: data})
    except OSError as err:
        raise SettingsError(f"`{target}` cannot be written: {err.strerror}") from err
