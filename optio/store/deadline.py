"""One deadline for all that a request asks of the store.

A request calls the store several times, and each call waits for a thread, a connection and the database. If each of these had a
time limit of its own, the client would wait for their sum. So the server sets a `Deadline` for each request
(`server/in_time.py`), and the PostgreSQL driver ends every call by it, also on other threads, because `asyncio.to_thread`
copies the request's context. Workers and schedulers set none: each of their calls may take `CALL_S`.
"""

import math
import time
from contextvars import ContextVar

# The time limit of one call, and of all calls of one request together.
CALL_S = 5.0


class Deadline:
    """The end of a request's time, by the monotonic clock. May be moved from any thread."""

    def __init__(self) -> None:
        self.at = time.monotonic() + CALL_S

    def restart(self) -> None:
        """Start the time anew: what came before was the client's own time, such as that of a slow upload."""
        self.at = time.monotonic() + CALL_S

    def lift(self) -> None:
        """Give each further call its own time limit: the client has its answer, or reads a stream."""
        self.at = math.inf


CURRENT: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def call_limit(patience: float) -> float:
    """Return when a call that begins now must end, by the monotonic clock: the request's deadline, or `patience` seconds from
    now where none is set."""
    end = time.monotonic() + patience
    current = CURRENT.get()
    return end if current is None else min(end, current.at)
