"""Split the bytes of a growing file into lines, whatever the bytes are. Memory stays bounded however long a line is. Used by
`runs.output`."""

import re
from collections.abc import Iterator

MAX_LINE_BYTES = 4 << 20
_NOTE = re.compile(rb"\.\.\. \[(\d[\d,]*) bytes cut\]\Z")
_MAX_NOTE_BYTES = 40


def cut(data: bytes, limit: int) -> bytes:
    """Return at most `limit` bytes of a line, with a note of how many were cut. It counts what an earlier note names, too."""
    if len(data) <= limit:
        return data
    note = _NOTE.search(data, len(data) - _MAX_NOTE_BYTES)
    size = len(data) if note is None else note.start() + int(note[1].replace(b",", b""))
    return data[:limit] + _note(size - limit)


def _note(count: int) -> bytes:
    return f"... [{count:,} bytes cut]".encode()


class LineSplitter:
    """A splitter at newlines that keeps at most 4 MiB of a line; the rest of a longer line is counted and named in its
    place."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._dropped = 0
        self.read = 0  # bytes taken in
        self.done = 0  # offset behind the last whole line

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """Take in bytes and yield the whole lines without their newline, each with the offset behind it."""
        start = 0
        while (newline := data.find(b"\n", start)) >= 0:
            self._keep(data[start:newline])
            start = newline + 1
            self.done = self.read + start
            yield self._take(), self.done
        self._keep(data[start:])
        self.read += len(data)

    def block(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """Take in bytes and yield all whole lines as one, newlines included: for output that is logged but not parsed."""
        newline = data.rfind(b"\n")
        if newline >= 0:
            self._keep(data[:newline])
            self.done = self.read + newline + 1
            yield self._take(), self.done
        self._keep(data[newline + 1 :])
        self.read += len(data)

    def rest(self) -> Iterator[tuple[bytes, int]]:
        """Yield the last line if the output ended without a newline."""
        if self._size or self._dropped:
            self.done = self.read
            yield self._take(), self.done

    def _keep(self, part: bytes) -> None:
        room = MAX_LINE_BYTES - self._size
        if len(part) > room:
            self._dropped += len(part) - room
            part = part[:room]
        if part:
            self._parts.append(part)
            self._size += len(part)

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        if self._dropped:
            line += _note(self._dropped)
        self._parts, self._size, self._dropped = [], 0, 0
        return line
