"""What an API server knows, and how it tells."""

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

Object = dict[str, Any]
Selector = Callable[[Object], bool]
_KEPT = 2000
_BOOKMARK_S = 5.0


class Refusal(Exception):
    """An answer that is a no."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


class Store:
    """Objects by collection and name. None is ever changed: a change makes another one, of the next version of all."""

    def __init__(self) -> None:
        self.version = 0
        self.moved = asyncio.Event()
        self._objects: dict[tuple[str, str], Object] = {}
        # (collection, before, after): one for each version, the last ones.
        self._events: deque[tuple[str, Object | None, Object | None]] = deque(maxlen=_KEPT)

    def find(self, collection: str, name: str) -> Object | None:
        """The object, or None."""
        return self._objects.get((collection, name))

    def get(self, collection: str, name: str) -> Object:
        """The object; raises Refusal."""
        found = self.find(collection, name)
        if found is None:
            raise Refusal(404, f'{collection.rpartition("/")[2]} "{name}" not found')
        return found

    def all(self, collection: str, chosen: Selector) -> list[Object]:
        """Those that are chosen."""
        return [each for (where, _), each in self._objects.items() if where == collection and chosen(each)]

    def create(self, collection: str, new: Object) -> Object:
        """As it is then; raises Refusal if the name is taken."""
        name = new["metadata"]["name"]
        if self.find(collection, name) is not None:
            raise Refusal(409, f'{collection.rpartition("/")[2]} "{name}" already exists')
        meta = {**new["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": now()}
        return self._told(collection, name, {**new, "metadata": meta})

    def remembers(self, version: int) -> bool:
        """Whether all that changed since is still known."""
        return version >= self.version - len(self._events)

    def change(self, collection: str, name: str, changes: Object) -> Object:
        """By RFC 7396; raises Refusal if a version or a UID is among the changes that it has not."""
        old = self.get(collection, name)
        if changes.get("metadata", {}).get("uid") not in (None, old["metadata"]["uid"]):
            raise Refusal(409, f'"{name}": the UID in the precondition does not match the UID in record')
        if changes.get("metadata", {}).get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
            raise Refusal(409, f'"{name}": the object has been modified; please apply your changes to the latest version')
        return self._told(collection, name, _merged(old, changes))

    def drop(self, collection: str, name: str) -> Object:
        """As it was last."""
        return self._told(collection, name, None)

    def _told(self, collection: str, name: str, new: Object | None) -> Object:
        old = self._objects.pop((collection, name), None)
        last = new or old or {}
        self.version += 1
        last = {**last, "metadata": {**last["metadata"], "resourceVersion": str(self.version)}}
        if new is not None:
            self._objects[collection, name] = last
        self._events.append((collection, old, last) if new is not None else (collection, last, None))
        self.moved.set()
        self.moved = asyncio.Event()
        return last

    async def watch(self, collection: str, chosen: Selector, since: int, seconds: float) -> AsyncIterator[Object]:
        """Events after a version, for so long."""
        until = time.monotonic() + seconds
        while True:
            moved, oldest = self.moved, self.version - len(self._events)
            if not self.remembers(since):
                yield {"type": "ERROR", "object": Refusal(410, f"too old resource version: {since} ({oldest})").status}
                return
            for where, old, new in list(islice(self._events, since - oldest, None)):
                since += 1
                was, is_now = old is not None and chosen(old), new is not None and chosen(new)
                if where == collection and (was or is_now):
                    kind = "MODIFIED" if was and is_now else "ADDED" if is_now else "DELETED"
                    yield {"type": kind, "object": new or old}
            if await happens(moved, min(_BOOKMARK_S, until - time.monotonic())):
                continue
            yield {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": str(since)}}}
            if time.monotonic() >= until:
                return


def _merged(old: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    both = dict(old) if isinstance(old, dict) else {}
    for key, value in changes.items():
        both[key] = _merged(both.get(key), value)
        if value is None:
            del both[key]
    return both


async def happens(event: asyncio.Event, within: float) -> bool:
    """Whether it does."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            return await event.wait()
    return False


def now(later: float = 0.0) -> str:
    """The time, as objects have it."""
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")
