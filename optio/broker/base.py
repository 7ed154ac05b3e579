"""The interface of the broker: hints, each a topic and a key, delivered at most once and without ever delaying the sender.

A hint may be lost, because it says only where to look. Live logs show why this is enough: the lines are in the store, and the
hint `RUN <id>` says that there are more. A reader asks the store from its cursor, so it can neither miss nor repeat a line.
"""

from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import Protocol


class Topic(StrEnum):
    """The subject of a hint. START goes to one worker that has room, if the broker can choose; all others go to every
    subscriber."""

    START = "start"  # a run was queued; key: run id
    QUEUE = "queue"  # every worker, or every worker of the namespace in the key, should look at the queue
    RUN = "run"  # a run has more log lines or another state; key: run id
    CANCEL = "cancel"  # a run's cancellation was requested; key: run id
    REGISTRY = "registry"  # a new generation is served


Listener = Callable[[Topic, str], None]


class Broker(Protocol):
    """Sends and receives hints. Implemented within one machine (`broker.local`) and over Redis (`broker.redis`); methods may be
    called from any thread."""

    def tell(self, topic: Topic, *keys: str) -> None:
        """Send a hint for each key (without keys: one for the topic as such) to all subscribers. Never raises and never
        blocks."""

    def subscribe(self, listener: Listener, topics: Collection[Topic]) -> Callable[[], None]:
        """Call `listener` for hints of these topics, on any thread, so it must return soon. Return a function that
        unsubscribes."""

    def ready(self, room: bool) -> None:
        """Tell the broker whether this process has room for another run; workers call it after each look at the queue. Without
        room, and between a START and the next look, a broker that can choose gives START to others."""

    def problem(self) -> str | None:
        """Return what is wrong with the broker now, for health checks; None while it works. Runs go on without it, by
        sweeps."""

    def close(self) -> None:
        """Stop listening, and release sockets, connections and threads."""


def announce_queued(broker: Broker, runs: Iterable[tuple[str, str | None]]) -> None:
    """Send the hints for queued runs, each given with its task's namespace. Runs without a namespace send START, which wakes
    one worker; for each namespace all its workers are woken."""
    waiting = list(runs)
    starts = [run_id for run_id, namespace in waiting if namespace is None]
    namespaces = dict.fromkeys(namespace for _, namespace in waiting if namespace is not None)
    if starts:
        broker.tell(Topic.START, *starts)
    if namespaces:
        broker.tell(Topic.QUEUE, *namespaces)
