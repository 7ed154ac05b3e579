"""What waits to be written: operations queue up while a commit is under way, and all of them are the next one."""

import math
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

from optio.errors import StoreUnavailable
from optio.store.sql.transaction import Transaction

T = TypeVar("T")


class DiskUse(Enum):
    """What an operation may use of the disk space that is reserved, when the database's disk is full."""

    NOTHING = "nothing"
    """New work: it is refused."""
    HALF = "half"
    """The output of running attempts: it must leave room for their ends."""
    ALL = "all"
    """Ends, leases, and all that is small. An operation that does not say is of this kind."""


@dataclass(frozen=True, slots=True)
class DiskLimited(Generic[T]):
    """An operation that may not use all of the reserved space. A class of operations may have `disk_use` itself."""

    disk_use: DiskUse
    operation: Callable[[Transaction], T]

    def __call__(self, tx: Transaction) -> T:
        return self.operation(tx)


def disk_use(item: "QueuedWrite") -> DiskUse:
    """Return what the operation may use when the disk is full."""
    return getattr(item.operation, "disk_use", DiskUse.ALL)


class QueuedWrite(NamedTuple):
    """An operation, who waits for it, and until when by the monotonic clock."""

    operation: Callable[[Transaction], Any]
    future: Future[Any]
    limit: float


def is_divisible(batch: list[QueuedWrite]) -> bool:
    """Whether it is more than one operation."""
    return len(batch) > 1 or any(hasattr(item.operation, "parts") for item in batch)


def split_batch(batch: list[QueuedWrite]) -> Iterator[QueuedWrite]:
    """One by one what failed together: the caller writes each before it takes the next. Of an operation with parts each part,
    and its result is a list then: of each part what came of it, or its exception."""
    for item in batch:
        parts = getattr(item.operation, "parts", None)
        if parts is None:
            yield item
            continue
        singles = [QueuedWrite(part, Future(), item.limit) for part in parts]
        yield from singles
        item.future.set_result([each.future.exception() or each.future.result() for each in singles])


class WriteQueue:
    """For any number of callers, and any number of writers that go through `batches` of `most` operations. An operation that
    does the work of several says how many in `weight`, and has them in `parts`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: queue.SimpleQueue[QueuedWrite | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False

    def put(self, operation: Callable[[Transaction], T], limit: float = math.inf) -> Future[T]:
        """Queue an operation; its future is for the writer that takes it, which may give up after `limit`."""
        future: Future[T] = Future()
        # What is queued will be done: whoever waits may go, but cannot take it back half-way.
        future.set_running_or_notify_cancel()
        # The lock orders this against `close`: nothing is queued behind the end mark.
        with self._lock:
            if self._closed:
                future.set_exception(StoreUnavailable("the store is closed"))
            else:
                self._items.put(QueuedWrite(operation, future, limit))
        return future

    def batches(self) -> Iterator[list[QueuedWrite]]:
        """What waits, again and again, until the queue is closed and empty. No delay is ever added: what came during the last
        commit is the next batch."""
        while True:
            batch: list[QueuedWrite] = []
            room = self._most
            item = self._items.get()
            while item is not None:
                batch.append(item)
                room -= getattr(item.operation, "weight", 1)
                if room <= 0:
                    break
                try:
                    item = self._items.get_nowait()
                except queue.Empty:
                    break
            if batch:
                yield batch
            if item is None:
                self._items.put(None)  # for the other writers
                return

    def close(self) -> bool:
        """Take nothing more; whether it is the first time that this was said."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            self._items.put(None)
            return True
