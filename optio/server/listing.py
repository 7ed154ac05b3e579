"""The list of served tasks as JSON, encoded once for all requests while nothing in it changes.

A tree of a thousand tasks takes tens of milliseconds to encode, on the loop that serves everybody; the list changes only when a
generation is served or a task is paused.
"""

from collections.abc import Mapping

import msgspec

from optio.server import serializers
from optio.store.values import Pause
from optio.tree.served import Snapshot

_encode = msgspec.json.Encoder().encode


class TaskList:
    """A cache of the newest list. Not thread-safe: it belongs to the server's loop."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._pauses: Mapping[str, Pause] = {}
        self._encoded = msgspec.Raw()

    def encoded(self, snapshot: Snapshot, pauses: Mapping[str, Pause]) -> msgspec.Raw:
        """Return all tasks of the snapshot as a JSON array, for an answer that msgspec encodes."""
        if self._snapshot is not snapshot or self._pauses != pauses:
            items = [serializers.task(task, snapshot, pauses.get(task.id)) for task in snapshot.registry.tasks.values()]
            self._encoded = msgspec.Raw(_encode(items))
            self._snapshot, self._pauses = snapshot, pauses
        return self._encoded
