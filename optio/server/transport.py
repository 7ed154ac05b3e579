"""A transport that sends what was written in one pass of the event loop as one piece.

uvicorn writes the head of an answer and its body one after the other, and a WebSocket frame by frame. Each write is a system
call and a TCP segment of its own. Here small writes leave together, at the end of the loop's pass at the latest: nothing waits
for a time, so the head of a stream and each of its events go out at once. `cli.serving` wraps each accepted connection.
"""

import asyncio

# A write of more than this leaves by itself, uncopied, and no more than this is gathered: back pressure works as without.
MAX_GATHERED_BYTES = 16_384
# The methods that neither write nor end the connection.
_PASSED_ON = ("is_closing", "pause_reading", "resume_reading", "set_protocol", "get_protocol", "get_extra_info")


class GatheringTransport(asyncio.Transport):
    """Wraps the transport of one connection; `flush` sends what was gathered without waiting for the end of the pass."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []
        self._size = 0
        self._due: asyncio.Handle | None = None
        for name in _PASSED_ON:
            setattr(self, name, getattr(transport, name))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send these bytes together with what else is written in this pass of the loop."""
        if self._size + len(data) > MAX_GATHERED_BYTES:
            self.flush()
        if len(data) > MAX_GATHERED_BYTES:
            self._transport.write(data)
            return
        self._gathered.append(bytes(data))
        self._size += len(data)
        if self._due is None:
            self._due = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand what was gathered to the wrapped transport, in one write."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._size = 0
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection after everything that was written has been sent."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once; what was not sent is lost."""
        self._gathered.clear()
        self._size = 0
        self._transport.abort()
