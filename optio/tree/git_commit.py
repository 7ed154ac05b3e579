"""The git commit that a directory of task files is checked out at. It names the generation that is made of the files.

Used by `reload`. Only git knows what is changed in a checkout, so it is asked: one process, some milliseconds.
"""

import logging
import os
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)
_TIMEOUT_S = 10.0
# A repository's own settings must not start programs here, and a query must not write to it.
_COMMAND = ("git", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch", "--untracked-files=all", "--", ".")
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
_OID = "# branch.oid "


def checked_out_commit(root: Path) -> str | None:
    """Return the commit, followed by `+dirty` if a file below `root` differs from it or is not part of it. Return None outside
    of a checkout, before the first commit, and if git fails."""
    if not any((directory / ".git").exists() for directory in (root.absolute(), *root.absolute().parents)):
        return None
    try:
        process = subprocess.run(
            _COMMAND, cwd=root, env={**os.environ, **_QUIET}, capture_output=True, timeout=_TIMEOUT_S, check=True
        )
    except FileNotFoundError:
        return None  # no git, or no such directory any more
    except (subprocess.SubprocessError, OSError) as err:
        output = getattr(err, "stderr", None) or str(err).encode()
        log.info("git does not tell the commit of %s: %s", root, output.decode("utf-8", "replace").strip()[:300])
        return None
    lines = process.stdout.decode("utf-8", "replace").splitlines()
    commit = next((line.removeprefix(_OID) for line in lines if line.startswith(_OID)), "(initial)")
    if not commit.isalnum():
        return None
    is_dirty = any(not line.startswith("#") for line in lines)
    return f"{commit}+dirty" if is_dirty else commit
