"""Launches for tests of executors: small programs, their end and what they printed."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optio.executors.base import Executor, Exit, Handle, Launch
from optio.executors.procfs import uptime
from tests.support import eventually

# The run of a test. Whoever removes an attempt kills what has its run's names, so no two processes of tests may share them.
RUN = os.environ.setdefault("TESTS_STARTED_BY", str(os.getpid())) + os.environ.get("PYTEST_XDIST_WORKER", "run")


def make_reached_path() -> Path:
    """A directory for a test that the users of attempts pass: those of pytest are root's alone."""
    path = Path(tempfile.mkdtemp(prefix="optio-test-", dir="/tmp"))
    path.chmod(0o711)
    return path


def launch(*argv: str, run_id: str = RUN, attempt: int = 1, **changes: Any) -> Launch:
    """A launch of a program, with the marks that every run's environment has."""
    env: Mapping[str, str] = changes.pop("env", {})
    marks = {"OPTIO_RUN_ID": run_id, "OPTIO_ATTEMPT": str(attempt)}
    fields = {"stdin": b"", "timeout_s": 30.0, "grace_s": 0.3, "orphan_s": 900.0, "leased_at": uptime(), **changes}
    return Launch(run_id=run_id, attempt=attempt, argv=argv, env={**marks, **env}, **fields)


def python(source: str, **changes: Any) -> Launch:
    """A launch of Python source."""
    return launch("python3", "-c", source, **changes)


def shell(source: str, **changes: Any) -> Launch:
    """A launch of shell source."""
    return launch("/bin/sh", "-c", source, **changes)


@dataclass(frozen=True)
class Ended:
    """What a finished attempt left."""

    exit: Exit
    stdout: bytes
    stderr: bytes
    result: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def read(handle: Handle, stream: str) -> bytes:
    """A whole stream, in small pieces."""
    data = b""
    while part := handle.read(stream, len(data), 65536):
        data += part
    return data


def until_ended(handle: Handle, *, within: float = 60.0) -> Ended:
    """Wait as a worker does, then read everything."""

    def look() -> Exit | None:
        handle.wait(0.2)
        return handle.exit()

    ended = eventually(look, within=within, what="the end of the attempt")
    assert ended is not None
    return Ended(ended, read(handle, "stdout"), read(handle, "stderr"), read(handle, "result"))


def run(executor: Executor, what: Launch, *, within: float = 60.0) -> Ended:
    """Start it, wait for its end, let go."""
    handle = executor.start(what)
    try:
        return until_ended(handle, within=within)
    finally:
        handle.close(remove=True)


def living(token: str) -> list[int]:
    """Processes that have a word in their arguments; zombies and ourselves are none."""
    found, word = [], token.encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb", buffering=0) as file:  # there are hundreds, and many ask again and again
                arguments = file.readall()
        except OSError:
            continue
        if word in arguments:
            found.append(int(entry))
    return found
