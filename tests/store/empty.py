"""An empty SQLite of this version, which is copied: thousands of tests begin with one, and to migrate it takes 20 ms."""

import tempfile
from functools import cache
from pathlib import Path

from optio.store.sqlite import sqlite_store


def put_empty_database(path: Path) -> None:
    """Put one there, unless there is one."""
    if not path.exists():
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        path.write_bytes(_empty_database())


@cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "optio.db"
        sqlite_store.open_store(path).close()
        return path.read_bytes()
