"""An engine that reports failures of the database to telemetry, wrapped around a driver's engine."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from optio.errors import StoreUnavailable
from optio.store.sql.engine import Engine
from optio.store.sql.schema import Migration
from optio.store.sql.transaction import Transaction

T = TypeVar("T")


class HealthEngine:
    """Passes every call on to another engine, and calls `failed` for each use that raised StoreUnavailable."""

    def __init__(self, engine: Engine, failed: Callable[[], None]) -> None:
        self._engine = engine
        self._failed = failed

    @property
    def local(self) -> bool:
        return self._engine.local

    def write(self, operation: Callable[[Transaction], T]) -> Future[T]:
        future = self._engine.write(operation)
        future.add_done_callback(self._look)
        return future

    def _look(self, future: Future[T]) -> None:
        error = future.exception()
        result: object = future.result() if error is None else [error]
        # An operation with parts has a list of results and errors.
        if isinstance(result, list) and any(isinstance(part, StoreUnavailable) for part in result):
            self._failed()

    def change(self, operation: Callable[[Transaction], T]) -> T:
        return self._told(lambda: self._engine.change(operation))

    def read(self, operation: Callable[[Transaction], T]) -> T:
        return self._told(lambda: self._engine.read(operation))

    def peek(self, operation: Callable[[Transaction], T]) -> T:
        return self._told(lambda: self._engine.peek(operation))

    def check(self) -> None:
        self._told(self._engine.check)

    def migrate(self, tell: Callable[[Migration], object] = lambda step: None) -> list[int]:
        return self._engine.migrate(tell)

    def close(self) -> None:
        self._engine.close()

    def _told(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except StoreUnavailable:
            self._failed()
            raise
