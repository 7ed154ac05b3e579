"""What every handler works with."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from optio.live import LiveRegistry
from optio.server.auth import Gate
from optio.server.backlog import Backlog
from optio.server.feed import Feed
from optio.wiring import Services
from optio.writes import TaskFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Handed to every handler by the name `hub`. `reload` takes these files of the tree up now."""

    services: Services
    live: LiveRegistry
    gate: Gate
    feed: Feed
    reload: Callable[[Collection[str]], Awaitable[object]]
    new_id: Callable[[], str]
    # Writes to the tree: by one request at a time, from the look at the task to the answer.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    files: TaskFiles = field(init=False)
    backlog: Backlog = field(init=False)

    def __post_init__(self) -> None:
        """The writer needs nothing but what is here already."""
        settings = self.services.settings
        lock = settings.data_dir / "writes.lock"
        files = TaskFiles(settings.tasks, self.services.secrets, deny=settings.writes != "files", lock=lock)
        object.__setattr__(self, "files", files)
        object.__setattr__(self, "backlog", Backlog(self.services.store, settings.max_queued))
