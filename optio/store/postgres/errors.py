"""Translation of PostgreSQL's errors into Optio's; no psycopg error leaves the driver."""

import re
from typing import Any

import psycopg
from psycopg import errors

from optio.errors import Conflict, Invalid, StoreMismatch, StoreUnavailable

# Errors with which the server ends the session.
_ENDED = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.DatabaseDropped,
    errors.IdleSessionTimeout,
    errors.IdleInTransactionSessionTimeout,
    errors.ConnectionException,
)
# Conflicts between transactions, after which the operation is run again.
_AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)
_FULL = re.compile(r"too many (clients|connections)|remaining connection slots")
_CURES = (
    (_FULL, "end other processes, or raise max_connections: each process of Optio takes up to {most}"),
    (re.compile(r"Connection refused|No such file"), "check that the server is running and listens there"),
    (re.compile(r"timeout expired"), "the server does not answer"),
    (re.compile(r"password authentication failed"), "in the URL, @ : / % of a password are written %40 %3A %2F %25"),
    (re.compile(r"no password supplied"), "put it into the URL, PGPASSWORD or ~/.pgpass"),
    (re.compile(r'database "[^"]*" does not exist'), "create it with `createdb`, encoding UTF8"),
    (re.compile(r"could not translate host name|failed to resolve host"), "check the host's name"),
    (re.compile(r"No space left|could not extend file"), "free some space on the server's disk"),
    (re.compile(r"lock timeout"), "another transaction holds the lock"),
    (re.compile(r"statement timeout"), "the server is too slow, or too busy"),
)
# A connection that fails with one of these fails until somebody changes the URL, the server's users or its rules. Any
# other failure counts as temporary: servers that speak another language than English are waited for rather than given up.
_LASTING = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|is not permitted to log in|permission denied|"
    r'(database|role|user) "[^"]*" does not exist|no such (database|user)|'
    r"does not support SSL|certificate|unsupported startup parameter|unrecognized configuration parameter|^invalid "
)


def has_ended_session(err: BaseException) -> bool:
    """Return whether the server has ended the session with this error."""
    return isinstance(err, _ENDED)


def is_lost(connection: "psycopg.Connection[Any]", err: psycopg.Error) -> bool:
    """Return whether the session is over, so that another connection is needed."""
    return connection.closed or has_ended_session(err)


def read_only_message(name: str) -> str:
    """Return the message for a database that accepts no changes."""
    return f"the database {name} is read-only: check whether it is a standby, or default_transaction_read_only is set"


def is_retryable(err: psycopg.Error) -> bool:
    """Return whether the same operation can succeed at once, on a sound connection: after a deadlock or a serialization
    failure."""
    return isinstance(err, _AGAIN)


def is_stale(err: psycopg.Error) -> bool:
    """Return whether a new session may succeed where this one failed: the schema was migrated under one of its prepared
    statements, or it leads to a server that is no longer the primary."""
    cached = isinstance(err, errors.FeatureNotSupported) and "cached plan" in str(err)
    return cached or isinstance(err, errors.ReadOnlySqlTransaction)


def is_full(err: psycopg.Error) -> bool:
    """Return whether the server has no connection left for this process."""
    return isinstance(err, errors.TooManyConnections) or _FULL.search(str(err)) is not None


def to_store_error(name: str, err: psycopg.Error, max_connections: int) -> Exception:
    """Return the error as the store's callers know it; the error itself when it shows a mistake of Optio's own."""
    server_text = error_line(err)
    if isinstance(err, errors.UniqueViolation):
        return Conflict("something with this id exists already")
    if isinstance(err, errors.CharacterNotInRepertoire | errors.ProgramLimitExceeded | psycopg.DataError):
        return Invalid(f"a value cannot be stored: {server_text}")
    if isinstance(err, errors.ReadOnlySqlTransaction):
        return StoreUnavailable(read_only_message(name), temporary=True)
    if isinstance(err, errors.UndefinedTable | errors.UndefinedColumn):
        return StoreMismatch(f"the database {name} lacks tables of this version: run `optio db migrate`", temporary=True)
    if isinstance(err, errors.InsufficientPrivilege | errors.InvalidSchemaName):
        cure = "let this user own the tables, and create them in the first schema of its search_path"
        return StoreUnavailable(f"the database {name} cannot be used: {server_text} ({cure})")
    if isinstance(err, errors.InFailedSqlTransaction) or not isinstance(err, psycopg.OperationalError | psycopg.InternalError):
        return err
    return StoreUnavailable(
        f"the database {name} cannot be used: {server_text}{_cure(server_text, max_connections)}", temporary=True
    )


def connection_error(name: str, err: psycopg.Error, max_connections: int) -> StoreUnavailable:
    """Return the StoreUnavailable for a failed connection, with a cure where the cause is known. It is temporary unless a
    person has to change the URL, the users or the rules."""
    server_text = error_line(err)
    temporary = _LASTING.search(server_text) is None
    return StoreUnavailable(
        f"the database {name} cannot be used: {server_text}{_cure(server_text, max_connections)}", temporary=temporary
    )


def _cure(server_text: str, max_connections: int) -> str:
    return next((f" ({text.format(most=max_connections)})" for pattern, text in _CURES if pattern.search(server_text)), "")


def error_line(err: psycopg.Error) -> str:
    """Return the message of the server or libpq, in one line."""
    text = (err.diag.message_primary or str(err)).strip()
    line = text.splitlines()[0] if text else type(err).__name__
    # libpq writes the address before the error; the caller's message names the database already.
    return re.sub(r"^(connection failed: )?connection to server (at|on) .*? failed: (FATAL: +)?", "", line)
