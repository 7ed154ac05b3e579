"""What a driver is to the operations."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from optio.store.sql.schema import Migration
from optio.store.sql.transaction import Transaction

T = TypeVar("T")


class Engine(Protocol):
    """What a driver is: transactions. Operations must be repeatable, for a driver may run one again after a conflict."""

    @property
    def local(self) -> bool:
        """See `optio.store.base.Store.local`."""
        ...

    def write(self, operation: Callable[[Transaction], T]) -> Future[T]:
        """One durable transaction, or several operations gathered in one commit."""
        ...

    def change(self, operation: Callable[[Transaction], T]) -> T:
        """One durable transaction; returns after its commit."""
        ...

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """One consistent snapshot."""
        ...

    def peek(self, operation: Callable[[Transaction], T]) -> T:
        """As `read`, for an operation of one statement, which is a snapshot by itself."""
        ...

    def check(self) -> None:
        """Raises StoreUnavailable or StoreMismatch; of the former StoreFull while only what lets runs end is written."""
        ...

    def migrate(self, tell: Callable[[Migration], object] = ...) -> list[int]:
        """Take the schema's steps that are left, telling each before it is taken, and give their numbers."""
        ...

    def close(self) -> None:
        """Finish what is queued and close."""
        ...
