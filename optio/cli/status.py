"""Show the processes of the installation, its queue, and what is wrong with it.

The server is asked; where none answers, the database is read instead, as far as this machine reaches it.
"""

import argparse
from contextlib import closing
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

    with closing(wiring.open_store(settings, migrated=False)) as store:
        fleet = store.fleet()
    facts = serializers.fleet(fleet)
    lists = {"processes": "processes", "fleetProblems": "fleet_problems"}
    parts = {key: [serializers.to_json(member) for member in facts[name]] for key, name in lists.items()}
    problems = [problem.summary for problem in find_problems(fleet)]
    problems.insert(0, f"no server answers at {settings.server_url}: start one with `optio server`")
    return {"status": "unavailable", "problems": problems, **{key: facts[key] for key in ("at", "queued", "running")}, **parts}


def text(report: dict[str, Any]) -> str:
    """Return the processes as a table, with the queue below it and the problems at the end."""
    now = datetime.fromisoformat(report["at"])
    columns = [
        output.Column("KIND", "kind"),
        output.Column("HOST", "host", free=True),
        output.Column("PID", lambda process: str(process["pid"] or ""), right=True),
        output.Column("VERSION", lambda process: process["version"] or "older", drop=2),
        output.Column("STARTED", lambda process: _age(process["startedAt"], now), drop=3),
        output.Column(
            "SEEN", lambda process: ("" if process["live"] else "silent ") + (_age(process["seenAt"], now) or "never")
        ),
        output.Column("RUNS", _runs_cell, right=True),
        output.Column("GENERATION", "generation", right=True, drop=1),
    ]
    table = output.listing(columns, {"items": report["processes"]}, "No process is running.")
    queue = f"{report['queued']:,} queued, {report['running']:,} running"
    return "\n".join(
        [table, "", queue, *([""] if report["problems"] else []), *(f"! {problem}" for problem in report["problems"])]
    )


def _runs_cell(process: dict[str, Any]) -> str:
    capacity = "" if process["capacity"] is None else f"/{process['capacity']}"
    return f"{process['running']}{capacity}" if process["kind"] == "worker" else ""


def _age(at: str | None, now: datetime) -> str:
    if at is None:
        return ""
    seconds = (now - datetime.fromisoformat(at)).total_seconds()
    return f"{format_roughly(timedelta(seconds=max(0, round(seconds))))} ago"
