"""What every handler works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from optio.live import LiveRegistry
from optio.server.auth import Gate
from optio.server.feed import Feed
from optio.wiring import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Handed to every handler by the name `hub`. `reload` takes the tree on disk up now."""

    services: Services
    live: LiveRegistry
    gate: Gate
    feed: Feed
    reload: Callable[[], Awaitable[object]]
    new_id: Callable[[], str]
