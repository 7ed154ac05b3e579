"""Operations for audits, tokens and retention."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from optio.store import values
from optio.store.sql import (
    audit,
    retention,
    tokens,
)
from optio.store.sql.operations import Operations, change, peek, read
from optio.store.sql.transaction import to_micros


class AuditOperations(Operations):
    """Operations for audits, tokens and retention. The methods are documented in `optio.store.base`."""

    def generations(self, *, since: datetime, after: int = 0, limit: int = 20) -> list[values.GenerationRow]:
        return self._engine.peek(lambda tx: audit.generations(tx, to_micros(since), after, limit))

    def audit_slots(
        self, task_id: str, after: datetime, until: datetime, runs: datetime, limit: int = 20_000
    ) -> list[tuple[datetime, str] | values.AuditedSlot]:
        return self._engine.peek(
            lambda tx: audit.slots(tx, task_id, to_micros(after), to_micros(until), to_micros(runs), limit)
        )

    def audit_ranges(self, task_id: str, after: datetime, until: datetime) -> list[values.AuditedSlot]:
        return self._engine.peek(lambda tx: audit.ranges(tx, task_id, to_micros(after), to_micros(until)))

    def first_delivery(self, since: datetime) -> int | None:
        return self._engine.peek(lambda tx: audit.first_delivery(tx, to_micros(since)))

    def audit_deliveries(
        self, span: values.AuditSpan, *, first: int, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
    ) -> values.AuditPage[values.AuditedDelivery] | None:
        return self._engine.read(lambda tx: audit.deliveries(tx, span, task_id, first, before, limit))

    def audit_repeats(self, span: values.AuditSpan, *, task_id: str | None = None) -> Mapping[tuple[str, str], int]:
        return self._engine.read(lambda tx: audit.repeats(tx, span, task_id))

    def audit_runs(
        self, span: values.AuditSpan, *, task_id: str | None = None, before: int = 2**62, limit: int = 20_000
    ) -> values.AuditPage[values.AuditedRun] | None:
        return self._engine.read(lambda tx: audit.runs(tx, span, task_id, before, limit))

    add_token = change(tokens.add)
    token = peek(tokens.living)
    revoke_token = change(tokens.revoke)
    touch_token = change(tokens.touch)
    tokens = peek(tokens.every)

    prunable = read(retention.prunable)

    def prune(self, keep: values.RetentionPolicy) -> Iterator[tuple[values.PrunedKind, int]]:
        return retention.prune(self._engine, keep)

    def delete_run(self, run_id: str) -> None:
        retention.delete_run(self._engine, run_id)
