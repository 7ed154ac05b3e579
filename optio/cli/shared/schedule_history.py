"""`optio schedule --past`: what happened to past slots of schedules, as the server recorded it."""

import argparse
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from optio.cli import OK, print_error
from optio.cli.shared import client, flags, output
from optio.errors import SettingsError


def print_history(args: argparse.Namespace) -> int:
    """Print the past slots. Returns 0; raises SettingsError for options that have no effect here."""
    if args.tasks is not None:
        raise SettingsError("--past asks the server: leave out --tasks")
    server = client.Client(flags.read_settings(args))
    zones = {
        task["id"]: trigger["config"].get("timezone", "UTC")
        for task in server.request("GET", "/api/tasks")["items"]
        for trigger in task["triggers"]
        if trigger["type"] == "schedule"
    }
    ids = [args.task] if args.task is not None else sorted(zones)
    problems = server.request("GET", "/api/health").get("fleetProblems", ())
    rows = {task_id: list(islice(_slots(server, task_id), args.count)) for task_id in ids}
    if rows or output.is_document(args):
        past = [{"taskId": task_id, "slots": slots} for task_id, slots in rows.items()]
        as_text = lambda: "\n\n".join(text(id, zones.get(id, "UTC"), slots) for id, slots in rows.items())  # noqa: E731
        output.show(args.output, past, as_text, rows)
        # Without a scheduler nothing is recorded, and silence would look like slots that were not due.
        for problem in problems:
            if problem["kind"] == "scheduler" and problem["code"] != "silent":
                print_error(f"{problem['text']}: {problem['cure']}")
    else:
        print("no task has a schedule", file=sys.stderr)
    return OK


def _slots(server: client.Client, task_id: str) -> Iterator[dict[str, Any]]:
    """Yield the slots of a task, newest first."""
    cursor: str | None = None
    while True:
        page = server.request("GET", f"/api/tasks/{client.quoted(task_id)}/slots", query={"cursor": cursor, "limit": 200})
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def text(task_id: str, zone: str, slots: list[dict[str, Any]]) -> str:
    """Return the past slots of a task as text, in the zone of its schedule."""
    lines = []
    for slot in slots:
        last, first = (datetime.fromisoformat(slot[name]).astimezone(_zone(zone)) for name in ("slot", "first"))
        time_text, outcome = f"{last:%a %Y-%m-%d %H:%M %Z}", slot["verdict"]
        if slot["runId"] is not None:
            outcome += f"   run {slot['runId']}"
        if last != first or slot["slots"] != 1:
            number = "not counted" if slot["slots"] is None else f"{slot['slots']:,} of them"
            time_text, outcome = f"{first:%a %Y-%m-%d %H:%M} to {last:%a %Y-%m-%d %H:%M %Z}", f"{outcome}, {number}"
        lines.append(f"  {time_text}   {outcome}")
    return "\n".join([f"{task_id}:", *(lines or ["  no slot was recorded"])])


def _zone(name: str) -> ZoneInfo:
    """Return the zone; UTC if this machine does not know a zone that the server knows."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
