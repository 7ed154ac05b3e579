"""The subscribers in this process, by topic. Both brokers use it."""

import logging
import threading
from collections.abc import Callable, Collection

from optio.broker.base import Listener, Topic

log = logging.getLogger(__name__)


class Listeners:
    """A list of subscribers. Any thread may add, remove and dispatch at the same time: the list is replaced, never changed."""

    def __init__(self) -> None:
        self._entries: tuple[tuple[Listener, frozenset[Topic]], ...] = ()
        self._lock = threading.Lock()

    def add(self, listener: Listener, topics: Collection[Topic]) -> Callable[[], None]:
        """Add a subscriber, as `Broker.subscribe` does; return a function that removes it."""
        entry = (listener, frozenset(topics))
        with self._lock:
            self._entries = (*self._entries, entry)

        def remove() -> None:
            with self._lock:
                self._entries = tuple(remaining for remaining in self._entries if remaining is not entry)

        return remove

    def wanted(self) -> frozenset[Topic]:
        """Return every topic that has a subscriber."""
        return frozenset().union(*(topics for _, topics in self._entries))

    def dispatch(self, topic: Topic, key: str) -> None:
        """Call all subscribers of the topic; one that fails is logged and does not affect the others."""
        for listener, topics in self._entries:
            if topic in topics:
                try:
                    listener(topic, key)
                except Exception:
                    log.exception("a listener failed on %s %s", topic, key)
