"""The interface of rate windows, which limit the webhook requests of each path."""

from datetime import timedelta
from typing import Protocol


class RateWindow(Protocol):
    """Allows at most `per_minute` hits in any sixty seconds for each key. Implemented in memory and in Redis."""

    async def hit(self, key: str) -> timedelta | None:
        """Count a hit. Return None if it is allowed, else how long until one will be. Never raises, and answers within 0.5
        s."""
        ...

    def problem(self) -> str | None:
        """Return why only this server's hits are counted at present, for health checks; None while all are."""
        ...

    async def close(self) -> None:
        """Release connections; must run on the event loop that used them."""
        ...
