"""SqlStore: the store's interface, implemented by binding each operation to a driver's transactions."""

from collections.abc import Callable
from datetime import datetime

from optio.store.sql.audit_operations import AuditOperations
from optio.store.sql.health_engine import HealthEngine
from optio.store.sql.intake_operations import IntakeOperations
from optio.store.sql.queue_operations import QueueOperations
from optio.store.sql.run_operations import RunOperations
from optio.store.sql.schedule_operations import ScheduleOperations
from optio.store.sql.schema import Migration
from optio.store.sql.transaction import from_micros


class SqlStore(IntakeOperations, QueueOperations, RunOperations, ScheduleOperations, AuditOperations):
    """The implementation of `optio.store.base.Store` over an engine. Its methods are documented there."""

    @property
    def local(self) -> bool:
        return self._engine.local

    def now(self) -> datetime:
        return self._engine.peek(lambda tx: from_micros(tx.now))

    def watch(self, failed: Callable[[], None]) -> None:
        self._engine = HealthEngine(self._engine, failed)

    def check(self) -> None:
        self._engine.check()

    def migrate(self, tell: Callable[[Migration], object] = lambda step: None) -> list[int]:
        return self._engine.migrate(tell)

    def close(self) -> None:
        self._engine.close()
