"""PostgreSQL URLs: the connection options of a URL as the user wrote it, and the part of it that messages may show. No part of
a password is ever shown."""

import re
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import conninfo

from optio.errors import SettingsError
from optio.store.deadline import CALL_S

# A call ends after this time, whatever happens; the server's limits for statements and locks are a little shorter.
CALL_TIMEOUT_S = CALL_S
_STATEMENT_MS = 4_500
_LOCK_MS = 3_000
_CONNECT_S = 2
# Server settings: a session whose client is stopped or gone must keep neither locks nor its connection for long.
_SESSION = {
    "statement_timeout": _STATEMENT_MS,
    "lock_timeout": _LOCK_MS,
    "idle_in_transaction_session_timeout": 5_000,
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
    "client_min_messages": "warning",
    "timezone": "UTC",
}
# Client settings: the kernel notices a server that vanished silently.
_CLIENT: dict[str, Any] = {
    "application_name": "optio",
    "connect_timeout": _CONNECT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 8000,
}
_ENCODED = (
    "the URL of the database cannot be read: write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @, "
    "%2F for /, %3A for :, %25 for % and %20 for a space in the user's name and the password"
)
_PORTS = re.compile(r"\d{0,5}(,\d{0,5})*")


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """A database to connect to: `conninfo` is for libpq and holds the password, `name` is for people."""

    conninfo: str
    name: str


def read(url: str) -> PostgresTarget:
    """Return the target of a URL, with Optio's timeouts where the URL gives none; raise SettingsError for one that cannot be
    read."""
    parts = _given(url)
    options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    conninfo_parts = {**_CLIENT, **parts, "options": f"{options} {parts.get('options', '')}".strip()}
    host, port = parts.get("host") or parts.get("hostaddr") or "this machine", parts.get("port") or 5432
    return PostgresTarget(
        conninfo.make_conninfo("", **conninfo_parts), f"{parts.get('dbname') or 'PostgreSQL'} on {host}:{port}"
    )


def _given(url: str) -> dict[str, Any]:
    try:
        parts = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as err:
        # libpq quotes the offending text, which may be a part of the password.
        words = str(err).strip()
        query = url.partition("?")[2]
        if words.startswith("invalid URI query parameter") and "@" not in query:
            raise SettingsError(f"the URL of the database cannot be used: {words}") from None
        raise SettingsError(_ENCODED) from None
    # An unencoded @ or / ends the password early, and the rest would be taken for the host, the port or the database.
    strays = "@" in str(parts.get("host", "")) or ("@" in str(parts.get("dbname", "")) and "%40" not in url)
    if strays or not _PORTS.fullmatch(str(parts.get("port", ""))):
        raise SettingsError(_ENCODED)
    return parts
