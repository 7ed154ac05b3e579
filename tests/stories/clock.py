"""A wall clock that jumps, for processes that a story starts; their monotonic clocks go on."""

import atexit
import os
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path


class Clock:
    """Start processes with `environ`, and they go by this clock, which `jump` sets forward or back for all of them at once."""

    def __init__(self) -> None:
        file, path = tempfile.mkstemp(prefix="ahead-", dir=_library().parent)
        os.close(file)
        self._file = Path(path)
        self.ahead = 0.0
        self.jump(0.0)
        self._file.chmod(0o644)
        self.environ = {"LD_PRELOAD": str(_library()), "STORY_CLOCK": path}

    def jump(self, seconds: float) -> None:
        """Set the clock by so much."""
        self.ahead += seconds
        file = os.open(self._file, os.O_WRONLY)  # never cut: a mapped page that is gone kills who reads it
        os.pwrite(file, struct.pack("q", int(self.ahead * 1e9)), 0)
        os.close(file)

    def close(self) -> None:
        """Delete its file."""
        self._file.unlink()


@cache
def _library() -> Path:
    """`clock.c`, compiled in a directory that all clocks share: processes that go by one of them are forks of one."""
    directory = Path(tempfile.mkdtemp(prefix="optio-clock-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    directory.chmod(0o755)  # PostgreSQL runs as another user
    library = directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
    return library
