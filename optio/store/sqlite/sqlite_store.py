"""SQLite: the embedded driver. One writer thread gathers queued operations into durable group commits; readers never block it.

WAL with `synchronous=FULL`: a commit that returned survives power loss. Every writing transaction is `BEGIN IMMEDIATE`, so
several processes on one file queue up instead of failing.

Disk faults: before and after each commit the files must be those that were opened (`files`), a damaged log is not opened
(`wal`), and while the disk is full only the writes that let runs end are accepted (`disk_reserve`).
"""

import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from optio import private_files
from optio.errors import CommitUnknown, Conflict, Invalid, StoreFull, StoreMismatch, StoreUnavailable
from optio.store.sql import schema
from optio.store.sql.bulk import run_batch
from optio.store.sql.group_commit import DiskUse, QueuedWrite, WriteQueue, disk_use, is_divisible, split_batch
from optio.store.sql.schema import Migration, SchemaState, migrations, pending, require_current
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import BulkRows, Transaction, TransactionCounts, column_names
from optio.store.sqlite.disk_reserve import STEPS, DiskReserve
from optio.store.sqlite.files import DatabaseFiles, FileState
from optio.store.sqlite.mounts import shared_mount_type
from optio.store.sqlite.wal import WalReport, inspect_wal

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_COMMIT_OPERATIONS = 256
BUSY_TIMEOUT_S = 5.0
# The connections that stay open between reads, each with its page cache; further ones are opened and closed as needed.
MAX_IDLE_READERS = 8
# A log that outgrows this is written back and truncated, by force if the usual checkpoint does not get through.
MAX_WAL_BYTES = 16 << 20
# The log holds a quarter of the reserve at most, in pages of 4 KiB: on a full disk the database grows for it by less than half.
_WAL_PART = 4
# Errors that a full disk may cause: the shared memory and a flush report no better code.
_MAY_BE_FULL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_NO_ROOM_BYTES = 256 << 10
# Writers examine the files for each commit, readers only this often, since reads promise nothing durable.
_READERS_CHECK_S = 0.05
# The number of times that this process has each database open.
_OPEN: Counter[Path] = Counter()
_LOCK = threading.Lock()

_CURES = {
    sqlite3.SQLITE_BUSY: "another process has locked it: stop that process, or wait for it",
    sqlite3.SQLITE_READONLY: "let this user write to the file and to its directory",
    sqlite3.SQLITE_CANTOPEN: "its directory must exist, and this user must be able to write there",
    sqlite3.SQLITE_FULL: "free some space on its disk",
    sqlite3.SQLITE_CORRUPT: "restore a backup, or move the file away to start with an empty database",
    sqlite3.SQLITE_NOTADB: "restore a backup, or move the file away to start with an empty database",
}
_DUPLICATE_CODES = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)


def open_store(
    path: Path, *, clock: Callable[[], float] = time.time, busy: float = BUSY_TIMEOUT_S, migrated: bool = True, reserve: int = 0
) -> SqlStore:
    """Open a store on this file, migrated to this version if `migrated`; raise StoreUnavailable and StoreMismatch.

    `clock` gives seconds since 1970; `busy` is how many seconds a commit waits for another process's. `reserve` is the number
    of bytes of the disk that are held for the time when it is full.
    """
    return SqlStore(SqliteEngine(path, clock=clock, busy=busy, migrated=migrated, reserve=reserve))


class _SqliteTransaction:
    """An open transaction on one connection."""

    lateral = False
    stripe = 0  # there is one writer
    matches = "CAST({column} AS TEXT) LIKE CAST({pattern} AS TEXT) ESCAPE '!'"

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._execute = connection.execute
        self.connection = connection
        self.now = now
        self.counts = TransactionCounts()

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Any:
        return self._execute(sql, params or ()).fetchone()

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        return self._execute(sql, params or ()).fetchall()

    hold, hold_free = one, all  # `BEGIN IMMEDIATE` holds every row

    def hold_all(self, sql: str, params: Mapping[str, Any] | None = None, lot: BulkRows | None = None) -> list[Any]:
        if lot is None:
            return self.all(sql, params)
        sql = _with_bulk_rows(sql, lot.columns)
        return [held_row for row in lot.rows for held_row in self.all(sql, {**row, **(params or {})})]

    def run(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        return self._execute(sql, params or ()).rowcount

    def many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> int:
        return self.connection.executemany(sql, params).rowcount if params else 0

    def lot(self, sql: str, columns: str, rows: Sequence[Mapping[str, Any]]) -> int:
        return self.bulk_run(sql, BulkRows(columns, rows))

    def bulk_run(self, sql: str, lot: BulkRows, params: Mapping[str, Any] | None = None) -> int:
        # One by one: there are no round trips to save here.
        rows = lot.rows if params is None else [{**row, **params} for row in lot.rows]
        return self.many(_with_bulk_rows(sql, lot.columns), rows)

    def end(self) -> None:
        """End a reading transaction."""
        if self.connection.in_transaction:
            self._execute("COMMIT")

    def lock(self, name: str) -> None:
        """Do nothing: `BEGIN IMMEDIATE` holds the one write lock."""


class SqliteEngine:
    """The engine over one SQLite file. Several processes may open it at once."""

    # A reader of a WAL file waits for no writer, and for no checkpoint.
    local = True

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        busy: float = BUSY_TIMEOUT_S,
        migrated: bool = True,
        reserve: int = 0,
    ) -> None:
        self._path = path
        self._files = DatabaseFiles(path)
        self._reserve = DiskReserve(Path(f"{path}-reserve"), reserve)
        self._wal = Path(f"{path}-wal")
        self._wal_limit = MAX_WAL_BYTES
        self._clock = clock
        self._busy = busy
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        # Connections from before a change of this number are closed, not reused: their log was deleted.
        self._round = 0
        self._attached = True
        self._checked_until = 0.0
        with _translate_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            shared = shared_mount_type(path.parent)
            if shared is not None:
                raise StoreUnavailable(
                    f"the database {path} is on a network file system ({shared}), where SQLite loses data: "
                    "point OPTIO_DATA_DIR at a local disk"
                )
            if not _open_here(path):
                self._files.await_others()
                refuse_damage(path)
            self._reserve.make_room()
            _make_private(path)
            self._writer = self._open(migrated)
            with _LOCK:
                _OPEN[path] += 1
            self._reserve.is_low()
        self._queue = WriteQueue(MAX_COMMIT_OPERATIONS)
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._thread.start()

    def _open(self, migrated: bool) -> sqlite3.Connection:
        """Open the writer's connection. The shared memory and the log need room, also on a disk that is full."""
        while True:
            try:
                writer = self._connect()
                try:
                    if migrated:
                        migrate(writer, migrations(), self._now())
                    state(writer)  # from the first read on, all files are there
                    self._files.record()
                except BaseException:
                    writer.close()
                    raise
                return writer
            except sqlite3.Error as err:
                if not self._is_full(err) or not self._reserve.release():
                    raise

    def _is_full(self, err: BaseException) -> bool:
        code = getattr(err, "sqlite_errorcode", 0) & 0xFF
        return code == sqlite3.SQLITE_FULL or (code in _MAY_BE_FULL and self._reserve.free() < _NO_ROOM_BYTES)

    def _connect(self, *, new: bool = True) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path if new else f"{self._path.absolute().as_uri()}?mode=rw",
            uri=not new,
            timeout=self._busy,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.row_factory = sqlite3.Row
            mode = self._journal(connection)
            if mode != "wal":
                raise StoreUnavailable(f"the database {self._path} cannot be used: its file system has no shared memory (WAL)")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute(f"PRAGMA journal_size_limit={MAX_WAL_BYTES}")
            if self._reserve.size:
                connection.execute(f"PRAGMA wal_autocheckpoint={min(1000, max(64, self._reserve.size // _WAL_PART // 4096))}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _journal(self, connection: sqlite3.Connection) -> str:
        """Switch the file to WAL. Of several processes that do so with a new file SQLite itself lets only one wait."""
        limit = time.monotonic() + self._busy
        while True:
            try:
                mode: str = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                return mode
            except sqlite3.OperationalError as err:
                if err.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > limit:
                    raise
                time.sleep(0.01)

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)

    def write(self, operation: Callable[[Transaction], T]) -> Future[T]:
        """Queue an operation; its future resolves after the group commit."""
        return self._queue.put(operation)

    def change(self, operation: Callable[[Transaction], T]) -> T:
        """Queue an operation, and return its result after the commit."""
        return self.write(operation).result()

    def _write_loop(self) -> None:
        for batch in self._queue.batches():
            low = self._reserve.is_low()
            self._commit(self._admit(batch, low=low))
            if not self._attached:
                continue
            if low:
                self._reuse_wal()
            self._bound_wal()

    def _admit(self, batch: list[QueuedWrite], *, low: bool) -> list[QueuedWrite]:
        """Refuse the operations that may not be written while the disk is full; return the others."""
        if not low:
            return batch
        refused_uses = {DiskUse.NOTHING, DiskUse.HALF} if self._reserve.is_half_spent() else {DiskUse.NOTHING}
        for item in batch:
            if disk_use(item) in refused_uses:
                item.future.set_exception(_disk_full(self._path))
        return [item for item in batch if disk_use(item) not in refused_uses]

    def _require_files(self) -> None:
        """Raise StoreUnavailable unless the files are those that were opened. On the writer's thread: a log that was deleted
        alone is still open here, so that what it holds can be saved."""
        files_state = self._files.state()
        if files_state is FileState.INTACT and self._attached:
            return
        self._checked_until = 0.0
        if files_state is FileState.WAL_GONE and self._attached and self._save_wal():
            self._detach()
        if not self._attached and self._files.may_reopen():
            self._writer = self._open(migrated=False)
            self._attached = True
            log.warning(
                "the log of %s was deleted while in use: its contents were saved, and a new log was started", self._path
            )
            return
        if files_state is FileState.REPLACED:
            self._files.set_aside()
        raise StoreUnavailable(self._files.explain(files_state))

    def _save_wal(self) -> bool:
        """Write all that the open log holds into the database file."""
        try:
            return bool(self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        except sqlite3.Error as err:
            log.error("the log of %s was deleted while in use, and could not be saved: %s", self._path, err)
            return False

    def _detach(self) -> None:
        """Close every connection. Another process may still write to the deleted log: a new one begins only when the last has
        closed it, which removes the `-shm` file."""
        with self._lock:
            self._round += 1
            self._attached = False
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()
        self._writer.close()

    def _reuse_wal(self) -> None:
        """Write the log back at once, on a full disk, so that its space is used again before any other. The database may have
        to grow for it by several steps of the reserve: one at a time would each go to the next commit, until none is left."""
        for _ in range(STEPS // 2):
            try:
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
                return
            except sqlite3.Error as err:
                if not self._is_full(err) or not self._reserve.release():
                    return

    def _commit(self, batch: list[QueuedWrite]) -> None:
        if not batch:
            return
        values: list[Any] = []
        is_begun = is_done = False
        try:
            self._require_files()
            connection = self._writer
            connection.execute("BEGIN IMMEDIATE")
            is_begun = True
            transaction = _SqliteTransaction(connection, self._now())
            values = run_batch(transaction, [item.operation for item in batch])
            is_done = True
            connection.execute("COMMIT")
            self._confirm()
        except BaseException as err:
            if self._attached and self._writer.in_transaction:
                with suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
            if self._is_full(err) and self._reserve.release():
                self._commit(self._admit(batch, low=True))
                return
            if is_begun and not is_done and is_divisible(batch):
                # One operation failed: run each by itself, so that the others succeed.
                for item in split_batch(batch):
                    self._commit([item])
                return
            failure = _to_store_error(self._path, err)
            for item in batch:
                item.future.set_exception(failure)
            return
        for item, value in zip(batch, values, strict=True):
            item.future.set_result(value)

    def _confirm(self) -> None:
        """Raise CommitUnknown if the files were replaced during a commit that succeeded for SQLite."""
        if self._files.state() is FileState.INTACT:
            return
        try:
            self._require_files()
        except Exception as err:
            # When `_detach` closed the connection, all that its log held was written to the database file.
            if self._attached:
                raise CommitUnknown(str(err)) from err

    def _bound_wal(self) -> None:
        """Wait once for readers: an unbroken sequence of them keeps SQLite from starting its log anew."""
        try:
            size = self._wal.stat().st_size
        except OSError:
            return
        if size <= MAX_WAL_BYTES:
            self._wal_limit = MAX_WAL_BYTES
        elif size > self._wal_limit:
            connection = self._writer
            try:
                connection.execute("PRAGMA busy_timeout=250")
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                # A reader that stays must not delay every commit.
                self._wal_limit = size + MAX_WAL_BYTES if busy else MAX_WAL_BYTES
            except sqlite3.Error as err:
                log.warning("the database's log could not be truncated: %s", err)
                self._wal_limit = size + MAX_WAL_BYTES
            finally:
                connection.execute(f"PRAGMA busy_timeout={int(self._busy * 1000)}")

    def read(self, operation: Callable[[Transaction], T]) -> T:
        """Run a reading operation on one snapshot."""

        def whole(tx: _SqliteTransaction) -> T:
            tx.run("BEGIN")
            try:
                return operation(tx)
            finally:
                tx.end()

        return self._with_reader(whole)

    def peek(self, operation: Callable[[Transaction], T]) -> T:
        """Run a reading operation of one statement."""
        return self._with_reader(operation)

    def _with_reader(self, operation: Callable[[_SqliteTransaction], T]) -> T:
        """Run an operation on a connection that no other call uses. Connections belong to no thread: threads come and go with
        the runs."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            connection = self._idle.pop() if self._idle else None
            round_number = self._round
        sound = True
        try:
            self._require_same_files()
            if connection is None:
                connection = self._connect(new=False)
                connection.execute("PRAGMA query_only=ON")
                self._checked_until = 0.0
                self._require_same_files()
            return operation(_SqliteTransaction(connection, self._now()))
        except sqlite3.Error as err:
            sound = False
            failure = _to_store_error(self._path, err)
            if failure is err:
                raise
            raise failure from err
        finally:
            if connection is not None:
                self._give_back(connection, sound, round_number)

    def _require_same_files(self) -> None:
        """Raise StoreUnavailable, for a reader, unless the files were those that were opened when last examined, at most 50 ms
        ago."""
        now = time.monotonic()
        if now < self._checked_until:
            return
        files_state = self._files.state()
        if files_state is FileState.INTACT and self._attached:
            self._checked_until = now + _READERS_CHECK_S
            return
        if files_state is FileState.WAL_GONE or not self._attached:
            self.write(_nothing)  # the writer saves what can be saved
        raise StoreUnavailable(self._files.explain(files_state))

    def _give_back(self, connection: sqlite3.Connection, sound: bool, round_number: int) -> None:
        with self._lock:
            if sound and not self._closed and round_number == self._round and len(self._idle) < MAX_IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    def check(self) -> None:
        """Raise StoreUnavailable or StoreMismatch if the database cannot be used; StoreFull while new work is refused."""
        self._checked_until = 0.0
        require_current(str(self._path), self._with_reader(lambda tx: state(tx.connection)))
        if self._reserve.is_low():
            raise _disk_full(self._path)

    def migrate(self, tell: Callable[[Migration], object] = lambda step: None) -> list[int]:
        """Apply the pending migrations one by one, calling `tell` before each, and return their versions; raise
        StoreUnavailable and StoreMismatch."""
        with _translate_errors(self._path):
            return migrate(self._writer, migrations(), self._now(), tell)

    def close(self) -> None:
        """Finish the queued writes, then close all connections."""
        if not self._queue.close():
            return
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        self._thread.join()
        for reader in idle:
            reader.close()
        if self._attached:
            self._writer.close()
        with _LOCK:
            _OPEN[self._path] -= 1


def _open_here(path: Path) -> bool:
    """Return whether this process has the database open. Closing any file descriptor of `-shm` would drop SQLite's locks on
    it."""
    with _LOCK:
        return _OPEN[path] > 0


def refuse_damage(path: Path) -> None:
    """Raise StoreUnavailable where opening `path` would silently drop commits that were accepted."""
    report = read_wal(path)
    if report is not None and report.damaged_at is not None:
        raise StoreUnavailable(explain_damage(path, report))
    if report is not None and report.good and (not path.exists() or path.stat().st_size == 0):
        raise StoreUnavailable(
            f"the database {path} is empty or gone, and {path}-wal still holds {report.good} pages of it: put the database "
            "back, or move that file away to start with an empty one"
        )


def explain_damage(path: Path, report: WalReport) -> str:
    """Return what is damaged, what may be lost, and what a person should do."""
    place = "its header" if report.damaged_at == 0 else f"frame {report.damaged_at} of {report.frames}"
    return (
        f"the log {path}-wal is damaged ({place}): {report.lost_commits} commits with {report.lost_pages} pages would be lost, "
        "and with them what was accepted last. Nothing was changed. Run `optio db recover` to keep a copy of the log and go on "
        "without them, or restore a backup"
    )


def read_wal(path: Path) -> WalReport | None:
    """Inspect the log beside `path`; None if there is none. Nothing is changed, and other processes may write to it."""
    before: bytes | None = None
    while True:
        try:
            # In this order, so that the log read later holds all that the shared memory names.
            shm = Path(f"{path}-shm").read_bytes() if Path(f"{path}-shm").exists() else b""
            wal = Path(f"{path}-wal").read_bytes()
        except FileNotFoundError:
            return None
        report = inspect_wal(wal, shm)
        # A log that another process writes meanwhile may look damaged.
        if report.damaged_at is None or wal == before:
            return report
        before = wal
        time.sleep(0.05)


def _nothing(tx: Transaction) -> None:
    """Do nothing; queued to make the writer examine the files."""


def _disk_full(path: Path) -> StoreFull:
    return StoreFull(f"the disk of {path} is full: new runs are refused until there is space, running ones go on")


@lru_cache(256)
def _with_bulk_rows(sql: str, columns: str) -> str:
    names = ", ".join(f":{name} AS {name}" for name in column_names(columns))
    return sql.replace("FROM lot", f"FROM (SELECT {names}) AS lot")


def _make_private(path: Path) -> None:
    """Make the file readable for this user alone, and remove the rights of others from an existing one, whatever umask and
    directory allow. SQLite gives the mode of the file to the `-wal`, `-shm` and `-journal` that it makes beside it."""
    real = os.path.realpath(path)
    with suppress(OSError):  # opening the database will report the error
        private_files.create(Path(real))
    wide = [name for end in ("", "-wal", "-shm", "-journal") if not private_files.narrow(Path(name := real + end))]
    if wide:
        log.warning("other users may read or write %s: let their owner run `chmod 600` on them", ", ".join(wide))


def state(connection: sqlite3.Connection) -> SchemaState:
    """Return the state of a file's schema. `user_version` holds the oldest version that may use it: versions from before the
    table of migrations read that alone."""
    oldest = connection.execute("PRAGMA user_version").fetchone()[0]
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").fetchone() is None:
        return SchemaState(version=oldest, oldest=oldest)
    version = connection.execute("SELECT MAX(version) FROM schema_migrations").fetchone()[0] or 0
    return SchemaState(version, oldest)


def migrate(
    connection: sqlite3.Connection,
    all_migrations: tuple[Migration, ...],
    now: int,
    tell: Callable[[Migration], object] = lambda step: None,
) -> list[int]:
    """Apply every pending migration, each in its own transaction, and return their versions; raise StoreMismatch."""
    applied: list[int] = []
    while pending(state(connection), all_migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated meanwhile.
            for step in pending(state(connection), all_migrations)[:1]:
                tell(step)
                connection.execute(schema.TABLE)
                for statement in schema.statements(step.script, "sqlite"):
                    connection.execute(statement)
                oldest = max(step.oldest, connection.execute("PRAGMA user_version").fetchone()[0])
                connection.execute("INSERT INTO schema_migrations VALUES (?, ?, ?)", (step.version, oldest, now))
                connection.execute(f"PRAGMA user_version = {oldest}")
                applied.append(step.version)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return applied


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as Optio's; none of them leaves this module."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeEncodeError) as err:
        failure = _to_store_error(path, err)
        if failure is err:
            raise
        raise failure from err


def _to_store_error(path: Path, err: BaseException) -> BaseException:
    failure: BaseException
    if isinstance(err, UnicodeEncodeError):
        failure = Invalid("the text contains a lone surrogate, which is not a character")
    elif isinstance(err, sqlite3.DataError):
        failure = Invalid(f"a value is too large to be stored: {err}")
    elif isinstance(err, sqlite3.IntegrityError) and err.sqlite_errorcode in _DUPLICATE_CODES:
        failure = Conflict("something with this id exists already")
    elif isinstance(err, sqlite3.IntegrityError | sqlite3.InterfaceError | sqlite3.ProgrammingError):
        return err  # a bug in Optio
    elif isinstance(err, sqlite3.OperationalError) and str(err).startswith(("no such table", "no such column")):
        failure = StoreMismatch(f"the database {path} lacks tables of this version: run `optio db migrate`")
    elif isinstance(err, sqlite3.Error):
        code = getattr(err, "sqlite_errorcode", 0) & 0xFF
        cure = f" ({_CURES[code]})" if code in _CURES else ""
        kind = StoreFull if code == sqlite3.SQLITE_FULL else StoreUnavailable
        failure = kind(f"the database {path} cannot be used: {err}{cure}")
    elif isinstance(err, OSError):
        failure = StoreUnavailable(f"the database {path} cannot be used: {err.strerror or err}")
    else:
        return err
    failure.__cause__ = err
    return failure
