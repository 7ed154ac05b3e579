"""The seam of the broker: a topic and a key, delivered at most once, never in the way of the sender.

Live logs use it too: the lines are in the store, and the hint `RUN <id>` says that there are more. A reader that asks the
store from its cursor can therefore neither miss nor repeat a line.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol


class Topic(StrEnum):
    """What a hint is about."""

    QUEUE = "queue"  # a run waits, or a slot is free
    RUN = "run"  # this run has more log, or another state; key: run id
    CANCEL = "cancel"  # this run is to be stopped; key: run id
    REGISTRY = "registry"  # another generation is served


Listener = Callable[[Topic, str], None]


class Broker(Protocol):
    """See the module."""

    def tell(self, topic: Topic, key: str = "") -> None:
        """Tell every listener. Never raises and never blocks."""
        ...

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every hint, on any thread; it must be quick. The result unsubscribes."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...
