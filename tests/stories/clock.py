"""A wall clock that jumps, for processes that a story starts; their monotonic clocks go on."""

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path


class Clock:
    """Start processes with `environ`, and they go by this clock, which `jump` sets forward or back for all of them at once."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="optio-clock-"))
        self._directory.chmod(0o755)  # PostgreSQL runs as another user
        library = self._directory / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
        self._file = self._directory / "ahead"
        self.ahead = 0.0
        self.jump(0.0)
        self._file.chmod(0o644)
        self.environ = {"LD_PRELOAD": str(library), "STORY_CLOCK": str(self._file)}

    def jump(self, seconds: float) -> None:
        """Set the clock by so much."""
        self.ahead += seconds
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o644)  # never cut: a mapped page that is gone kills who reads it
        os.pwrite(file, struct.pack("q", int(self.ahead * 1e9)), 0)
        os.close(file)

    def close(self) -> None:
        """Delete its files."""
        shutil.rmtree(self._directory, ignore_errors=True)
