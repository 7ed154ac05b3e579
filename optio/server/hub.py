"""What every handler works with, and the hints of the broker as asyncio events."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from optio.broker.base import Topic
from optio.live import LiveRegistry
from optio.wiring import Services


class Feed:
    """Wakes the readers of a run when the broker says that there is more."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: dict[str, set[asyncio.Event]] = {}
        self._closing = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Events belong to this loop."""
        self._loop = loop

    def hint(self, topic: Topic, key: str) -> None:
        """A broker's listener; from any thread."""
        if topic is Topic.RUN and key in self._listening and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._set, key)

    def _set(self, key: str) -> None:
        for event in self._listening.get(key, ()):
            event.set()

    @contextlib.contextmanager
    def listen(self, run_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the run has changed."""
        event = asyncio.Event()
        self._listening.setdefault(run_id, set()).add(event)
        try:
            yield event
        finally:
            self._listening[run_id].discard(event)
            if not self._listening[run_id]:
                del self._listening[run_id]

    def close(self) -> None:
        """Wake every reader for the last time."""
        self._closing = True
        for run_id in list(self._listening):
            self._set(run_id)

    @property
    def closing(self) -> bool:
        """Whether readers are to go and come back later."""
        return self._closing


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Handed to every handler by the name `hub`. `reload` takes the tree on disk up now; `open_access` means no token."""

    services: Services
    live: LiveRegistry
    feed: Feed
    reload: Callable[[], Awaitable[object]]
    new_id: Callable[[], str]
    open_access: bool
