"""Migrate the database schema, check whether Optio can work with the database, back it up, and recover it after damage."""

import argparse
import shlex
import sys
import time
from contextlib import closing
from pathlib import Path

from optio.cli import FAILED, OK, USAGE
from optio.cli.shared import flags, output, render_probe, terminal
from optio.errors import SettingsError, StoreUnavailable
from optio.model.probe_result import ERROR
from optio.model.probe_result import OK as GOOD
from optio.model.text import parse_duration
from optio.settings import Settings
from optio.store.base import Store
from optio.store.sql.schema import Migration, migrations
from optio.wiring import backup, backup_command, examine_store, open_store, recover


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    migrate = verbs.add_parser("migrate", help="upgrade the schema to this version of Optio; other processes can keep running")
    migrate.add_argument("--wait", metavar="DURATION", help="how long to retry while the database is missing: `2m`")
    verbs.add_parser("check", help="check the database; exit code 0: usable, 1: usable with warnings, 2: unusable")
    keep = verbs.add_parser("backup", help="copy an SQLite database while it is in use; never overwrites")
    keep.add_argument("file", type=Path, metavar="FILE", help="the copy, a file that does not exist yet")
    verbs.add_parser("recover", help="recover what can be saved after SQLite's log was damaged; keeps a copy of the log")
    for sub in verbs.choices.values():
        flags.add_setting_flags(sub, "data_dir")
        output.add_arguments(sub, (output.TABLE, output.JSON, output.YAML))


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    settings = flags.read_settings(args)
    if args.verb == "migrate":
        try:
            wait = parse_duration(args.wait).total_seconds() if args.wait else 0.0
        except ValueError as err:
            raise SettingsError(f"--wait: {err}") from err
        return _migrate(settings, wait, format=args.output)
    if args.verb == "check":
        return _check(settings, format=args.output)
    if args.verb == "recover":
        return _recover(settings, format=args.output)
    return _backup(settings, args.file, format=args.output)


def _migrate(settings: Settings, wait: float, *, format: str) -> int:
    step_count = len(migrations())

    def tell(step: Migration) -> None:
        progress.clear()
        progress.text = f"migrating, step {step.version} of {step_count}"
        if format == output.TABLE:
            print(f"step {step.version} of {step_count} ...", flush=True)

    with closing(_open_migrated(settings, wait)) as store, terminal.progress("migrating") as progress:
        started_at = time.monotonic()
        steps = store.migrate(tell)
    text = f"nothing to do: the schema has version {step_count} or newer"
    if steps:
        text = f"the schema has version {step_count} now; the migration took {time.monotonic() - started_at:.1f} s"
    output.show(format, {"taken": steps, "version": step_count}, lambda: text)
    return OK


def _open_migrated(settings: Settings, wait: float) -> Store:
    """Open the database, retrying until `wait` seconds after the first try: in a new deployment it may start after this
    command."""
    end: float | None = None
    while True:
        try:
            return open_store(settings, migrated=False)
        except StoreUnavailable as err:
            now = time.monotonic()
            end = now + wait if end is None else end
            if now >= end:
                raise
            print(f"optio: waiting: {err}", file=sys.stderr, flush=True)
            time.sleep(1.0)


def _check(settings: Settings, *, format: str) -> int:
    results = []
    for result in examine_store(settings, thorough=True):
        results.append(result)
        if format == output.TABLE:
            print("\n".join(render_probe.lines([result])), flush=True)
    if format != output.TABLE:
        print(output.document(format, render_probe.as_json(results)))
    statuses = {result.status for result in results}
    return USAGE if ERROR in statuses else OK if statuses == {GOOD} else FAILED


def _recover(settings: Settings, *, format: str) -> int:
    if settings.database is None:
        raise SettingsError("`optio db recover` is for SQLite; PostgreSQL recovers by itself when it starts")
    recovery = recover(settings)
    if recovery is None:
        output.show(format, {"lostCommits": 0}, lambda: "the log is sound: nothing to do")
        return OK
    text = f"the database is usable again, and nothing is lost; the damaged log is {recovery.copy}"
    if recovery.lost_commits:
        text = (
            f"the database is usable again, without up to {recovery.lost_commits} commits; the damaged log is {recovery.copy}\n"
            "runs that were accepted last may be missing, and others may run again: start the server alone and see `optio runs`"
        )
    output.show(format, {"lostCommits": recovery.lost_commits, "copy": str(recovery.copy)}, lambda: text)
    return FAILED if recovery.lost_commits else OK


def _backup(settings: Settings, file: Path, *, format: str) -> int:
    if settings.database is None:
        command = shlex.join(backup_command(settings, str(file)))
        raise SettingsError(
            f"back up PostgreSQL with its own program, which asks for the password or reads PGPASSWORD: {command}"
        )
    with terminal.progress(f"copying {settings.database}"):
        size = backup(settings, file)
    text = f"{file}: {size:,} bytes; keep a copy of {settings.secrets} with it"
    output.show(format, {"file": str(file), "bytes": size}, lambda: text)
    return OK
