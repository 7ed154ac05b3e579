"""The interface of an open transaction, which each operation gets from its driver. Parameters are named (`:name`); times are
integers, microseconds since 1970."""

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
    """Return compact JSON for a column."""
    return _encode(value).decode()


BYTES = "bytea"


def column_names(columns: str) -> list[str]:
    """Return the names in a list of columns with their types."""
    return [column.split()[0] for column in columns.split(",")]


class BulkRows:
    """Rows for one statement, which reads them `FROM lot`, a table with the given columns (`id text, at bigint, body bytea`).
    Rows may have further keys. Their encoding for the database is computed once, and can be asked for ahead of the transaction.
    """

    def __init__(self, columns: str, rows: Sequence[Row]) -> None:
        self.columns, self.rows = columns, rows

    @property
    def text(self) -> str:
        """Return JSON with an object for each row; a value of bytes is [its position in `blob`, counted from 1; its length]."""
        return self._made[0]

    @property
    def blob(self) -> bytes:
        """Return the bytes of all rows in one piece."""
        return self._made[1]

    @cached_property
    def _made(self) -> tuple[str, bytes]:
        names = column_names(self.columns)
        values = [{name: row[name] for name in names} for row in self.rows]
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
class TransactionCounts:
    """Counts of the operations of a transaction, which are written at its end: webhook requests for `request_counts`, and ended
    runs and attempts for `daily_stripes`."""

    repeats: Counter[str] = field(default_factory=Counter)  # by delivery: those with its id and its body
    replays: Counter[str] = field(default_factory=Counter)  # by delivery: those with its signed body under another id
    refusals: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by path, verdict and task id
    totals: dict[tuple[str, int], Counter[str]] = field(default_factory=dict)  # by task and day: columns of `daily_stripes`
    durations: Counter[tuple[str, int, int]] = field(default_factory=Counter)  # by task, day and bucket: completed runs


class Transaction(Protocol):
    """An open transaction. Statements use the SQL that both databases share."""

    counts: TransactionCounts
    # The two differences between the dialects: whether the database has LATERAL joins, and a condition of a column of bytes and
    # a pattern of LIKE in bytes, with `!` before its wildcards that stand for themselves. ASCII letters fit in either case.
    lateral: bool
    matches: str
    # Transactions of different stripes count in different rows (`daily_totals`).
    stripe: int

    @property
    def now(self) -> int:
        """Return the time at which the transaction began, by the store's clock, in microseconds since 1970."""

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        """Return the first row, by column name, or None."""

    def hold(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        """Return the first row and lock it until the end. Needed wherever a change depends on what was read."""

    def hold_all(self, sql: str, params: Mapping[str, Any] | None = None, lot: BulkRows | None = None) -> list[Any]:
        """Return every row and lock them, in the order of the statement: operations that lock several runs take the oldest
        first, so that no two wait for each other. With a lot, the statement finds the rows by it (`WHERE id IN (SELECT lot.id
        FROM lot)`)."""

    def hold_free(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        """Return the rows that no other transaction has locked, and lock them. This never waits."""

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        """Return every row, by column name."""

    def run(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        """Run a statement; return the number of rows changed."""

    def many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> int:
        """Run the same statement for each of the parameters; return the number of rows changed in all."""

    def lot(self, sql: str, columns: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run one statement for all rows, which it reads `FROM lot`, a table with these columns (`id text, at bigint`); return
        the number of rows changed. Rows may have further keys."""

    def bulk_run(self, sql: str, lot: BulkRows, params: Mapping[str, Any] | None = None) -> int:
        """Run one statement for rows that are encoded already, with parameters that are the same for all of them; return the
        number of rows changed."""

    def lock(self, name: str) -> None:
        """Exclude other transactions that take the same lock until the end (SQLite: writers exclude each other anyway)."""


def to_micros(at: datetime) -> int:
    """Return an aware time as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def span_in_micros(span: timedelta) -> int:
    """Return the length of a time span, to be added to a time of the database."""
    return span // _MICROSECOND


def from_micros(at: int) -> datetime:
    """Return the UTC time of microseconds since 1970."""
    return _EPOCH + at * _MICROSECOND


def optional_from_micros(at: int | None) -> datetime | None:
    """Return the time as `from_micros` does, or None for None."""
    return None if at is None else from_micros(at)
