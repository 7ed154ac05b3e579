"""Start a run that has ended again, as a new run with the same parameters."""

import argparse

from optio.cli.run import show_started
from optio.cli.shared import client, flags, ids, output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help=f"its {ids.HELP}")
    parser.add_argument("--current", action="store_true", help="run the task as it is served now, not as the run had it")
    parser.add_argument("-w", "--wait", action="store_true", help="stream the log and wait for the end")
    parser.add_argument("--key", help="idempotency key: the same command with the same key starts no second run")
    output.add_arguments(parser)
    client.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0 if the run was accepted; with --wait, if it completed."""
    server = client.Client(flags.read_settings(args))
    headers = {"Idempotency-Key": args.key} if args.key else {}
    path = f"/api/workflow-runs/{client.quoted(ids.run_id(server, args.run))}/rerun"
    rerun = server.request("POST", path, body={"current": args.current}, headers=headers)
    return show_started(server, rerun, wait=args.wait, format=args.output)
