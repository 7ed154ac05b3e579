"""Check that nothing was lost or done twice: every due slot and every delivery has one verdict, and every run one origin.

The command reads the database directly, so it works whether or not a server is running.
"""

import argparse
from collections import Counter
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

from optio.cli import FAILED, OK
from optio.cli.shared import flags, output, render_run, terminal
from optio.cli.shared.time_arg import parse_past_time
from optio.errors import StoreFull
from optio.processes.retention import retention_of
from optio.runs.audit import MAX_FINDINGS, AuditFinding, AuditReport, audit
from optio.runs.schedule import MISSED_AFTER
from optio.server.serializers import at, at_if_known
from optio.wiring import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    triggers = verbs.add_parser("triggers", help="check slots of schedules, webhook deliveries, and the runs they started")
    triggers.add_argument("--since", default="24h", metavar="TIME", help="24h, 7d, or 2026-01-05T08:00:00Z (default: 24h)")
    triggers.add_argument("--task", help="only of this task")
    output.add_arguments(triggers, (output.TABLE, output.JSON, output.YAML))
    flags.add_setting_flags(triggers, "data_dir")
    terminal.add_arguments(triggers)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0 if everything is explained, else 1."""
    settings = flags.read_settings(args)
    with closing(open_store(settings)) as store:
        with suppress(StoreFull):  # an audit writes nothing
            store.check()
        now = store.now()
        since = parse_past_time("--since", args.since, now)
        report = audit(store, since=since, task_id=args.task, keep=retention_of(settings))
    output.show(args.output, document(report), lambda: text(report))
    return FAILED if report.unexplained else OK


def document(report: AuditReport) -> dict[str, Any]:
    """Return the report as a JSON object."""
    return {
        "since": at(report.since),
        "until": at(report.until),
        "tasks": [
            {"taskId": task_id, "slots": dict(tally.slots), "deliveries": dict(tally.deliveries), "runs": dict(tally.runs)}
            for task_id, tally in sorted(report.tasks.items())
        ],
        "pendingSince": at_if_known(report.pending_since),
        "unexplained": report.unexplained,
        "findings": [
            {
                "kind": finding.kind,
                "taskId": finding.task_id,
                "id": finding.id,
                "at": at_if_known(finding.at),
                "message": finding.message,
            }
            for finding in report.findings
        ],
        "notes": report.notes,
    }


def text(report: AuditReport) -> str:
    """Return the report as text for a terminal."""
    lines = [f"from {_time_text(report.since)} to {_time_text(report.until)} UTC"]
    lines += [f"note: {note}" for note in report.notes]
    rows = [
        [task_id, _counts(tally.slots), _counts(tally.deliveries), _counts(tally.runs)]
        for task_id, tally in sorted(report.tasks.items())
        if tally.slots or tally.deliveries or tally.runs
    ]
    if rows:
        lines += ["", output.table(["TASK", "SLOTS", "DELIVERIES", "RUNS BY"], rows)]
    if report.pending_since is not None and report.until - report.pending_since > MISSED_AFTER:
        lines += ["", f"slots wait for a scheduler since {_time_text(report.pending_since)} UTC: is `optio scheduler` running?"]
    if not report.unexplained:
        return "\n".join([*lines, "", "unexplained: 0"])
    lines += ["", render_run.coloured(f"unexplained: {report.unexplained:,}", "31")]
    lines += [_finding_line(finding) for finding in sorted(report.findings, key=lambda finding: finding.at)]
    if report.unexplained > len(report.findings):
        lines.append(f"  ... only the first {MAX_FINDINGS:,} are listed")
    return "\n".join(lines)


def _finding_line(finding: AuditFinding) -> str:
    subject = finding.kind if finding.kind == "slot" else f"{finding.kind} {finding.id}"
    return f"  {_time_text(finding.at)}  {render_run.safe(finding.task_id)}  {subject}: {render_run.safe(finding.message)}"


def _counts(counts: Counter[str]) -> str:
    """Return `120 fired, 3 missed`, the most frequent first."""
    return ", ".join(f"{count:,} {word}" for word, count in counts.most_common()) or "-"


def _time_text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
