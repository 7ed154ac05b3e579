"""An engine that tells when the database could not be used."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from optio.errors import StoreUnavailable
from optio.store.sql.engine import Engine
from optio.store.sql.schema import Migration
from optio.store.sql.transaction import Transaction

T = TypeVar("T")


class HealthEngine:
    """Passes everything on; `failed` is called for each use that raised StoreUnavailable."""

    def __init__(self, engine: Engine, failed: Callable[[], None]) -> None:
        self._engine = engine
        self._failed = failed

    @property
    def local(self) -> bool:
        """See Engine."""
        return self._engine.local

    def write(self, operation: Callable[[Transaction], T]) -> Future[T]:
        """See Engine."""
        future = self._engine.write(operation)
        future.add_done_callback(self._look)
        return future

    def _look(self, future: Future[T]) -> None:
        error = future.exception()
        result: object = future.result() if error is None else [error]
        # Of several operations in one each has a result, or an error, of its own.
        if isinstance(result, list) and any(isinstance(each, StoreUnavailable) for each in result):
            self._failed()

    def change(self, operation: Callable[[Transaction], T]) -> T:
        """See Engine."""
        return self._told(lambda: self._engine.change(operation))

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """See Engine."""
        return self._told(lambda: self._engine.read(operation))

    def peek(self, operation: Callable[[Transaction], T]) -> T:
        """See Engine."""
        return self._told(lambda: self._engine.peek(operation))

    def check(self) -> None:
        """See Engine."""
        self._told(self._engine.check)

    def migrate(self, tell: Callable[[Migration], object] = lambda step: None) -> list[int]:
        """See Engine."""
        return self._engine.migrate(tell)

    def close(self) -> None:
        """See Engine."""
        self._engine.close()

    def _told(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except StoreUnavailable:
            self._failed()
            raise
