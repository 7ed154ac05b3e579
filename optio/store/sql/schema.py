"""Numbered migrations, the same for every driver, and which versions of Optio may use which schema.

A migration says on its first line which is the oldest schema version whose code may go on beside it: `-- oldest: 1` adds
tables, indexes and columns with defaults only. So old and new processes run side by side through an upgrade.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from optio.errors import StoreMismatch
from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult

# Kept by every driver; the newest row is the schema that is there.
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
    """One step; `oldest` is the schema version whose code still works with what this makes."""

    version: int
    oldest: int
    script: str


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What is in the database; version 0 is an empty one."""

    version: int
    oldest: int


@lru_cache(1)
def migrations() -> tuple[Migration, ...]:
    """All that this version knows, in order."""
    folder = resources.files("optio.store") / "migrations"
    found = []
    for number, name in enumerate(sorted(e.name for e in folder.iterdir() if e.name.endswith(".sql")), 1):
        text = (folder / name).read_text(encoding="utf-8")
        oldest = _OLDEST.match(text)
        if oldest is None or name != f"{number:04}.sql":
            raise ValueError(f"the migration {name} has no number or no `-- oldest: N`")
        found.append(Migration(number, int(oldest[1]), text))
    return tuple(found)


def pending(state: SchemaState, known: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """The steps that are left; raises StoreMismatch when the database is too new for this version."""
    if state.oldest > len(known):
        raise StoreMismatch(
            f"the database has schema version {state.version}, which code before version {state.oldest} cannot use; this Optio "
            f"knows {len(known)}: install the newer Optio, or use another database"
        )
    return known[state.version :]


def check_state(state: SchemaState) -> ProbeResult:
    """How a database's schema stands to this version."""
    known = migrations()
    detail = f"version {state.version} of {len(known)}"
    if state.oldest > len(known):
        return ProbeResult("schema", ERROR, f"{detail}: a newer Optio wrote it", "install that one")
    left = len(pending(state, known))
    if left:
        return ProbeResult("schema", WARNING, f"{detail}: {left} step{'' if left == 1 else 's'} left", "run `optio db migrate`")
    return ProbeResult("schema", OK, f"{detail}, newer, which this version can use" if state.version > len(known) else detail)


def statements(script: str, driver: str) -> Iterator[str]:
    """The statements of a migration: each ends with a semicolon at the end of a line. What stands behind `-- postgres: ` is a
    statement for the driver `postgres` alone."""
    own = f"-- {driver}: "
    lines = (line.removeprefix(own) for line in script.splitlines())
    code = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
    yield from (statement for part in re.split(r";\s*(?:\n|$)", code) if (statement := part.strip()))
