"""PostgreSQL: the driver for several machines. Writer threads gather queued operations into group commits; all other calls take
a connection of the pool.

Isolation is READ COMMITTED, with a row lock or an advisory lock wherever an operation decides on what it has read; reading
operations of several statements get a snapshot. `pool` ends calls in time.
"""

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any, TypeVar

import psycopg

from optio.errors import CommitUnknown, SettingsError, StoreUnavailable
from optio.store import deadline
from optio.store.postgres import errors
from optio.store.postgres import url as pg_url
from optio.store.postgres.pool import Connection, ConnectionPool
from optio.store.sql import schema
from optio.store.sql.bulk import run_batch
from optio.store.sql.group_commit import QueuedWrite, WriteQueue, is_divisible, split_batch
from optio.store.sql.schema import Migration, SchemaState, migrations, pending, require_current
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import BYTES, BulkRows, Transaction, TransactionCounts

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_COMMIT_OPERATIONS = 64
WRITERS = 2
CALL_TIMEOUT_S = pg_url.CALL_TIMEOUT_S
# A migration may have to fill an index over many rows, or wait until another process has done so.
_MIGRATION_S = 3600.0
_LOCK_TRIES = 20
_LOCK_PAUSE_S = 1.0
# Bounds the rows of a task and day. Servers number their processes in order, so that few connections share a stripe.
_STRIPES = 64
_LOCKS = {"admission": 0x6F7074696F01, "registry": 0x6F7074696F02, "schema": 0x6F7074696F03}

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now"
_BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_NOW}"
_SNAPSHOT = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_NOW}"
# For a batch in which one operation has waited for a lock in vain: the others must not wait for it as long.
_BEGIN_SHORT_LOCK = f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 200; {_NOW}"
_MIGRATE = f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; {_NOW}"
_BYTES_OF = "substr(CAST(:blob AS bytea), CAST({name}->>0 AS integer), CAST({name}->>1 AS integer)) AS {name}"
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


def open_store(
    url: str, *, clock: Callable[[], float] | None = None, patience: float = CALL_TIMEOUT_S, migrated: bool = True
) -> SqlStore:
    """Open a store in this database, migrated to this version if `migrated`. Raise StoreUnavailable, StoreMismatch, and
    SettingsError for a URL that cannot be read and a database whose encoding lacks most characters.

    `clock` gives seconds since 1970 in place of the server's own clock; a call ends after `patience` seconds.
    """
    return SqlStore(PostgresEngine(url, clock=clock, patience=patience, migrated=migrated))


class _PostgresTransaction:
    """An open transaction on one connection, or a single statement without one."""

    lateral = True
    # As text in which bytes above 127 are escapes: a line may be no UTF-8.
    matches = "encode({column}, 'escape') ILIKE encode({pattern}, 'escape') ESCAPE '!'"

    def __init__(self, connection: Connection, now: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = now
        self._now: int | None = None
        self.stripe = connection.info.backend_pid % _STRIPES
        self.counts = TransactionCounts()

    @property
    def now(self) -> int:
        """Return microseconds since 1970, by the server's clock, constant for the whole transaction."""
        if self._now is None:
            self._now = self._clock()
        return self._now

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._found(_to_psycopg(sql), params).fetchone()

    def hold(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._found(_to_psycopg(sql) + b" FOR UPDATE", params).fetchone()

    def hold_all(self, sql: str, params: Mapping[str, Any] | None = None, lot: BulkRows | None = None) -> list[Any]:
        if lot is not None:
            sql, params = _with_bulk_rows(sql, lot), {**(params or {}), **_bulk_parameters(lot)}
        return self._found(_to_psycopg(sql) + b" FOR UPDATE", params).fetchall()

    def hold_free(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        return self._found(_to_psycopg(sql) + b" FOR UPDATE SKIP LOCKED", params).fetchall()

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        return self._found(_to_psycopg(sql), params).fetchall()

    def _found(self, sql: bytes, params: Mapping[str, Any] | None) -> psycopg.Cursor[dict[str, Any]]:
        try:
            return self._connection.execute(sql, params)
        except psycopg.DataError:
            # PostgreSQL stores no text with a NUL, so none can be found; nothing was sent to the server.
            if sql.lstrip().startswith(b"SELECT") and any(isinstance(v, str) and "\0" in v for v in (params or {}).values()):
                return self._connection.execute(b"SELECT WHERE FALSE")
            raise

    def run(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        return self._connection.execute(_to_psycopg(sql), params).rowcount

    def many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> int:
        if not params:
            return 0
        with self._connection.cursor() as cursor:
            cursor.executemany(_to_psycopg(sql), params)
            return cursor.rowcount

    def lot(self, sql: str, columns: str, rows: Sequence[Mapping[str, Any]]) -> int:
        return self.bulk_run(sql, BulkRows(columns, rows))

    def bulk_run(self, sql: str, lot: BulkRows, params: Mapping[str, Any] | None = None) -> int:
        if not lot.rows:
            return 0
        return self.run(_with_bulk_rows(sql, lot), {**(params or {}), **_bulk_parameters(lot)})

    def lock(self, name: str) -> None:
        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCKS[name],))


class PostgresEngine:
    """The engine over one PostgreSQL database."""

    local = False

    def __init__(
        self, url: str, *, clock: Callable[[], float] | None = None, patience: float = CALL_TIMEOUT_S, migrated: bool = True
    ) -> None:
        target = pg_url.read(url)
        self._name = target.name
        self._clock = clock
        self._patience = patience
        self._pool = ConnectionPool(target, patience=patience)
        self._queue = WriteQueue(MAX_COMMIT_OPERATIONS)
        self._writers: list[threading.Thread] = []
        try:
            encoding = self._pool.call(lambda connection: connection.info.parameter_status("server_encoding"))
            if encoding not in ("UTF8", None):  # a proxy in between may not report it
                # Another encoding would accept the schema, and later refuse the first character that it lacks.
                raise SettingsError(
                    f"the database {self._name} has the encoding {encoding}, which lacks most characters: create one with "
                    "`createdb --encoding=UTF8 --template=template0`, and set OPTIO_DATABASE_URL to it"
                )
            if migrated:
                self.migrate()
        except BaseException:
            self._pool.close()
            raise
        for number in range(WRITERS):
            writer = threading.Thread(target=self._write_loop, name=f"store-writer-{number}", daemon=True)
            writer.start()
            self._writers.append(writer)

    # Transactions

    def write(self, operation: Callable[[Transaction], T]) -> Future[T]:
        """Queue an operation; its future resolves after the group commit."""
        return self._queue.put(operation, deadline.call_limit(self._patience))

    def change(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation in a durable transaction, on the caller's thread."""
        results: list[T] = self._pool.call(lambda connection: self._commit(connection, lambda tx: run_batch(tx, [operation])))
        return results[0]

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run a reading operation on one snapshot (REPEATABLE READ, read only)."""

        def snapshot(connection: Connection) -> T:
            tx = self._begin(connection, _SNAPSHOT)
            result = operation(tx)
            _end(connection)
            return result

        return self._pool.call(snapshot)

    def peek(self, operation: Callable[[Transaction], T]) -> T:
        """Run a reading operation of one statement, without a transaction."""
        return self._pool.call(lambda connection: operation(_PostgresTransaction(connection, lambda: self._now(connection))))

    def _begin(self, connection: Connection, begin: str) -> _PostgresTransaction:
        cursor = connection.execute(begin.encode())
        while cursor.nextset():
            pass
        now = _only(cursor)["now"]
        return _PostgresTransaction(connection, lambda: now if self._clock is None else int(self._clock() * 1_000_000))

    def _now(self, connection: Connection) -> int:
        if self._clock is not None:
            return int(self._clock() * 1_000_000)
        return int(_only(connection.execute(_NOW.encode()))["now"])

    def _commit(self, connection: Connection, operation: Callable[[Transaction], T], begin: str = _BEGIN) -> T:
        value = operation(self._begin(connection, begin))
        try:
            outcome = _end(connection)
        except psycopg.Error as err:
            if not errors.is_lost(connection, err):
                raise
            # Committed or not, nobody knows; a client that repeats the request with the same key gets the one answer.
            raise CommitUnknown(f"the database {self._name} went away during a commit: {errors.error_line(err)}") from err
        if outcome != "COMMIT":
            raise RuntimeError(f"the transaction ended with {outcome}: an operation went on after an error")
        return value

    # Writers

    def _write_loop(self) -> None:
        for batch in self._queue.batches():
            self._write_batch(batch)

    def _write_batch(self, batch: list[QueuedWrite], begin: str = _BEGIN) -> None:
        now = time.monotonic()
        for item in batch:
            if item.limit <= now:
                message = f"the database {self._name} is too slow: this waited in vain"
                item.future.set_exception(StoreUnavailable(message, temporary=True))
        batch = [item for item in batch if item.limit > now]
        if not batch:
            return
        operations = [item.operation for item in batch]
        done = False

        def all_of_them(tx: Transaction) -> list[Any]:
            nonlocal done
            done = False
            values = run_batch(tx, operations)
            done = True
            return values

        try:
            limit = min(item.limit for item in batch)
            values = self._pool.call(lambda connection: self._commit(connection, all_of_them, begin), limit=limit)
        except BaseException as err:
            if is_divisible(batch) and not done and not _concerns_all(err):
                # One operation failed: run each by itself, so that the others succeed.
                for item in split_batch(batch):
                    self._write_batch([item], _BEGIN_SHORT_LOCK)
            else:
                for item in batch:
                    item.future.set_exception(err)
            return
        for item, value in zip(batch, values, strict=True):
            item.future.set_result(value)

    # Housekeeping

    def check(self) -> None:
        """Raise StoreUnavailable or StoreMismatch unless the database can be written and has this version's schema."""
        schema_state, writable = self._pool.call(lambda connection: (state(connection), _writable(connection)))
        pending(schema_state, migrations())  # a schema that is too new comes first
        if not writable:
            raise StoreUnavailable(errors.read_only_message(self._name), temporary=True)
        require_current(self._name, schema_state)

    def migrate(self, tell: Callable[[Migration], object] = lambda step: None) -> list[int]:
        """Apply the pending migrations one by one, calling `tell` before each, and return their versions; raise
        StoreUnavailable and StoreMismatch."""
        applied: list[int] = []
        tries = 0
        while pending(self._pool.call(state), migrations()):
            try:
                applied += self._pool.call(
                    lambda connection: self._step(connection, tell), limit=time.monotonic() + _MIGRATION_S
                )
            except StoreUnavailable as err:
                # A waiting table lock blocks every other transaction, so it waits briefly and often.
                tries += 1
                if tries == _LOCK_TRIES or not isinstance(err.__cause__, psycopg.errors.LockNotAvailable):
                    raise
                log.warning("the schema waits for other transactions: %s", err)
                time.sleep(_LOCK_PAUSE_S)
        return applied

    def _step(self, connection: Connection, tell: Callable[[Migration], object]) -> list[int]:
        tx = self._begin(connection, _MIGRATE)
        tx.lock("schema")
        # Another process may have migrated meanwhile.
        steps = pending(state(connection), migrations())[:1]
        for step in steps:
            tell(step)
            tx.run("SET LOCAL lock_timeout = 2000")
            connection.execute(schema.TABLE.encode())
            for statement in schema.statements(step.script, "postgres"):
                connection.execute(_dialect(statement).encode())
            tx.run(
                "INSERT INTO schema_migrations SELECT :version, GREATEST(:oldest, COALESCE(MAX(oldest), 0)), :now "
                "FROM schema_migrations",
                {"version": step.version, "oldest": step.oldest, "now": tx.now},
            )
        _end(connection)
        return [step.version for step in steps]

    def close(self) -> None:
        """Finish the queued writes, then close all connections."""
        if not self._queue.close():
            return
        for writer in self._writers:
            writer.join()
        self._pool.close()


def _concerns_all(err: BaseException) -> bool:
    """Return whether an error means that the database is unavailable, rather than that one operation failed."""
    cause = err.__cause__
    is_of_one_statement = (
        isinstance(cause, psycopg.Error) and cause.sqlstate is not None and not errors.has_ended_session(cause)
    )
    return isinstance(err, StoreUnavailable) and not is_of_one_statement


def state(connection: Connection) -> SchemaState:
    """Return the state of the database's schema."""
    # Through the catalog: the session caches table names, and would not see a table that another has just created.
    table = connection.execute("SELECT 1 FROM pg_class WHERE oid = to_regclass('schema_migrations')").fetchone()
    if table is None:
        return SchemaState(0, 0)
    row = _only(
        connection.execute(
            "SELECT COALESCE(MAX(version), 0) AS version, COALESCE(MAX(oldest), 0) AS oldest FROM schema_migrations"
        )
    )
    return SchemaState(row["version"], row["oldest"])


def _end(connection: Connection) -> str | None:
    """Commit and return the server's answer. It is sent as a plain statement: there is no plan to keep."""
    return connection.execute("COMMIT", prepare=False).statusmessage


def _writable(connection: Connection) -> bool:
    return bool(_only(connection.execute("SELECT current_setting('transaction_read_only') = 'off' AS it"))["it"])


def _only(cursor: psycopg.Cursor[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a statement that always gives one."""
    row = cursor.fetchone()
    if row is None:
        raise psycopg.OperationalError("the server gave no row")
    return row


def _with_bulk_rows(sql: str, lot: BulkRows) -> str:
    # Without the limit the planner takes it for a hundred rows, and reads whole tables for three. By powers of four: few plans.
    return _bulk_source(sql, lot.columns, 4 ** math.ceil(math.log(max(1, len(lot.rows)), 4)))


def _bulk_parameters(lot: BulkRows) -> dict[str, Any]:
    return {"lot": lot.text, "blob": lot.blob}


@lru_cache(512)
def _bulk_source(sql: str, columns: str, limit: int) -> str:
    columns_and_kinds = [column.split() for column in columns.split(",")]
    json_columns = ", ".join(f"{name} json" if kind == BYTES else f"{name} {kind}" for name, kind in columns_and_kinds)
    picked = ", ".join(_BYTES_OF.format(name=name) if kind == BYTES else name for name, kind in columns_and_kinds)
    source = f"SELECT {picked} FROM json_to_recordset(CAST(:lot AS json)) AS given ({json_columns}) LIMIT {limit}"  # noqa: S608 - all ours
    return sql.replace("FROM lot", f"FROM ({source}) AS lot")


@lru_cache(512)
def _to_psycopg(sql: str) -> bytes:
    """Return a statement with its named parameters in psycopg's form."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%")).encode()


def _dialect(statement: str) -> str:
    """Return a migration's statement in PostgreSQL's dialect: migrations are written in SQLite's."""
    statement = statement.replace("INTEGER PRIMARY KEY", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
    return re.sub(r"\bBLOB\b", "BYTEA", statement).replace(") WITHOUT ROWID", ")")
