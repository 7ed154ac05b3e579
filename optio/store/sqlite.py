"""SQLite: the embedded driver. One writer thread gathers what waits into one durable commit; readers never block it.

WAL with `synchronous=FULL`: a commit that returned survives power loss. Every writing transaction is `BEGIN IMMEDIATE`, so
several processes on one file queue up instead of failing.
"""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from optio.errors import StoreMismatch, StoreUnavailable
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import Transaction

T = TypeVar("T")
MOST_IN_A_COMMIT = 64
BUSY_SECONDS = 5.0


def open_store(path: Path, *, clock: Callable[[], float] = time.time) -> SqlStore:
    """A store on this file, migrated to this version; raises StoreUnavailable and StoreMismatch."""
    return SqlStore(SqliteEngine(path, clock=clock))


class _Transaction:
    """An open transaction on one connection."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self.now = now

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._connection.execute(sql, params or {}).fetchone()

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        return self._connection.execute(sql, params or {}).fetchall()

    def run(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        return self._connection.execute(sql, params or {}).rowcount

    def many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> None:
        self._connection.executemany(sql, params)

    def lock(self, name: str) -> None:
        """Nothing to do: `BEGIN IMMEDIATE` holds the one write lock."""


class SqliteEngine:
    """Transactions on one file."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            migrate(self._writer)
        self._queue: queue.SimpleQueue[tuple[Callable[[Transaction], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)

    def write(self, operation: Callable[[Transaction], T]) -> Future[T]:
        """Queue an operation; its future resolves after the commit."""
        future: Future[T] = Future()
        # The lock orders this against `close`: nothing is queued behind the end mark.
        with self._lock:
            if self._closed:
                future.set_exception(StoreUnavailable("the store is closed"))
            else:
                self._queue.put((operation, future))
        return future

    def _write_loop(self) -> None:
        while True:
            batch = []
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
                self._commit(batch)
            if item is None:
                return

    def _commit(self, batch: list[tuple[Callable[[Transaction], Any], Future[Any]]]) -> None:
        connection = self._writer
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with _translated(self._path):
                connection.execute("BEGIN IMMEDIATE")
                transaction = _Transaction(connection, self._now())
                for operation, future in batch:
                    results.append((future, *_one(connection, transaction, operation)))
                connection.execute("COMMIT")
        except BaseException as err:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for _, future in batch:
                future.set_exception(err)
            return
        for future, value, failure in results:
            if failure is None:
                future.set_result(value)
            else:
                future.set_exception(failure)

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run a reading operation on this thread's own connection."""
        with _translated(self._path):
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
                connection.execute("PRAGMA query_only=ON")
                with self._lock:
                    self._readers.append(connection)
            connection.execute("BEGIN")
            try:
                return operation(_Transaction(connection, self._now()))
            finally:
                connection.execute("COMMIT")

    def check(self) -> None:
        """Raises StoreUnavailable or StoreMismatch."""
        version = self.read(lambda tx: tx.one("PRAGMA user_version")[0])
        if version != len(migrations()):
            raise StoreMismatch(f"the database has schema version {version}, this Optio has {len(migrations())}")

    def close(self) -> None:
        """Finish what is queued and close."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._writer.close()
        for reader in self._readers:
            reader.close()


def _one(
    connection: sqlite3.Connection, transaction: _Transaction, operation: Callable[[Transaction], Any]
) -> tuple[Any, BaseException | None]:
    """One operation of a batch, undone by itself when it raises."""
    connection.execute("SAVEPOINT one")
    try:
        value = operation(transaction)
    except sqlite3.OperationalError:
        raise  # the disk or the lock: nothing of this batch can be trusted
    except Exception as err:
        connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
        return None, err
    connection.execute("RELEASE one")
    return value, None


def migrations() -> list[str]:
    """The numbered migrations, in order."""
    folder = resources.files("optio.store") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(folder / name).read_text(encoding="utf-8") for name in names]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to this version in one transaction; raises StoreMismatch when it is newer."""
    scripts = migrations()
    if connection.execute("PRAGMA user_version").fetchone()[0] == len(scripts):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(scripts):
            raise StoreMismatch(
                f"the database has schema version {version}, this Optio knows {len(scripts)}: install the newer Optio, "
                "or point OPTIO_DATA_DIR at another directory"
            )
        for script in scripts[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(scripts)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    buffer = ""
    for line in script.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            yield buffer
            buffer = ""


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """The driver's errors in our words; none of them leaves this module."""
    try:
        yield
    except sqlite3.OperationalError as err:
        raise StoreUnavailable(f"the database {path} cannot be used: {err}") from err
    except sqlite3.DatabaseError as err:
        if isinstance(err, sqlite3.IntegrityError):
            raise
        raise StoreUnavailable(f"the database {path} cannot be used: {err}") from err
    except OSError as err:
        raise StoreUnavailable(f"the database {path} cannot be used: {err.strerror or err}") from err
