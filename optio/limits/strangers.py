"""Rate windows for requests without a valid signature: per client address and path, and for all together.

A webhook verifies the signature first and asks here only if that failed, so a full window refuses no sender who can sign, not
even one that shares its address with a flood, as everybody behind one reverse proxy does. These windows bound what a flood
gets: 401 with a record in the ledger up to the limit, 429 beyond it. Each server counts by itself.
"""

import time
from collections.abc import Callable
from datetime import timedelta

from optio.limits.local import LocalRateWindow

MAX_PER_ADDRESS = 60
MAX_IN_ALL = 600
_EVERYBODY = ""


class StrangerLimit:
    """Sliding windows of a minute over unsigned requests. For one thread only: the server's event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._addresses = LocalRateWindow(MAX_PER_ADDRESS, clock=clock)
        # Refused requests are not counted, so this bounds the addresses that are remembered, too.
        self._in_all = LocalRateWindow(MAX_IN_ALL, clock=clock)

    def wait(self, path: str, address: str) -> timedelta | None:
        """Return how long a stranger from this address has to wait; None if he is within the limits. Counts nothing."""
        waits = self._addresses.wait(f"{path} {address}"), self._in_all.wait(_EVERYBODY)
        return max((wait for wait in waits if wait is not None), default=None)

    async def hit(self, path: str, address: str) -> timedelta | None:
        """Count a request of a stranger; return None if it is within the limits, else how long he has to wait."""
        wait = self.wait(path, address)
        if wait is None:
            await self._addresses.hit(f"{path} {address}")
            await self._in_all.hit(_EVERYBODY)
        return wait
