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
    found = []
    for number, name in enumerate(sorted(e.name for e in folder.iterdir() if e.name.endswith(".sql")), 1):
        text = (folder / name).read_text(encoding="utf-8")
        oldest = _OLDEST.match(text)
        if oldest is None or name != f"{number:04}.sql":
            raise ValueError(f"the migration {name} has no number or no `-- oldest: N`")
        found.append(Migration(number, int(oldest[1]), text))
    return tuple(found)


def pending(state: SchemaState, known: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """Return the migrations that a database still lacks; raise StoreMismatch when it is too new for this version."""
    if state.oldest > len(known):
        raise StoreMismatch(
            f"the database has schema version {state.version}, which code before version {state.oldest} cannot use; this Optio "
            f"knows {len(known)}: install the newer Optio, or use another database"
        )
    return known[state.version :]


def check_state(state: SchemaState) -> ProbeResult:
    """Return whether a database's schema suits this version, as a result for `optio doctor`."""
    known = migrations()
    detail = f"version {state.version} of {len(known)}"
    if state.oldest > len(known):
        return ProbeResult("schema", ERROR, f"{detail}: a newer Optio wrote it", "install the newer Optio")
    left = pending(state, known)
    if left:
        oldest = max(each.oldest for each in left)
        beside = "may run on meanwhile" if state.version >= oldest else "must be stopped before"
        some = f"{len(left)} migration{'' if len(left) == 1 else 's'} pending"
        return ProbeResult("schema", WARNING, f"{detail}: {some}; older processes {beside}", "run `optio db migrate`")
    return ProbeResult("schema", OK, f"{detail}, newer, which this version can use" if state.version > len(known) else detail)


def statements(script: str, driver: str) -> Iterator[str]:
    """Yield the statements of a migration, each of which ends with a semicolon at the end of a line. Text after `-- postgres: `
    is a statement for the driver `postgres` alone."""
    own = f"-- {driver}: "
    lines = (line.removeprefix(own) for line in script.splitlines())
    code = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
    yield from (statement for part in re.split(r";\s*(?:\n|$)", code) if (statement := part.strip()))
