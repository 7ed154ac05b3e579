"""`optio runs list`: a page of runs, and with `--watch` the same page again and again, or what changes on it."""

import argparse
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from optio.cli import OK, print_error
from optio.cli.shared import client, output, render_run
from optio.cli.shared.time_arg import time_range
from optio.errors import SettingsError

_WATCH_INTERVAL_S = 1.0
# Homes the cursor; ends a line, and the screen, without what stood there before.
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K\n", "\x1b[J"
_CLEAR = "\x1b[2J"

_COLUMNS = (
    output.Column("RUN", "id"),
    output.Column("TASK", "taskId"),
    output.Column("STATE", "state"),
    output.Column("REASON", "reason", free=True),
    output.Column("TRIGGER", "trigger", drop=2),
    output.Column("CREATED (UTC)", lambda run: output.time_cell(run["createdAt"]), drop=1),
    output.Column("TOOK", lambda run: output.seconds_cell(run["durationMs"]), right=True, drop=3),
    output.Column("COST", lambda run: render_run.usd(run["costUsd"]), right=True, drop=4),
    output.Column("ATTEMPT", "attempt", right=True, wide=True),
    output.Column("TURNS", "turns", right=True, wide=True),
    output.Column("TOKENS", lambda run: f"{run['tokens']:,}" if run["tokens"] else "", right=True, wide=True),
    output.Column("STARTED (UTC)", lambda run: output.time_cell(run["startedAt"]), wide=True),
    output.Column("ENDED (UTC)", lambda run: output.time_cell(run["endedAt"]), wide=True),
    output.Column("DEFINITION", "definition", wide=True),
    output.Column("MESSAGE", "message", wide=True),
)


def text(page: Mapping[str, Any], *, wide: bool = False) -> str:
    """Return a page of runs as a table, with the flag that continues it."""
    return output.listing(_COLUMNS, page, "no runs", wide=wide)


def print_list(server: client.Client, args: argparse.Namespace) -> int:
    """Print the page that the flags ask for. With `--watch` it ends by Ctrl-C only; raises SettingsError for a bad range."""
    if args.watch and args.cursor is not None:
        raise SettingsError("--watch follows the newest runs: leave out --cursor")
    if args.watch:
        _watch(server, args)
    page = _page(server, args)
    as_text = lambda: text(page, wide=args.output == output.WIDE)  # noqa: E731 - only where text is asked for
    output.show(args.output, page, as_text, (item["id"] for item in page["items"]))
    return OK


def _page(server: client.Client, args: argparse.Namespace) -> dict[str, Any]:
    since, until = time_range(args, datetime.now(UTC))
    query = {name: getattr(args, name) for name in ("task", "state", "trigger", "reason", "limit", "cursor")}
    page: dict[str, Any] = server.request("GET", "/api/runs", query={**query, "since": since, "until": until})
    return page


def _watch(server: client.Client, args: argparse.Namespace) -> None:
    """Ask once a second. A server that is away is reported once and waited for, unless the first request finds none."""
    is_text = args.output in (output.TABLE, output.WIDE)
    draw = _draw if is_text and sys.stdout.isatty() else _print_changes
    page = _page(server, args)
    known_runs: dict[str, Any] = {}
    is_away = False
    while True:
        draw(page, known_runs, args)
        sys.stdout.flush()
        time.sleep(_WATCH_INTERVAL_S)
        try:
            page = _page(server, args)
            is_away = False
        except client.ServerRefused as err:
            if err.status not in (0, 503):
                raise
            if not is_away:
                print_error(f"optio runs: {err}: still watching")
            is_away = True


def _draw(page: Mapping[str, Any], known_runs: dict[str, Any], args: argparse.Namespace) -> None:
    if not known_runs:
        print(_CLEAR, end="")
        known_runs["drawn"] = True
    lines = text({**page, "next": None}, wide=args.output == output.WIDE).splitlines()
    lines = [f"{datetime.now(UTC):%H:%M:%S} UTC, until Ctrl-C", "", *lines]
    print(_HOME + _END_OF_LINE.join(lines[: os.get_terminal_size().lines - 1]) + _END_OF_LINE + _END_OF_SCREEN, end="")


def _print_changes(page: Mapping[str, Any], known_runs: dict[str, Any], args: argparse.Namespace) -> None:
    """Print the runs that are new or have changed, oldest first, so that the newest news is the last line."""
    first = not known_runs
    known_runs["header"] = None
    changes = []
    for item in reversed(page["items"]):
        facts = (item["state"], item["reason"], item["message"], item["attempt"])
        if known_runs.get(item["id"]) != facts:
            known_runs[item["id"]] = facts
            changes.append(item)
    if args.output in (output.TABLE, output.WIDE):
        rows = output.rows_of(_COLUMNS, changes)
        lines = output.table(_COLUMNS, rows, wide=args.output == output.WIDE).splitlines()
        print("".join(f"{line}\n" for line in lines[0 if first else 1 :]), end="")
        return
    for item in changes:
        # One list, whatever the number of changes, if it is YAML.
        value: Any = [item] if args.output == output.YAML else item
        output.show(args.output, value, str, [item["id"]])
