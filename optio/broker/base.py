"""The seam of the broker: a topic and a key, delivered at most once, never in the way of the sender.

Live logs use it too: the lines are in the store, and the hint `RUN <id>` says that there are more. A reader that asks the
store from its cursor can therefore neither miss nor repeat a line.
"""

from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import Protocol


class Topic(StrEnum):
    """What a hint is about. START goes to one worker that has room, if the broker can choose; the others to everyone."""

    START = "start"  # this run waits; key: run id
    QUEUE = "queue"  # leases were given back, a limit was raised: every worker should look; key: or those of this namespace
    RUN = "run"  # this run has more log, or another state; key: run id
    CANCEL = "cancel"  # this run is to be stopped; key: run id
    REGISTRY = "registry"  # another generation is served


Listener = Callable[[Topic, str], None]


class Broker(Protocol):
    """See the module."""

    def tell(self, topic: Topic, *keys: str) -> None:
        """Tell every listener of these keys (none: of the topic as such). Never raises and never blocks."""
        ...

    def subscribe(self, listener: Listener, topics: Collection[Topic]) -> Callable[[], None]:
        """Call `listener` for hints of these topics, on any thread; it must be quick. The result unsubscribes."""
        ...

    def ready(self, room: bool) -> None:
        """Whether this process has room for another run, said after each look. Without room, and between a START and the next
        look, a broker that can choose gives START to others."""
        ...

    def problem(self) -> str | None:
        """What is wrong with it now, in words. Work goes on without it, by sweeps."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


def announce_queued(broker: Broker, runs: Iterable[tuple[str, str | None]]) -> None:
    """Tell that these runs wait, each with the namespace of its task. START is for tasks without one, and wakes one worker; all
    workers of a namespace are woken."""
    waiting = list(runs)
    starts = [run_id for run_id, namespace in waiting if namespace is None]
    namespaces = dict.fromkeys(namespace for _, namespace in waiting if namespace is not None)
    if starts:
        broker.tell(Topic.START, *starts)
    if namespaces:
        broker.tell(Topic.QUEUE, *namespaces)
