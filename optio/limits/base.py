"""The seam of the rate windows."""

from datetime import timedelta
from typing import Protocol


class RateWindow(Protocol):
    """At most `per_minute` hits in any sixty seconds for each key."""

    async def hit(self, key: str) -> timedelta | None:
        """Count a hit; None if it is allowed, else how long until one will be. Never raises, and answers within 0.5 s."""
        ...

    def problem(self) -> str | None:
        """Why it counts this server's hits only, in words."""
        ...

    async def close(self) -> None:
        """Let go of connections, on the loop that used them."""
        ...
