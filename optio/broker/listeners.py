"""Who listens in this process, and to what."""

import logging
import threading
from collections.abc import Callable, Collection

from optio.broker.base import Listener, Topic

log = logging.getLogger(__name__)


class Listeners:
    """Both brokers' list; any thread may add, remove and dispatch."""

    def __init__(self) -> None:
        self._entries: tuple[tuple[Listener, frozenset[Topic]], ...] = ()
        self._lock = threading.Lock()

    def add(self, listener: Listener, topics: Collection[Topic]) -> Callable[[], None]:
        """See `Broker.subscribe`."""
        entry = (listener, frozenset(topics))
        with self._lock:
            self._entries = (*self._entries, entry)

        def remove() -> None:
            with self._lock:
                self._entries = tuple(other for other in self._entries if other is not entry)

        return remove

    def wanted(self) -> frozenset[Topic]:
        """Every topic that somebody listens to."""
        return frozenset().union(*(topics for _, topics in self._entries))

    def dispatch(self, topic: Topic, key: str) -> None:
        """Call everyone who wants it; a listener that fails harms no other."""
        for listener, topics in self._entries:
            if topic in topics:
                try:
                    listener(topic, key)
                except Exception:
                    log.exception("a listener failed on %s %s", topic, key)
