"""A local copy of an attempt's output, stream by stream, filled by the log reader and read at any offset by the worker."""

import os
import tempfile
import threading
from collections.abc import Mapping
from typing import IO

from optio.executors.base import STREAMS


class Spool:
    """A copy for one writer and any number of readers. Its files have no name, so they disappear with the process."""

    def __init__(self, directory: str | None = None) -> None:
        self._files: dict[str, IO[bytes]] = {
            name: tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed by `close`
            for name in STREAMS
        }
        self.sizes: dict[str, int] = dict.fromkeys(STREAMS, 0)
        self._lock = threading.Lock()

    def add(self, stream: str, data: bytes) -> None:
        """Append bytes to a stream."""
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[self._files[stream].write(view) :]
            self.sizes[stream] += len(data)

    def read(self, stream: str, offset: int, limit: int) -> bytes:
        """Return at most `limit` bytes; empty if there are none yet."""
        return os.pread(self._files[stream].fileno(), limit, offset)

    def lacks(self, sizes: Mapping[str, int]) -> bool:
        """Return whether the copy is shorter than these sizes in any stream."""
        return any(self.sizes[name] < size for name, size in sizes.items())

    def close(self) -> None:
        """Delete the copy by closing its files."""
        for file in self._files.values():
            file.close()
