"""Start a run of a task on the server. With --wait, stream its log and exit with its outcome."""

import argparse
import sys
from typing import Any, TextIO

from optio.cli import FAILED, INTERRUPTED, OK
from optio.cli.shared import client, flags, output, render_run, run_params


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="the task's id")
    run_params.add_arguments(parser)
    add_start_arguments(parser)


def add_start_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a command that starts a run."""
    parser.add_argument("-w", "--wait", action="store_true", help="stream the log and wait for the end")
    parser.add_argument("--key", help="idempotency key: the same command with the same key starts no second run")
    output.add_arguments(parser)
    client.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0 if the run was accepted; with --wait, if it completed."""
    server = client.Client(flags.read_settings(args))
    body = {"params": run_params.read_parameters(args)}
    return start(server, f"/api/tasks/{client.quoted(args.task)}/runs", body, args)


def start(server: client.Client, path: str, body: dict[str, Any], args: argparse.Namespace) -> int:
    """Start a run by a request, and print it or follow it to its end; return the exit code."""
    headers = {"Idempotency-Key": args.key} if args.key else {}
    started_run, format = server.request("POST", path, body=body, headers=headers), args.output
    if not args.wait:
        note = " (started before with the same key)" if started_run.get("duplicate") else ""
        text = f"run {started_run['runId']} {render_run.state(started_run['state'])}{note}"
        output.show(format, started_run, lambda: text, [started_run["runId"]])
        return OK
    if format not in (output.JSON, output.YAML, output.NAME):
        print(f"run {started_run['runId']} of {started_run['taskId']}", file=sys.stderr)
    return follow(server, started_run["runId"], format=format)


def follow(
    server: client.Client,
    run_id: str,
    *,
    format: str = output.TABLE,
    raw: bool = False,
    after: int = 0,
    notes: TextIO | None = None,
) -> int:
    """Print the log until the run has ended; return 0 if it completed. Ctrl-C leaves the run going. Optio's own lines go to
    `notes` (standard error by default), so that the program's output can be piped."""
    notes = notes or sys.stderr
    try:
        for name, data in server.events(f"/api/workflow-runs/{client.quoted(run_id)}/logs", after=after):
            if name == "line" and format in (output.TABLE, output.WIDE):
                print(render_run.line(data, raw=raw), flush=True, file=notes if data["kind"] == "system" else sys.stdout)
            if name == "end":
                break
    except KeyboardInterrupt:
        cure = f"`optio runs logs -f {run_id}` follows it, `optio runs cancel {run_id}` ends it"
        print(f"\nthe run goes on: {cure}", file=sys.stderr)
        return INTERRUPTED
    final_run = server.request("GET", f"/api/workflow-runs/{client.quoted(run_id)}")
    if format not in (output.TABLE, output.WIDE):
        output.show(format, final_run, str, [final_run["id"]])
    else:
        sys.stdout.flush()
        print(render_run.outcome(final_run), file=sys.stderr)
        if final_run["result"] is not None:
            print(f"result {render_run.as_json(final_run['result'])}", file=sys.stderr)
    return OK if final_run["state"] == "completed" else FAILED
