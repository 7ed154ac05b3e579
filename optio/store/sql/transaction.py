"""What an operation gets: an open transaction. Parameters are named (`:name`); times are integers, microseconds since 1970."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Row = Mapping[str, Any]
_encode = msgspec.json.Encoder().encode


def dump_json(value: Any) -> str:
    """Compact JSON for a column."""
    return _encode(value).decode()


BYTES = "bytea"


class BulkRows:
    """Rows for one statement, which takes them `FROM lot`, a table with these columns (`id text, at bigint, body bytea`). Rows
    may have more than that. What a server gets of them is made once: ahead of the transaction, by whoever has the time to ask.
    """

    def __init__(self, columns: str, rows: Sequence[Row]) -> None:
        self.columns, self.rows = columns, rows
        self.names = [column.split()[0] for column in columns.split(",")]

    @property
    def text(self) -> str:
        """JSON: an object for each row, which for bytes has [where they begin in `blob`, counted from 1; how many]."""
        return self._made[0]

    @property
    def blob(self) -> bytes:
        """The bytes of all rows in one piece."""
        return self._made[1]

    @cached_property
    def _made(self) -> tuple[str, bytes]:
        values = [{name: row[name] for name in self.names} for row in self.rows]
        parts: list[bytes] = []
        begin = 1
        for name in (column.split()[0] for column in self.columns.split(",") if column.endswith(BYTES)):
            for value in values:
                if (data := value[name]) is not None:
                    parts.append(data)
                    value[name] = begin, len(data)
                    begin += len(data)
        return dump_json(values), b"".join(parts)


@dataclass
class RequestCounts:
    """Webhook requests that the operations of a transaction have counted, for `request_counts` to write at its end."""

    repeats: Counter[str] = field(default_factory=Counter)  # by delivery: those with its id and its body
    replays: Counter[str] = field(default_factory=Counter)  # by delivery: those with its signed body under another id
    refusals: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by path, verdict and task id


class Transaction(Protocol):
    """An open transaction."""

    counts: RequestCounts
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

    def hold_all(self, sql: str, params: Mapping[str, Any] | None = None, lot: BulkRows | None = None) -> list[Any]:
        """As `hold`, for every row, in the order of the statement: who holds several runs takes the oldest first, so that no
        two wait for each other. With a lot, the statement finds them by it (`WHERE id IN (SELECT lot.id FROM lot)`)."""
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

    def bulk_run(self, sql: str, lot: BulkRows, params: Mapping[str, Any] | None = None) -> int:
        """The same with a lot that is made already, and parameters that are the same for all of its rows."""
        ...

    def lock(self, name: str) -> None:
        """Exclude other transactions that take the same lock until the end (SQLite: writers exclude each other anyway)."""
        ...


def to_micros(at: datetime) -> int:
    """An aware time as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def from_micros(at: int) -> datetime:
    """Inverse of `micros`."""
    return _EPOCH + at * _MICROSECOND


def optional_from_micros(at: int | None) -> datetime | None:
    """`when`, or None."""
    return None if at is None else from_micros(at)
