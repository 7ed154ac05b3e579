"""What an attempt's pod has printed, stream by stream, as the worker has it: read at any offset, as often as one likes."""

import os
import tempfile
import threading
from collections.abc import Mapping
from typing import IO

from optio.executors.base import STREAMS


class Spool:
    """For one writer and any number of readers. Its files have no name: they are gone with the process."""

    def __init__(self, directory: str | None = None) -> None:
        self._files: dict[str, IO[bytes]] = {
            name: tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed by `close`
            for name in STREAMS
        }
        self.sizes: dict[str, int] = dict.fromkeys(STREAMS, 0)
        self._lock = threading.Lock()

    def add(self, stream: str, data: bytes) -> None:
        """Append."""
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[self._files[stream].write(view) :]
            self.sizes[stream] += len(data)

    def read(self, stream: str, offset: int, limit: int) -> bytes:
        """At most so many bytes; empty when there are none yet."""
        return os.pread(self._files[stream].fileno(), limit, offset)

    def lacks(self, sizes: Mapping[str, int]) -> bool:
        """Whether less is here than there was."""
        return any(self.sizes[name] < size for name, size in sizes.items())

    def close(self) -> None:
        """Give the room back."""
        for file in self._files.values():
            file.close()
