"""Parsing of a pod's log, as the supervisor writes it, into pieces of streams. The format is described in `supervisor.sh`."""

import re
from collections.abc import Iterator
from typing import NamedTuple

STREAMS = {b"o": "stdout", b"e": "stderr", b"r": "result", b"d": "side", b"t": "telemetry", b"s": "said", b"x": "end"}
# Longer than any head can be.
_MAX_HEAD_BYTES = 128


class Piece(NamedTuple):
    """A piece of a stream: its bytes, and the offset in the stream at which they begin."""

    stream: str
    offset: int
    data: bytes


class Frames:
    """A parser that takes the log in chunks of any size. A log that begins in the middle is searched for the next head, and
    bytes outside of frames are skipped. Incomplete frames are skipped too: a reader that follows a log while the kubelet
    rotates it may miss lines, and would take the head of another frame for output. The next offset shows what is missing."""

    def __init__(self, mark: str) -> None:
        self._head = re.compile(rb"^" + re.escape(mark.encode()) + rb" ([oerdtsxOERDT]) (\d+) (\d{1,7})\n", re.MULTILINE)
        self._sign = f"\n{mark} ".encode()
        self._buffer = b""

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """Yield the pieces that are complete now."""
        self._buffer += chunk
        while (head := self._head.search(self._buffer)) is not None:
            begin, end = head.end(), head.end() + int(head[3])
            if self._has_head(begin, end) or self._buffer[end : end + 1] not in (b"\n", b""):
                self._buffer = self._buffer[begin:]
                continue
            if len(self._buffer) <= end:
                self._buffer = self._buffer[head.start() :]
                return
            yield _piece(head, self._buffer[begin:end])
            self._buffer = self._buffer[end:]
        last = self._buffer[self._buffer.rfind(b"\n") + 1 :]
        self._buffer = last if len(last) < _MAX_HEAD_BYTES else b""

    def rest(self) -> Iterator[Piece]:
        """Yield the beginning of a last frame whose writer ended before it was complete."""
        head = self._head.match(self._buffer)
        if head is not None and head[1] in (b"o", b"e", b"r", b"d", b"t") and head.end() < len(self._buffer):
            yield _piece(head, self._buffer[head.end() :])

    def _has_head(self, begin: int, end: int) -> bool:
        """Return whether another frame begins where this one's data should be."""
        at = begin - 1
        while (at := self._buffer.find(self._sign, at, end + len(self._sign) - 1)) >= 0 and at < end:
            if self._head.match(self._buffer, at + 1):
                return True
            at += 1
        return False


def _piece(head: re.Match[bytes], data: bytes) -> Piece:
    if head[1].isupper():
        data = bytes.fromhex(data.decode("ascii", "replace"))
    return Piece(STREAMS[head[1].lower()], int(head[2]), data)
