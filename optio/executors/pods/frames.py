"""The pod's log, as the supervisor writes it -> pieces of streams. See `supervisor.sh`."""

import re
from collections.abc import Iterator
from typing import NamedTuple

STREAMS = {b"o": "stdout", b"e": "stderr", b"r": "result", b"s": "said", b"x": "end"}
# Large frames of these come in several pieces.
_PARTED = (b"o", b"e", b"r")
# Longer than any head can be.
_LONGEST_HEAD = 128


class Piece(NamedTuple):
    """Some bytes of a stream, which begin at this offset of it."""

    stream: str
    offset: int
    data: bytes


class Frames:
    """Takes the log in chunks of any size. A log that begins in the middle (the kubelet has rotated it) is searched for the
    next head; what is no frame is passed over."""

    def __init__(self, mark: str) -> None:
        self._head = re.compile(rb"^" + re.escape(mark.encode()) + rb" ([oersxOER]) (\d+) (\d+)\n", re.MULTILINE)
        self._buffer = b""
        self._stream = b""
        self._offset = self._left = 0

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """The pieces that are there now: a large frame of the agent comes in several, one of the supervisor's in one."""
        self._buffer += chunk
        while self._buffer:
            if self._left:
                if self._stream not in _PARTED and len(self._buffer) < self._left:
                    return
                yield self._piece()
                continue
            head = self._head.search(self._buffer)
            if head is None:
                last = self._buffer[self._buffer.rfind(b"\n") + 1 :]
                self._buffer = last if len(last) < _LONGEST_HEAD else b""
                return
            self._buffer = self._buffer[head.end() :]
            self._stream, self._offset, self._left = head[1], int(head[2]), int(head[3])

    def _piece(self) -> Piece:
        data = self._buffer[: self._left]
        self._buffer = self._buffer[len(data) :]
        self._left -= len(data)
        if self._stream.isupper():
            data = bytes.fromhex(data.decode("ascii", "replace"))
        piece = Piece(STREAMS[self._stream.lower()], self._offset, data)
        self._offset += len(data)
        return piece
