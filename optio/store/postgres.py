"""PostgreSQL: the driver for many machines. Writers gather what waits into one commit; everyone else takes a connection.

Every call ends within its time, whatever the server or the network does: statements and locks have limits on the server,
and a watchdog cuts the connection of a call that the server does not answer at all. READ COMMITTED, with a row lock or an
advisory lock wherever an operation decides on what it has read; a snapshot for reading operations of several statements.
"""

import contextlib
import logging
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, errors
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from optio.errors import Conflict, Invalid, StoreMismatch, StoreUnavailable
from optio.store.sql import schema
from optio.store.sql.batch import perform
from optio.store.sql.schema import SchemaState, migrations, pending
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import Transaction

log = logging.getLogger(__name__)
T = TypeVar("T")
Connection = psycopg.Connection[dict[str, Any]]

MOST_IN_A_COMMIT = 64
WRITERS = 2
# Connections that calls use beside the writers' own; who finds none free waits.
MOST_CONNECTIONS = 8
# A call ends after this many seconds, whatever happens; the server gives a statement and a lock a little less.
PATIENCE = 5.0
_STATEMENT_MS = 4_500
_LOCK_MS = 3_000
_CONNECT_S = 2
# After a failure to connect nobody tries again for this long: those who wait are answered at once.
_PAUSE = 0.25
# Deadlocks and serialisation failures are nobody's fault: the operation is done again.
_TRIES = 4
_LOCKS = {"admission": 0x6F7074696F01, "registry": 0x6F7074696F02, "schema": 0x6F7074696F03}

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now"
_BEGIN = f"BEGIN; {_NOW}"
_SNAPSHOT = _BEGIN.replace("BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


def open_store(
    url: str, *, clock: Callable[[], float] | None = None, patience: float = PATIENCE, migrated: bool = True
) -> SqlStore:
    """A store in this database, migrated to this version if that is wanted; raises StoreUnavailable and StoreMismatch.

    `clock` gives seconds since 1970 in place of the server's own clock.
    """
    return SqlStore(PostgresEngine(url, clock=clock, patience=patience, migrated=migrated))


class _Transaction:
    """An open transaction on one connection, or a single statement."""

    lateral = True

    def __init__(self, connection: Connection, now: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = now
        self._now: int | None = None

    @property
    def now(self) -> int:
        """Microseconds since 1970, by the server's clock; it stands still for as long as this transaction lasts."""
        if self._now is None:
            self._now = self._clock()
        return self._now

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._connection.execute(_translated(sql), params).fetchone()

    def hold(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._connection.execute(_translated(sql) + b" FOR UPDATE", params).fetchone()

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        return self._connection.execute(_translated(sql), params).fetchall()

    def run(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        return self._connection.execute(_translated(sql), params).rowcount

    def many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> int:
        if not params:
            return 0
        with self._connection.cursor() as cursor:
            cursor.executemany(_translated(sql), params)
            return cursor.rowcount

    def lock(self, name: str) -> None:
        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCKS[name],))


_Item = tuple[Callable[[Transaction], Any], Future[Any]]


class PostgresEngine:
    """Transactions in one database."""

    def __init__(
        self, url: str, *, clock: Callable[[], float] | None = None, patience: float = PATIENCE, migrated: bool = True
    ) -> None:
        self._conninfo = _conninfo(url)
        self._name = _shown(url)
        self._clock = clock
        self._patience = patience
        self._lock = threading.Lock()
        self._closing = self._closed = False
        self._idle: list[Connection] = []
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._refused = 0.0
        self._watchdog = _Watchdog(patience)
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._writers: list[threading.Thread] = []
        try:
            if migrated:
                self.migrate()
            else:
                self._connected(lambda connection: None)
        except BaseException:
            self._watchdog.close()
            raise
        for number in range(WRITERS):
            writer = threading.Thread(target=self._write_loop, name=f"store-writer-{number}", daemon=True)
            writer.start()
            self._writers.append(writer)

    # Transactions

    def write(self, operation: Callable[[Transaction], T]) -> Future[T]:
        """Queue an operation; its future resolves after the commit."""
        future: Future[T] = Future()
        # What is queued will be done: whoever waits may go, but cannot take it back half-way.
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._closing:
                future.set_exception(StoreUnavailable("the store is closed"))
            else:
                self._queue.put((operation, future))
        return future

    def change(self, operation: Callable[[Transaction], T]) -> T:
        """One durable transaction, on the caller's thread."""
        return self._connected(lambda connection: self._commit(connection, operation))

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run a reading operation on one snapshot."""

        def snapshot(connection: Connection) -> T:
            tx = self._begin(connection, _SNAPSHOT)
            found = operation(tx)
            connection.execute("COMMIT")
            return found

        return self._connected(snapshot)

    def peek(self, operation: Callable[[Transaction], T]) -> T:
        """Run a reading operation of one statement."""
        return self._connected(lambda connection: operation(_Transaction(connection, lambda: self._now(connection))))

    def _begin(self, connection: Connection, begin: str) -> _Transaction:
        cursor = connection.execute(begin.encode())
        cursor.nextset()
        now = _only(cursor)["now"]
        return _Transaction(connection, lambda: now if self._clock is None else int(self._clock() * 1_000_000))

    def _now(self, connection: Connection) -> int:
        if self._clock is not None:
            return int(self._clock() * 1_000_000)
        return int(_only(connection.execute(_NOW.encode()))["now"])

    def _commit(self, connection: Connection, operation: Callable[[Transaction], T]) -> T:
        value = operation(self._begin(connection, _BEGIN))
        try:
            connection.execute("COMMIT")
        except psycopg.OperationalError as err:
            # Kept or not, nobody knows; whoever asks again with the same key gets the one answer.
            raise StoreUnavailable(f"the database {self._name} went away during a commit: {_words(err)}") from err
        return value

    # Writers

    def _write_loop(self) -> None:
        while True:
            batch: list[_Item] = []
            item = self._queue.get()
            # What queued up during the last commit is the next batch: no delay is ever added.
            while item is not None:
                batch.append(item)
                if len(batch) == MOST_IN_A_COMMIT:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._write_batch(batch)
            if item is None:
                self._queue.put(None)  # for the other writers
                return

    def _write_batch(self, batch: list[_Item]) -> None:
        done = False

        def all_of_them(tx: Transaction) -> list[Any]:
            nonlocal done
            values = perform(tx, [operation for operation, _ in batch])
            done = True
            return values

        try:
            values = self._connected(lambda connection: self._commit(connection, all_of_them))
        except StoreUnavailable as err:
            self._fail(batch, err)
            return
        except BaseException as err:
            if not done and len(batch) > 1:
                # One operation failed: each by itself, so that it harms no other.
                for item in batch:
                    self._write_batch([item])
            else:
                self._fail(batch, err)
            return
        for (_, future), value in zip(batch, values, strict=True):
            future.set_result(value)

    def _fail(self, batch: list[_Item], err: BaseException) -> None:
        for _, future in batch:
            future.set_exception(err)
        if isinstance(err, StoreUnavailable):
            # Those who queued up meanwhile have waited as long as anybody should.
            with contextlib.suppress(queue.Empty):
                for _ in range(self._queue.qsize()):
                    item = self._queue.get_nowait()
                    if item is None:
                        self._queue.put(None)
                        return
                    item[1].set_exception(err)

    # Connections

    def _connected(self, action: Callable[[Connection], T]) -> T:
        """Run it on a connection that nobody else uses; the driver's errors in our words."""
        limit = time.monotonic() + self._patience
        if not self._free.acquire(timeout=self._patience):
            raise StoreUnavailable(f"the database {self._name} is too slow: all {MOST_CONNECTIONS} connections are in use")
        try:
            for attempt in range(_TRIES):
                connection, fresh = self._take()
                sound = False
                try:
                    with self._watchdog.watching(connection, limit):
                        found = action(connection)
                    sound = True
                    return found
                except psycopg.OperationalError as err:
                    again = isinstance(err, errors.DeadlockDetected | errors.SerializationFailure)
                    stale = connection.closed and not fresh  # the server was restarted since it was used last
                    if not (again or stale) or attempt == _TRIES - 1 or time.monotonic() >= limit:
                        raise self._in_our_words(err) from err
                    if stale:
                        self._forget_idle()
                except psycopg.Error as err:
                    made = self._in_our_words(err)
                    if made is err:
                        raise
                    raise made from err
                except UnicodeEncodeError as err:
                    raise Invalid("the text holds half of a surrogate pair, which is no character") from err
                finally:
                    self._give_back(connection, sound)
            raise AssertionError("not reached")
        finally:
            self._free.release()

    def _take(self) -> tuple[Connection, bool]:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._idle:
                return self._idle.pop(), False
            if time.monotonic() < self._refused + _PAUSE:
                raise StoreUnavailable(f"the database {self._name} cannot be reached")
        try:
            connection: Connection = psycopg.connect(self._conninfo, autocommit=True, row_factory=dict_row)
        except psycopg.OperationalError as err:
            self._refused = time.monotonic()
            raise self._in_our_words(err) from err
        return connection, True

    def _give_back(self, connection: Connection, sound: bool) -> None:
        if not sound and not connection.closed:
            # An operation that raised has changed nothing.
            with contextlib.suppress(psycopg.Error), self._watchdog.watching(connection, time.monotonic() + 1):
                if connection.info.transaction_status != TransactionStatus.IDLE:
                    connection.execute("ROLLBACK")
                sound = True
        if sound and not connection.closed:
            with self._lock:
                if not self._closed:
                    self._idle.append(connection)
                    return
        with contextlib.suppress(psycopg.Error):
            connection.close()

    def _forget_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    # House-keeping

    def check(self) -> None:
        """Raises StoreUnavailable or StoreMismatch."""
        left = pending(self._connected(_state), migrations())
        if left:
            raise StoreMismatch(f"the database {self._name} needs {len(left)} migrations: run `optio db migrate`")

    def migrate(self) -> list[int]:
        """Take the steps that are left, and give their numbers; raises StoreUnavailable and StoreMismatch."""
        taken: list[int] = []
        while pending(self._connected(_state), migrations()):
            taken += self._connected(self._step)
        return taken

    def _step(self, connection: Connection) -> list[int]:
        tx = self._begin(connection, _BEGIN)
        tx.lock("schema")
        # Another process may have been first.
        steps = pending(_state(connection), migrations())[:1]
        for step in steps:
            connection.execute(schema.TABLE.encode())
            for statement in schema.statements(step.script):
                connection.execute(_dialect(statement).encode())
            tx.run(
                "INSERT INTO schema_migrations SELECT :version, GREATEST(:oldest, COALESCE(MAX(oldest), 0)), :now "
                "FROM schema_migrations",
                {"version": step.version, "oldest": step.oldest, "now": tx.now},
            )
        connection.execute("COMMIT")
        return [step.version for step in steps]

    def close(self) -> None:
        """Finish what is queued and close."""
        # The lock orders this against `write`: nothing is queued behind the end mark.
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._queue.put(None)
        for writer in self._writers:
            writer.join()
        self._closed = True
        self._forget_idle()
        self._watchdog.close()

    def _in_our_words(self, err: psycopg.Error) -> Exception:
        if isinstance(err, errors.UniqueViolation):
            return Conflict("something with this id exists already")
        if isinstance(err, errors.CharacterNotInRepertoire | psycopg.DataError):
            return Invalid(f"a value cannot be kept: {_words(err)}")
        if isinstance(err, errors.ReadOnlySqlTransaction):
            return StoreUnavailable(f"the database {self._name} is read-only: is it a standby?")
        if isinstance(err, errors.UndefinedTable | errors.UndefinedColumn):
            return StoreMismatch(f"the database {self._name} lacks tables of this version: run `optio db migrate`")
        if isinstance(err, psycopg.OperationalError):
            return StoreUnavailable(f"the database {self._name} cannot be used: {_words(err)}")
        return err  # a mistake of ours


class _Watchdog:
    """Cuts connections whose call takes too long: a silent network never tells the client that nobody is there."""

    def __init__(self, patience: float) -> None:
        self._pause = min(0.25, patience / 4)
        self._lock = threading.Lock()
        self._calls: dict[Connection, float] = {}
        self._closing = threading.Event()
        threading.Thread(target=self._loop, name="store-watchdog", daemon=True).start()

    @contextmanager
    def watching(self, connection: Connection, limit: float) -> Iterator[None]:
        """Until the block ends, or `limit` by the monotonic clock."""
        with self._lock:
            self._calls[connection] = limit
        try:
            yield
        finally:
            with self._lock:
                del self._calls[connection]

    def _loop(self) -> None:
        while not self._closing.wait(self._pause):
            now = time.monotonic()
            # Under the lock: a connection that was given back is somebody else's.
            with self._lock:
                for connection, limit in self._calls.items():
                    if now > limit and not connection.closed:
                        with contextlib.suppress(OSError, psycopg.Error):
                            _cut(connection.fileno())

    def close(self) -> None:
        self._closing.set()


def _cut(descriptor: int) -> None:
    """Shut a connection's socket down: whoever waits for it is told at once. The descriptor stays its owner's."""
    with socket.socket(fileno=os.dup(descriptor)) as other:
        other.shutdown(socket.SHUT_RDWR)


def _state(connection: Connection) -> SchemaState:
    if _only(connection.execute("SELECT to_regclass('schema_migrations') AS found"))["found"] is None:
        return SchemaState(0, 0)
    row = _only(
        connection.execute(
            "SELECT COALESCE(MAX(version), 0) AS version, COALESCE(MAX(oldest), 0) AS oldest FROM schema_migrations"
        )
    )
    return SchemaState(row["version"], row["oldest"])


def _only(cursor: psycopg.Cursor[dict[str, Any]]) -> dict[str, Any]:
    """The row of a statement that gives one always."""
    row = cursor.fetchone()
    if row is None:
        raise psycopg.OperationalError("the server gave no row")
    return row


@lru_cache(512)
def _translated(sql: str) -> bytes:
    """Named parameters the way this driver writes them."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%")).encode()


def _dialect(statement: str) -> str:
    """What the migrations write in SQLite's words."""
    statement = statement.replace("INTEGER PRIMARY KEY", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
    return re.sub(r"\bBLOB\b", "BYTEA", statement).replace(") WITHOUT ROWID", ")")


def _conninfo(url: str) -> str:
    """The user's URL with our limits; what the URL says itself wins. Raises StoreUnavailable for one that is none."""
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as err:
        raise StoreUnavailable(f"the database's URL cannot be read: {_words(err)}") from err
    limits = (
        f"-c statement_timeout={_STATEMENT_MS} -c lock_timeout={_LOCK_MS} -c idle_in_transaction_session_timeout=10000 "
        "-c client_min_messages=warning -c timezone=UTC"
    )
    ours: dict[str, Any] = {
        "application_name": "optio", "connect_timeout": _CONNECT_S, "keepalives_idle": 10, "keepalives_interval": 5,
        "keepalives_count": 2, "tcp_user_timeout": 8000,
    }  # fmt: skip
    options = f"{limits} {given.get('options', '')}".strip()
    return conninfo.make_conninfo("", **{**ours, **given, "options": options})


def _shown(url: str) -> str:
    """Which database it is, without a password."""
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "PostgreSQL"
    return f"{given.get('dbname') or 'PostgreSQL'} on {given.get('host') or 'this machine'}:{given.get('port') or 5432}"


def _words(err: psycopg.Error) -> str:
    text = (err.diag.message_primary or str(err)).strip()
    return text.splitlines()[0] if text else type(err).__name__
