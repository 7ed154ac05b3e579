"""`optio runs calls`: the model calls of a run as a table, and one of them with its request and its answer."""

import argparse
from collections.abc import Iterator
from typing import Any

from optio.cli import OK
from optio.cli.shared import client, output, render_run
from optio.errors import SettingsError

_OMISSIONS = {
    "secrets": "a secret of the run is not known to the gateway, so it could not be masked",
    "size": "the call, or all calls of the run, are too large",
}
_COLUMNS = (
    output.Column("CALL", "number", right=True),
    output.Column("ATTEMPT", "attempt", right=True, drop=5),
    output.Column("TIME (UTC)", lambda call: output.time_cell(call["at"]), drop=3),
    output.Column("MODEL", lambda call: call["model"] or call["requestedModel"]),
    output.Column("OUTCOME", "outcome"),
    output.Column("IN", lambda call: _tokens(call, "fresh", "cached", "cacheWrite"), right=True),
    output.Column("OUT", lambda call: _tokens(call, "output"), right=True),
    output.Column("COST", lambda call: render_run.usd(call["costUsd"]), right=True),
    output.Column("FIRST BYTE", lambda call: output.seconds_cell(call["firstByteMs"]), right=True, drop=2),
    output.Column("TOOK", lambda call: output.seconds_cell(call["durationMs"]), right=True, drop=1),
    output.Column("ASKED FOR", "requestedModel", wide=True),
    output.Column("CACHED", lambda call: _tokens(call, "cached"), right=True, wide=True),
    output.Column("STATUS", lambda call: str(call["status"] or ""), right=True, wide=True),
    output.Column("PROTOCOL", lambda call: call["protocol"] or "", wide=True),
    output.Column("RECORDED", lambda call: "yes" if call["isRecorded"] else "", wide=True),
    output.Column("MESSAGE", lambda call: call["message"] or "", free=True, drop=4),
)


def print_calls(server: client.Client, path: str, args: argparse.Namespace) -> int:
    """Print all calls of a run, or the one that was named. Raises SettingsError for options that have no effect."""
    if args.number is not None:
        if args.attempt is not None:
            raise SettingsError("numbers of calls count over all attempts: leave out --attempt")
        call = server.request("GET", f"{path}/calls/{args.number}")
        output.show(args.output, call, lambda: _details(call))
        return OK
    calls = list(read_calls(server, path, args.attempt))
    page = {"items": calls}
    empty = "no model calls came through the gateway"
    output.show(args.output, calls, lambda: output.listing(_COLUMNS, page, empty, wide=args.output == output.WIDE))
    return OK


def read_calls(server: client.Client, path: str, attempt: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the model calls of the run with this path, in order."""
    after = 0
    while after is not None:
        page = server.request("GET", f"{path}/calls", query={"after": after, "limit": 1000, "attempt": attempt})
        yield from page["items"]
        after = page["next"]


def why_unrecorded(recording: dict[str, Any] | None) -> str | None:
    """Return why there is no request and no answer; None if they are there."""
    if recording is None:
        return "it was not recorded: set OPTIO_GATEWAY_RECORD=runs for the gateway"
    return None if recording["omitted"] is None else f"it was not recorded: {_OMISSIONS[recording['omitted']]}"


def _details(call: dict[str, Any]) -> str:
    recording = call["recording"]
    (row,) = output.rows_of(_COLUMNS, [call])
    lines = [f"{column.title.lower():<10}  {cell}" for column, cell in zip(_COLUMNS, row, strict=True) if cell]
    problem = why_unrecorded(recording)
    if problem is not None:
        return "\n".join([*lines, "", problem])
    lines += ["", f"request to {recording['path']}", render_run.as_json(recording["request"])]
    lines += ["", f"answer {recording['status']}" + ("" if recording["isWhole"] else ", broken off")]
    return "\n".join([*lines, render_run.safe(recording["answer"])])


def _tokens(call: dict[str, Any], *kinds: str) -> str:
    count = sum(call["usage"][kind] for kind in kinds)
    return f"{count:,}" if count else ""
