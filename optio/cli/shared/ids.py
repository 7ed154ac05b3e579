"""Ids on the command line: a whole id, the unique beginning of one, `@latest`, or `TASK@latest`.

Tasks are not named by a beginning: a wrong task must never start.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from optio.cli.shared import client, render_run
from optio.errors import NotFound, SettingsError

LATEST = "@latest"
HELP = "id, its unique beginning, @latest or TASK@latest"
_MAX_CANDIDATES = 5
# Ids are UUIDs. Anything else, which an older server would ignore as a filter, cannot be the beginning of one.
_BEGINNING = re.compile(r"[0-9a-f][0-9a-f-]{0,35}", re.ASCII)


class Kind(NamedTuple):
    """A kind of object with an id: its name, the route and the command that list it, and the members that describe one."""

    name: str
    path: str
    cure: str
    members: Sequence[str]


RUN = Kind("run", "/api/runs", "`optio runs list` lists them", ("taskId", "state", "createdAt"))
DELIVERY = Kind("delivery", "/api/deliveries", "`optio hook list` lists them", ("path", "verdict", "receivedAt"))


def run_id(server: client.Client, text: str) -> str:
    """Return the id of the one run that a text names; raises NotFound, and SettingsError for an ambiguous text."""
    return _resolve(server, RUN, text)


def delivery_id(server: client.Client, text: str) -> str:
    """Return the id of the one delivery that a text names; raises NotFound, and SettingsError for an ambiguous text."""
    return _resolve(server, DELIVERY, text)


def _resolve(server: client.Client, kind: Kind, text: str) -> str:
    if text.endswith(LATEST):
        task = text.removesuffix(LATEST) or None
        latest = server.request("GET", kind.path, query={"task": task, "limit": 1})["items"]
        if not latest:
            raise NotFound(kind.name, text, f"{f'task `{task}`' if task else 'the server'} has none")
        return str(latest[0]["id"])
    beginning = text.lower()
    if not _BEGINNING.fullmatch(beginning):
        task = f"`{text}@latest` is the newest of a task, " if re.fullmatch(r"[a-z0-9-]{1,64}", text, re.ASCII) else ""
        raise NotFound(kind.name, text, f"{task}{kind.cure}")
    candidates = server.request("GET", kind.path, query={"id": beginning, "limit": _MAX_CANDIDATES + 1})["items"]
    rows = [
        [item["id"], *(str(item[name]) for name in kind.members)] for item in candidates if item["id"].startswith(beginning)
    ]
    return pick(kind.name, kind.cure, text, rows)


def pick(name: str, cure: str, text: str, rows: Sequence[Sequence[str]]) -> str:
    """Return the id of the only row; each row is an id and what tells it from others. Raises NotFound without a row, and
    SettingsError, with the candidates, for several."""
    if not rows:
        raise NotFound(name, text, cure)
    if len(rows) == 1:
        return rows[0][0]
    remainder = ["  and more"] if len(rows) > _MAX_CANDIDATES else []
    candidates = ["  " + "  ".join(map(render_run.safe, row)) for row in rows[:_MAX_CANDIDATES]]
    raise SettingsError("\n".join([f"several {name} ids begin with `{text}`: write more of it", *candidates, *remainder]))


def token_id(tokens: Sequence[Any], text: str) -> str:
    """Return the id of the one token that a text names. A revoked token counts only if its whole id is given."""
    rows = [
        [token.id, token.role, token.label]
        for token in tokens
        if token.id == text or (text and token.id.startswith(text) and token.revoked_at is None)
    ]
    exact = [row for row in rows if row[0] == text]
    return pick("token", "`optio token list` lists them", text, exact or rows)
