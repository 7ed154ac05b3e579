"""The fleet as this server knows it: read every two seconds, so that pages and probes show what is wrong without asking the
store. Used by the pages, `/readyz`, `/api/health` and the metrics."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from optio.errors import OptioError
from optio.model.fleet import FleetProblem, FleetState, find_problems
from optio.store.base import QueueStore

_PERIOD_S = 2.0
# Where a long queue makes the reading slow, it takes at most this share of the time.
_SHARE_OF_TIME = 0.05


class FleetReader:
    """The newest fleet, and its problems. Threads call `read`; the loop runs `follow`."""

    def __init__(self, store: QueueStore) -> None:
        self._store = store
        self.fleet: FleetState | None = None
        self.problems: Sequence[FleetProblem] = ()

    def read(self) -> FleetState:
        """Return the fleet as the store knows it now. Raises StoreUnavailable; the problems known before stay then."""
        fleet = self._store.fleet()
        self.fleet, self.problems = fleet, find_problems(fleet)
        return fleet

    async def follow(self) -> None:
        """Read again and again, until it is cancelled. What starts with this server has the first period to report."""
        pause = _PERIOD_S
        while True:
            await asyncio.sleep(pause)
            started_at = time.monotonic()
            with contextlib.suppress(OptioError):  # readiness tells it
                await asyncio.to_thread(self.read)
            pause = max(_PERIOD_S, (time.monotonic() - started_at) / _SHARE_OF_TIME)
