"""Facts of an agent's program on this machine: the version that it tells, and the digest of its file. Each is found once for a
file that stays as it is. Used by the process executor and by `doctor`."""

import hashlib
import os
import re
import subprocess
import tempfile
import threading
from functools import lru_cache

from optio.executors.base import ProgramFacts

_VERSION_TIMEOUT_S = 15
_NUMBER = re.compile(r"\d+(?:\.\d+)+[\w.+-]*")
_lock = threading.Lock()


def facts_of(program: str) -> ProgramFacts:
    """Return the facts of a program. The first call for a file runs it, and reads it whole."""
    try:
        found = os.stat(program)
    except OSError:
        return ProgramFacts()
    with _lock:
        return _facts(program, found.st_size, found.st_mtime_ns)


@lru_cache(64)
def _facts(program: str, size: int, modified_ns: int) -> ProgramFacts:
    number = _NUMBER.search(told_version(program) or "")
    try:
        with open(program, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ProgramFacts(version=None if number is None else number[0])
    return ProgramFacts(version=None if number is None else number[0], identity=f"{program}@sha256:{digest}")


def told_version(program: str) -> str | None:
    """Return the first line that `program --version` prints, in a home directory of its own; None if it fails."""
    try:
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                # A program that hangs ends with all that it started, also where this process has died before.
                ["timeout", "-s", "KILL", str(_VERSION_TIMEOUT_S), program, "--version"],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                cwd=home,
                # The worker's own variables may be secrets, and no agent may have those.
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8"},
                check=True,
            )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip().partition("\n")[0][:80]
