"""Numbered schema migrations, the same for every driver, and which versions of Optio may use which schema.

The first line of a migration names the oldest schema version whose code may run beside it: `-- oldest: 1` means that it adds
only tables, indexes and columns with defaults. So old and new processes run side by side through an upgrade.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from optio.errors import StoreMismatch
from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult

# One row for each applied migration, in every database; the newest is the present version.
TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY,
    oldest INTEGER NOT NULL,
    applied_at BIGINT NOT NULL
)
"""
_OLDEST = re.compile(r"-- oldest: (\d+)\n")


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration; `oldest` is the schema version whose code still works with its result."""

    version: int
    oldest: int
    script: str


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The version of a database's schema (0: empty), and the oldest version whose code may use it."""

    version: int
    oldest: int


@lru_cache(1)
def migrations() -> tuple[Migration, ...]:
    """Return all migrations that this version of Optio knows, in order."""
    folder = resources.files("optio.store") / "migrations"
    all_migrations = []
    for number, name in enumerate(sorted(e.name for e in folder.iterdir() if e.name.endswith(".sql")), 1):
        text = (folder / name).read_text(encoding="utf-8")
        oldest = _OLDEST.match(text)
        if oldest is None or name != f"{number:04}.sql":
            raise ValueError(f"the migration {name} has no number or no `-- oldest: N`")
        all_migrations.append(Migration(number, int(oldest[1]), text))
    return tuple(all_migrations)


def pending(state: SchemaState, all_migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """Return the migrations that a database still lacks; raise StoreMismatch when it is too new for this version."""
    if state.oldest > len(all_migrations):
        raise StoreMismatch(
            f"the database has schema version {state.version}, which code before version {state.oldest} cannot use; this Optio "
            f"knows {len(all_migrations)}: install the newer Optio, or use another database"
        )
    return all_migrations[state.version :]


def require_current(name: str, state: SchemaState) -> None:
    """Raise StoreMismatch unless the database, called `name` in the message, has all migrations."""
    missing = len(pending(state, migrations()))
    if missing:
        raise StoreMismatch(f"the database {name} needs {missing} migrations: run `optio db migrate`", temporary=True)


def check_state(state: SchemaState) -> ProbeResult:
    """Return whether a database's schema suits this version, as a result for `optio doctor`."""
    all_migrations = migrations()
    detail = f"version {state.version} of {len(all_migrations)}"
    if state.oldest > len(all_migrations):
        return ProbeResult("schema", ERROR, f"{detail}: a newer Optio wrote it", "install the newer Optio")
    pending_migrations = pending(state, all_migrations)
    if pending_migrations:
        oldest = max(migration.oldest for migration in pending_migrations)
        older_processes = "may run on meanwhile" if state.version >= oldest else "must be stopped before"
        pending_text = f"{len(pending_migrations)} migration{'' if len(pending_migrations) == 1 else 's'} pending"
        command = "optio db migrate"
        detail = f"{detail}: {pending_text}; older processes {older_processes}"
        return ProbeResult("schema", WARNING, detail, f"run `{command}`", command)
    return ProbeResult(
        "schema", OK, f"{detail}, newer, which this version can use" if state.version > len(all_migrations) else detail
    )


def statements(script: str, driver: str) -> Iterator[str]:
    """Yield the statements of a migration, each of which ends with a semicolon at the end of a line. Text after `-- postgres: `
    is a statement for the driver `postgres` alone."""
    driver_mark = f"-- {driver}: "
    lines = (line.removeprefix(driver_mark) for line in script.splitlines())
    code = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
    yield from (statement for part in re.split(r";\s*(?:\n|$)", code) if (statement := part.strip()))
