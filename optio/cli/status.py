"""Show the processes of the installation, its queue, and what is wrong with it.

The server is asked; where none answers, the database is read instead, as far as this machine reaches it.
"""

import argparse
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from optio import wiring
from optio.cli import FAILED, OK
from optio.cli.shared import client, flags, output, terminal
from optio.errors import SettingsError
from optio.model.fleet import find_problems
from optio.model.text import format_roughly
from optio.settings import Settings

_KEYS = ("status", "problems", "fleetProblems", "at", "processes", "queued", "running")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_arguments(parser)
    flags.add_setting_flags(parser, "data_dir")
    client.add_arguments(parser)
    terminal.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the processes and the problems. Returns 1 with problems, else 0."""
    settings = flags.read_settings(args)
    report = read_status(settings)
    output.show(args.output, report, lambda: text(report), (process["name"] for process in report["processes"]))
    return FAILED if report["problems"] else OK


def read_status(settings: Settings) -> dict[str, Any]:
    """Return the health of the installation as `GET /api/health` has it. Raises ServerRefused, SettingsError and
    StoreUnavailable."""
    try:
        report = client.Client(settings).request("GET", "/api/health")
    except client.ServerRefused as err:
        # No database is made for a look.
        is_there = settings.database is None or settings.database.exists()
        if err.status != 0 or settings.url is not None or not is_there:
            raise
        return _from_database(settings)
    if not report.keys() >= set(_KEYS):
        raise SettingsError(f"the server at {settings.server_url} is older than `optio status`: upgrade it")
    return {key: report[key] for key in _KEYS}


def _from_database(settings: Settings) -> dict[str, Any]:
    from optio.server import serializers  # with the libraries of a server

    store = wiring.open_store(settings, migrated=False)
    try:
        fleet = store.fleet()
    finally:
        store.close()
    facts = serializers.fleet(fleet)
    lists = {"processes": "processes", "fleetProblems": "fleet_problems"}
    parts = {key: [serializers.to_json(member) for member in facts[name]] for key, name in lists.items()}
    problems = [problem.summary for problem in find_problems(fleet)]
    problems.insert(0, f"no server answers at {settings.server_url}: start one with `optio server`")
    return {"status": "unavailable", "problems": problems, **{key: facts[key] for key in ("at", "queued", "running")}, **parts}


def text(report: dict[str, Any]) -> str:
    """Return the processes as a table, with the queue below it and the problems at the end."""
    columns: list[output.Column | str] = [
        "KIND",
        output.Column("HOST", free=True),
        output.Column("PID", right=True),
        output.Column("VERSION", drop=2),
        output.Column("STARTED", drop=3),
        "SEEN",
        output.Column("RUNS", right=True),
        output.Column("GENERATION", right=True, drop=1),
    ]
    now = datetime.fromisoformat(report["at"])
    rows = [list(_row(process, now)) for process in report["processes"]]
    table = output.table(columns, rows) if rows else "No process is running."
    queue = f"{report['queued']:,} queued, {report['running']:,} running"
    return "\n".join(
        [table, "", queue, *([""] if report["problems"] else []), *(f"! {problem}" for problem in report["problems"])]
    )


def _row(process: dict[str, Any], now: datetime) -> Iterator[str]:
    version, age = process["version"] or "older", _age(process["startedAt"], now)
    yield from (process["kind"], process["host"], str(process["pid"] or ""), version, age)
    yield ("" if process["live"] else "silent ") + (_age(process["seenAt"], now) or "never")
    capacity = "" if process["capacity"] is None else f"/{process['capacity']}"
    yield f"{process['running']}{capacity}" if process["kind"] == "worker" else ""
    yield "" if process["generation"] is None else str(process["generation"])


def _age(at: str | None, now: datetime) -> str:
    if at is None:
        return ""
    seconds = (now - datetime.fromisoformat(at)).total_seconds()
    return f"{format_roughly(timedelta(seconds=max(0, round(seconds))))} ago"
