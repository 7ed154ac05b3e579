"""What an operation gets: an open transaction. Parameters are named (`:name`); times are integers, microseconds since 1970."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Row = Mapping[str, Any]


class Transaction(Protocol):
    """An open transaction."""

    lateral: bool  # whether a join may look at what stands before it; the one place where the two dialects part

    @property
    def now(self) -> int:
        """Microseconds since 1970, by the store's clock, as it stood at the start."""
        ...

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        """The first row, by name, or None."""
        ...

    def hold(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        """As `one`, and nobody else changes that row before the end. Needed wherever a change depends on what was read."""
        ...

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        """Every row."""
        ...

    def run(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        """Rows changed."""
        ...

    def many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> int:
        """The same statement for each; rows changed in all."""
        ...

    def lot(self, sql: str, columns: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """The statement for all rows at once, which it takes `FROM lot`, a table with these columns (`id text, at bigint`);
        rows changed. Rows may have more than that."""
        ...

    def lock(self, name: str) -> None:
        """Exclude other transactions that take the same lock until the end (SQLite: writers exclude each other anyway)."""
        ...


def micros(at: datetime) -> int:
    """An aware time as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def when(at: int) -> datetime:
    """Inverse of `micros`."""
    return _EPOCH + at * _MICROSECOND


def maybe(at: int | None) -> datetime | None:
    """`when`, or None."""
    return None if at is None else when(at)
