"""A look at an SQLite database: can Optio work with it as it is? Nothing is changed, and nothing need be there yet."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from optio.errors import SettingsError, StoreUnavailable
from optio.model.finding import ERROR, OK, WARNING, Finding
from optio.store.mounts import shared_by
from optio.store.sql.schema import found
from optio.store.sqlite import state

_OLDEST = (3, 35)
_FEW_BYTES = 100 << 20
_BUSY_S = 2.0


def examine(path: Path, *, thorough: bool) -> Iterator[Finding]:
    """One finding after the other; `thorough` reads the whole file."""
    library = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < _OLDEST:
        yield Finding("database", ERROR, library, "Optio needs SQLite 3.35 or newer (RETURNING)")
        return
    existing = next(each for each in (path.absolute().parent, *path.absolute().parents) if each.exists())
    shared = shared_by(existing)
    if shared is not None:
        hint = "SQLite loses data there: move it with OPTIO_DATA_DIR, or use PostgreSQL"
        yield Finding("database", ERROR, f"{path} lies on a network file system ({shared})", hint)
    if not path.exists():
        yield Finding("database", OK, f"{library}, {path} is not made yet")
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as connection:
            yield from _look(connection, path, library, thorough)
    except (sqlite3.Error, OSError) as err:
        yield Finding("database", ERROR, f"{path}: {err}", "is it a database of Optio, and may this user read it?")


def _look(connection: sqlite3.Connection, path: Path, library: str, thorough: bool) -> Iterator[Finding]:
    connection.isolation_level = None
    there = state(connection)
    journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    yield Finding("database", OK, f"{library}, {path}, {journal}, {path.stat().st_size:,} bytes")
    yield found(there)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE optio_check (a INTEGER)")
        yield Finding("writable", OK, "it takes changes")
    except sqlite3.Error as err:
        held = getattr(err, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        hint = "another process holds it: end that one" if held else "let this user write to the file and to its directory"
        yield Finding("writable", ERROR, f"{path}: {err}", hint)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    free = shutil.disk_usage(path.parent).free
    few = free < _FEW_BYTES
    yield Finding("disk", WARNING if few else OK, f"{free >> 20:,} MiB are free", "free some space" if few else None)
    if thorough:
        faults = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        whole = faults == ["ok"]
        detail = "no page is damaged" if whole else "; ".join(faults)
        yield Finding("pages", OK if whole else ERROR, detail, None if whole else "restore a backup")


def backup(path: Path, target: Path) -> int:
    """A copy as it stands at one moment, while others write; its size. Nothing is overwritten; what breaks off leaves nothing
    under this name. Raises SettingsError and StoreUnavailable."""
    if not path.exists():
        raise StoreUnavailable(f"there is no database {path}")
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
