"""The interface between operations and drivers: an engine runs operations in transactions. SQLite and PostgreSQL implement
it."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from optio.store.sql.schema import Migration
from optio.store.sql.transaction import Transaction

T = TypeVar("T")


class Engine(Protocol):
    """A driver's transactions. Operations must be repeatable, for a driver may run one again after a conflict."""

    @property
    def local(self) -> bool:
        """Return whether reads take microseconds and never block (`Store.local`)."""

    def write(self, operation: Callable[[Transaction], T]) -> Future[T]:
        """Queue an operation for the next group commit, which may hold several; the future resolves after the commit."""

    def change(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation in a durable transaction of its own, and return after the commit."""

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run a reading operation on one consistent snapshot."""

    def peek(self, operation: Callable[[Transaction], T]) -> T:
        """Run a reading operation of a single statement, which is a snapshot by itself and needs no transaction."""

    def check(self) -> None:
        """Raise StoreUnavailable or StoreMismatch if the database cannot be used; the former as StoreFull while only the writes
        that let runs end are possible."""

    def migrate(self, tell: Callable[[Migration], object] = ...) -> list[int]:
        """Apply the pending schema migrations, calling `tell` with each before it is applied, and return their versions."""

    def close(self) -> None:
        """Finish the queued writes, then close all connections."""
