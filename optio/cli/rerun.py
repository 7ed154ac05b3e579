"""Start a run that has ended again, as a new run with the same parameters."""

import argparse

from optio.cli.run import add_start_arguments, start
from optio.cli.shared import client, flags, ids


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help=f"its {ids.HELP}")
    parser.add_argument("--current", action="store_true", help="run the task as it is served now, not as the run had it")
    add_start_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0 if the run was accepted; with --wait, if it completed."""
    server = client.Client(flags.read_settings(args))
    path = f"/api/workflow-runs/{client.quoted(ids.run_id(server, args.run))}/rerun"
    return start(server, path, {"current": args.current}, args)
