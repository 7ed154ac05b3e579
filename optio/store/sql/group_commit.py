"""Group commit: operations queue up while a commit is in progress, and all of them form the next one. The write queue of both
drivers."""

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
    """The share of the reserved disk space that an operation may use when the database's disk is full."""

    NOTHING = "nothing"
    """New work: it is refused."""
    HALF = "half"
    """The output of running attempts: it must leave room for their ends."""
    ALL = "all"
    """Ends, leases, and all that is small. An operation that does not say is of this kind."""


@dataclass(frozen=True, slots=True)
class DiskLimited(Generic[T]):
    """An operation that may not use all of the reserved space. A class of operations may state its own `disk_use` instead."""

    disk_use: DiskUse
    operation: Callable[[Transaction], T]

    def __call__(self, tx: Transaction) -> T:
        return self.operation(tx)


def disk_use(item: "QueuedWrite") -> DiskUse:
    """Return what an operation may use when the disk is full: all, unless it says otherwise."""
    return getattr(item.operation, "disk_use", DiskUse.ALL)


class QueuedWrite(NamedTuple):
    """An operation in the queue, the future of its caller, and the monotonic time after which it may be given up."""

    operation: Callable[[Transaction], Any]
    future: Future[Any]
    limit: float


def is_divisible(batch: list[QueuedWrite]) -> bool:
    """Return whether the batch can be split into smaller ones after it failed."""
    return len(batch) > 1 or any(hasattr(item.operation, "parts") for item in batch)


def split_batch(batch: list[QueuedWrite]) -> Iterator[QueuedWrite]:
    """Yield the operations of a failed batch one by one; the caller writes each before it takes the next. An operation with
    `parts` yields each part, and its own result becomes a list with the result or exception of every part."""
    for item in batch:
        parts = getattr(item.operation, "parts", None)
        if parts is None:
            yield item
            continue
        singles = [QueuedWrite(part, Future(), item.limit) for part in parts]
        yield from singles
        item.future.set_result([single.future.exception() or single.future.result() for single in singles])


class WriteQueue:
    """A queue of operations for any number of callers, and for any number of writers that go through `batches` of at most
    `most`. An operation that combines several gives their number as `weight` and themselves as `parts`."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._items: queue.SimpleQueue[QueuedWrite | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False

    def put(self, operation: Callable[[Transaction], T], limit: float = math.inf) -> Future[T]:
        """Queue an operation and return its future; the writer that takes it may give up after `limit` (monotonic)."""
        future: Future[T] = Future()
        # A queued operation will run: its caller may stop waiting, but cannot cancel it.
        future.set_running_or_notify_cancel()
        # The lock orders this against `close`: nothing is queued behind the end mark.
        with self._lock:
            if self._closed:
                future.set_exception(StoreUnavailable("the store is closed"))
            else:
                self._items.put(QueuedWrite(operation, future, limit))
        return future

    def batches(self) -> Iterator[list[QueuedWrite]]:
        """Yield the waiting operations as a batch, until the queue is closed and empty. No delay is ever added: what came
        during the last commit is the next batch."""
        while True:
            batch: list[QueuedWrite] = []
            room = self._max_waiting
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
        """Accept no more operations; return True for the first call."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            self._items.put(None)
            return True
