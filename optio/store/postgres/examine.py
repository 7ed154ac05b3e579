"""PostgreSQL checks of `optio doctor`: whether Optio can work with this database as it is. Nothing is changed, and the tables
need not exist yet."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from optio.model.probe_result import ERROR, OK, WARNING, ProbeResult
from optio.store.postgres import errors
from optio.store.postgres import url as pg_url
from optio.store.postgres.pool import MAX_CONNECTIONS, Connection
from optio.store.postgres.postgres_store import state
from optio.store.sql.schema import check_state

# The oldest version on which Optio's tests run.
_MIN_TESTED_VERSION = 15
_MAX_CLOCK_DRIFT_S = 2.0
_SETTINGS = (
    ("fsync", "off", "a power failure can destroy the database"),
    ("full_page_writes", "off", "a power failure can destroy the database"),
    ("synchronous_commit", "off", "a power failure loses runs whose caller was told that they are accepted"),
    ("zero_damaged_pages", "on", "damaged pages are silently emptied"),
)
_FACTS = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
    current_setting('server_encoding') AS encoding, current_setting('max_connections')::int AS most,
    current_setting('superuser_reserved_connections')::int AS reserved, current_schema() AS schema,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used, pg_is_in_recovery() AS standby
"""


def examine(url: str) -> Iterator[ProbeResult]:
    """Yield one result for each check; raise SettingsError for a URL that cannot be read."""
    target = pg_url.read(url)
    try:
        with psycopg.connect(target.conninfo, autocommit=True, row_factory=dict_row) as connection:
            yield from _probe(connection, target.name)
    except psycopg.Error as err:
        failure = errors.connection_error(target.name, err, MAX_CONNECTIONS)
        yield ProbeResult("database", ERROR, str(failure))


def backup_command(url: str, file: str) -> list[str]:
    """Return `pg_dump` and its arguments for a backup, without the password."""
    conninfo = conninfo_to_dict(url)
    pg_url.read(url)
    named_parts = {
        name: conninfo[name] for name in ("host", "hostaddr", "port", "user", "dbname", "sslmode") if name in conninfo
    }
    command = ["pg_dump", "--format=custom", f"--file={file}"]
    options = str(conninfo.get("options", ""))
    if "search_path=" in options:
        command.append(f"--schema={options.partition('search_path=')[2].split()[0].split(',')[0]}")
    return [*command, f"--dbname={psycopg.conninfo.make_conninfo('', **named_parts)}"]


def _probe(connection: Connection, name: str) -> Iterator[ProbeResult]:
    facts = _row(connection, _FACTS)
    secure = "TLS" if connection.pgconn.ssl_in_use else "without TLS"
    old = facts["major"] < _MIN_TESTED_VERSION
    yield ProbeResult(
        "database",
        WARNING if old else OK,
        f"PostgreSQL {facts['version'].split()[0]}, {name}, {secure}",
        f"Optio is tested with version {_MIN_TESTED_VERSION} and newer" if old else None,
    )
    if facts["encoding"] != "UTF8":
        hint = "create one with `createdb --encoding=UTF8 --template=template0`"
        yield ProbeResult("encoding", ERROR, f"the encoding {facts['encoding']} lacks most characters", hint)
    schema_state = state(connection)
    yield check_state(schema_state)
    yield _writable(connection, name, facts, empty=schema_state.version == 0)
    yield _clock(connection)
    yield from _settings(connection)
    room = facts["most"] - facts["reserved"] - facts["used"]
    few = room < MAX_CONNECTIONS
    hint = f"each process of Optio takes up to {MAX_CONNECTIONS}: raise max_connections"
    detail = f"{facts['used']} of {facts['most'] - facts['reserved']} connections are in use"
    yield ProbeResult("connections", WARNING if few else OK, detail, hint if few else None)


def _writable(connection: Connection, name: str, facts: dict[str, Any], *, empty: bool) -> ProbeResult:
    """Check by a change that is rolled back."""
    if facts["standby"]:
        return ProbeResult(
            "writable", ERROR, "the server is a standby", "use the primary: `target_session_attrs=read-write` finds it"
        )
    if facts["schema"] is None:
        hint = "create the schema, or correct the user's search_path"
        return ProbeResult("writable", ERROR, "no schema of the user's search_path exists", hint)
    try:
        with connection.transaction(force_rollback=True):
            if empty:
                connection.execute("CREATE TABLE optio_check (a INTEGER)")
            else:
                connection.execute("INSERT INTO once (scope, once_key, body_sha256, result, at) VALUES ('', '', '', '', 0)")
    except psycopg.Error as err:
        return ProbeResult("writable", ERROR, str(errors.to_store_error(name, err, MAX_CONNECTIONS)))
    return ProbeResult("writable", OK, f"schema `{facts['schema']}` is writable")


def _clock(connection: Connection) -> ProbeResult:
    before = time.time()
    server_time = float(_row(connection, "SELECT extract(epoch FROM clock_timestamp())::float8 AS now")["now"])
    after = time.time()
    # Without the time that the answer took on its way.
    skew = server_time - after if server_time > after else server_time - before if server_time < before else 0.0
    if abs(skew) <= _MAX_CLOCK_DRIFT_S:
        return ProbeResult("clock", OK, f"{abs(skew) * 1000:.0f} ms from this machine's")
    detail = f"the server's clock is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    return ProbeResult(
        "clock", WARNING, detail, "set both by NTP: schedules fire by this machine's clock, leases end by the server's"
    )


def _settings(connection: Connection) -> Iterator[ProbeResult]:
    clean = True
    for name, bad, harm in _SETTINGS:
        if _row(connection, f"SELECT current_setting('{name}') AS it")["it"] == bad:
            clean = False
            yield ProbeResult(
                "settings", WARNING, f"{name} is {bad}: {harm}", f"ALTER SYSTEM SET {name} = {'off' if bad == 'on' else 'on'}"
            )
    if clean:
        yield ProbeResult("settings", OK, "commits are flushed to the disk")


def _row(connection: Connection, sql: str) -> dict[str, Any]:
    row = connection.execute(sql.encode()).fetchone()
    return row or {}
