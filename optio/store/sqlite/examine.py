"""Checks, backup and recovery of an SQLite database, for `optio doctor` and `optio db`.

A check changes nothing, and the database need not exist yet. Only `recover` opens a damaged log: SQLite would drop what it
holds when the file is closed.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from optio.errors import SettingsError, StoreUnavailable
from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult
from optio.store.sql.schema import check_state
from optio.store.sqlite.mounts import shared_mount_type
from optio.store.sqlite.sqlite_store import read_wal, refuse_damage, state
from optio.store.sqlite.wal import Salvage, WalReport, salvage_wal

_MIN_SQLITE_VERSION = (3, 35)
_LOW_SPACE_BYTES = 100 << 20
_MIN_FREE_BYTES = 1 << 20
_BUSY_S = 2.0
# The bytes that each process with an open database has locked, for reading: see "File Locking" in SQLite's documentation.
_SHARED_FIRST, _SHARED_BYTES = 0x40000002, 510


def examine(path: Path, *, thorough: bool) -> Iterator[ProbeResult]:
    """Yield one result for each check; `thorough` reads the whole file."""
    library = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < _MIN_SQLITE_VERSION:
        yield ProbeResult("database", ERROR, library, "Optio needs SQLite 3.35 or newer (RETURNING)")
        return
    existing = next(directory for directory in (path.absolute().parent, *path.absolute().parents) if directory.exists())
    shared = shared_mount_type(existing)
    if shared is not None:
        hint = "SQLite loses data there: move it with OPTIO_DATA_DIR, or use PostgreSQL"
        yield ProbeResult("database", ERROR, f"{path} lies on a network file system ({shared})", hint)
    try:
        refuse_damage(path)
    except StoreUnavailable as err:
        yield ProbeResult("log", ERROR, str(err), "`optio db recover`, or restore a backup", "optio db recover")
        return
    if not path.exists():
        yield ProbeResult("database", OK, f"{library}, {path} does not exist yet")
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as connection:
            yield from _probe(connection, path, library, thorough)
    except (sqlite3.Error, OSError) as err:
        full = shutil.disk_usage(existing).free < _MIN_FREE_BYTES
        hint = "free some space" if full else "check that it is a database of Optio, and that this user may read it"
        yield ProbeResult("database", ERROR, f"{path}: {err}", hint)


def _probe(connection: sqlite3.Connection, path: Path, library: str, thorough: bool) -> Iterator[ProbeResult]:
    connection.isolation_level = None
    schema_state = state(connection)
    journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    yield ProbeResult("database", OK, f"{library}, {path}, {journal}, {path.stat().st_size:,} bytes")
    yield check_state(schema_state)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE optio_check (a INTEGER)")
        yield ProbeResult("writable", OK, "it is writable")
    except sqlite3.Error as err:
        is_busy = getattr(err, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        hint = (
            "another process has locked it: stop that process"
            if is_busy
            else "let this user write to the file and to its directory"
        )
        yield ProbeResult("writable", ERROR, f"{path}: {err}", hint)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    yield _disk(path)
    if thorough:
        faults = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        is_whole = faults == ["ok"]
        detail = "no page is damaged" if is_whole else "; ".join(faults)
        yield ProbeResult("pages", OK if is_whole else ERROR, detail, None if is_whole else "restore a backup")


def _disk(path: Path) -> ProbeResult:
    reserve = Path(f"{path}-reserve")
    reserved = reserve.stat().st_size if reserve.exists() else 0
    disk = shutil.disk_usage(path.parent)
    detail = f"{disk.free >> 20:,} MiB are free"
    if reserve.exists() and disk.free < min(reserved or _LOW_SPACE_BYTES, disk.total // 16):
        return ProbeResult("disk", ERROR, f"{detail}: new runs are refused, running ones go on", "free some space")
    if disk.free < _LOW_SPACE_BYTES:
        return ProbeResult("disk", WARNING, detail, "free some space")
    return ProbeResult("disk", OK, detail)


@dataclass(frozen=True, slots=True)
class Recovery:
    """The result of `recover`: the path of the copy of the log, the damage that was in it, and how many commits are lost."""

    copy: Path
    report: WalReport
    lost_commits: int


def recover(path: Path) -> Recovery | None:
    """Copy a damaged log, then keep what is intact of it; None if the log is sound, and then nothing is changed. Raise
    StoreUnavailable, also while another process has the database open.

    Pages that later transactions wrote again are taken from behind the damage; where only such pages were damaged, nothing is
    lost. Otherwise the commits before the damage are kept. Where a checkpoint has already written frames from behind it into
    the database file, the file alone is the newer consistent state: the rest of the log would put older pages over it.
    """
    report = read_wal(path)
    if report is None or report.damaged_at is None:
        refuse_damage(path)
        return None
    wal = Path(f"{path}-wal")
    copy = Path(f"{wal}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    try:
        with _alone(path) as file:
            _copy(wal, copy)
            shm = Path(f"{path}-shm")
            content = wal.read_bytes()
            salvage = salvage_wal(content, shm.read_bytes() if shm.exists() else b"")
            if salvage is not None:
                _apply(salvage, content, file)
            if salvage is not None or report.backfilled > report.good:
                os.truncate(wal, 0)
            shm.unlink(missing_ok=True)
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    except (sqlite3.Error, OSError) as err:
        copy_text = f"; {copy} is a copy of it" if copy.exists() else ""
        raise StoreUnavailable(f"the log {wal} could not be recovered: {err}{copy_text}") from err
    if faults != ["ok"]:
        raise StoreUnavailable(f"the database {path} is damaged too ({'; '.join(faults)}): restore a backup; {copy} is the log")
    return Recovery(copy, report, report.lost_commits if salvage is None else salvage.lost_commits)


def _apply(salvage: Salvage, wal: bytes, file: BinaryIO) -> None:
    """Write the salvaged pages into the database. If this is interrupted, the log is still there, and it is done again."""
    for page, start in salvage.pages.items():
        os.pwrite(file.fileno(), wal[start : start + salvage.page_size], (page - 1) * salvage.page_size)
    os.truncate(file.fileno(), salvage.size * salvage.page_size)
    os.fsync(file.fileno())


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """Hold the lock that no other process gets while it has the database open, through the file that this yields: closing
    another descriptor would drop the lock. Raise StoreUnavailable when a process has the database open."""
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_BYTES, _SHARED_FIRST)
        except OSError as err:
            raise StoreUnavailable(f"another process has {path} open: stop every part of Optio first") from err
        yield file


def _copy(source: Path, target: Path) -> None:
    mask = os.umask(0o077)
    try:
        shutil.copyfile(source, target)
    finally:
        os.umask(mask)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def backup(path: Path, target: Path) -> int:
    """Write a copy of the database as it is at one moment, while others write, and return its size in bytes. Nothing is
    overwritten, and an interrupted backup leaves nothing under this name. Raise SettingsError and StoreUnavailable."""
    if not path.exists():
        raise StoreUnavailable(f"there is no database {path}: set OPTIO_DATA_DIR as your services have it")
    refuse_damage(path)
    if target.exists() or target.is_symlink():
        raise SettingsError(f"{target} exists already and is not overwritten: give another name")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    mask = os.umask(0o077)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as connection:
            connection.execute("VACUUM INTO ?", (str(draft),))
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.link(draft, target)
        directory = os.open(target.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return target.stat().st_size
    except FileExistsError as err:
        raise SettingsError(f"{target} exists already and is not overwritten: give another name") from err
    except (sqlite3.Error, OSError) as err:
        raise StoreUnavailable(f"the backup {target} could not be written: {err}") from err
    finally:
        os.umask(mask)
        draft.unlink(missing_ok=True)
