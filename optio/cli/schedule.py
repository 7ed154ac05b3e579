"""Print when scheduled tasks fire next: in words, in the task's own zone, and in this machine's time. Needs no server.

With --past, print what happened to past slots, as the server recorded it. With --calendar, print the whole tree, day by day.
"""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from optio.cli import FAILED, OK, print_error
from optio.cli.shared import client, flags, output, render_run, terminal, tree_calendar
from optio.cli.shared.parser import whole_number
from optio.cli.shared.render_calendar import text as calendar_text
from optio.cli.shared.schedule_history import print_history
from optio.cli.shared.unknown_task import unknown_task
from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.pipeline import Compilation, compile_tree
from optio.compiler.report import render_concise
from optio.compiler.source_tree import DirectoryTree
from optio.errors import SettingsError
from optio.model.registry import CompiledTask
from optio.model.trigger import ScheduleTrigger
from optio.scheduling import cron
from optio.scheduling.calendar import fires

_DEFAULT_COUNT, _MAX_COUNT = 5, 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", nargs="?", metavar="TASK", help="the task's id (default: all that have a schedule)")
    parser.add_argument(
        "-n",
        dest="count",
        type=whole_number(_MAX_COUNT),
        metavar="COUNT",
        help=f"fires of each task (default: {_DEFAULT_COUNT})",
    )
    parser.add_argument(
        "--past", action="store_true", help="past slots instead, each with its run, or the reason why it has none"
    )
    tree_calendar.add_arguments(parser)
    output.add_arguments(parser)
    terminal.add_arguments(parser)
    flags.add_setting_flags(parser, "tasks")
    client.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 1 if a file has errors or the task has no schedule, else 0; raises SettingsError for an unknown
    task."""
    tree_calendar.check_flags(args)
    args.count = args.count or _DEFAULT_COUNT
    if args.past:
        return print_history(args)
    for name in ("url", "token", "context"):
        if getattr(args, name) is not None:
            raise SettingsError(f"--{name} is for --past: the next fires are read from the task directory")
    settings = flags.read_settings(args, with_context=False)
    compilation, has_errors = _compile(settings.tasks)
    tasks = compilation.registry.tasks
    if args.task is not None and args.task not in tasks:
        if compilation.broken:
            print_error(f"optio schedule: `{args.task}` is not among the tasks without errors")
            return FAILED
        raise unknown_task(args.task, tasks)
    scheduled = [
        (task, task.spec.schedule) for task in tasks.values() if args.task in (None, task.id) and task.spec.schedule is not None
    ]
    _print(args, scheduled, settings.max_workflow_concurrent, compilation.diagnostics)
    if not scheduled:
        print_error(f"`{args.task}` has no schedule" if args.task else "no task has a schedule")
    return FAILED if has_errors or (args.task and not scheduled) else OK


def _print(
    args: argparse.Namespace,
    scheduled: Sequence[tuple[CompiledTask, ScheduleTrigger]],
    max_running: int,
    diagnostics: Sequence[Diagnostic],
) -> None:
    """Print the calendar that the flags ask for, or the next fires of each task; of no task as a document only."""
    now = datetime.now(UTC)
    zones = {trigger.config.timezone for _, trigger in scheduled}
    span = tree_calendar.parse_range(args, zones, now) if args.calendar else None
    if not scheduled and not output.is_document(args):
        return
    names = [task.id for task, _ in scheduled]
    if span is None:
        coming = [document(*pair, now, args.count) for pair in scheduled]
        output.show(args.output, coming, lambda: "\n\n".join(text(*pair, now, args.count) for pair in scheduled), names)
    else:
        calendar = tree_calendar.build_calendar([task for task, _ in scheduled], span, max_running, diagnostics)
        output.show(args.output, tree_calendar.document(calendar), lambda: calendar_text(calendar), names)


def _compile(root: Path) -> tuple[Compilation, bool]:
    """Compile the tree and print its errors; return whether it has any."""
    if not root.is_dir():
        raise SettingsError(f"there is no task directory `{root}`: create it with `optio init`, or name another with --tasks")
    compilation = compile_tree(DirectoryTree(root))
    errors = [diagnostic for diagnostic in compilation.diagnostics if diagnostic.severity is Severity.ERROR]
    if errors:
        print_error("\n".join(f"{root}/{line}" for line in render_concise(errors)))
    return compilation, bool(errors)


def document(task: CompiledTask, trigger: ScheduleTrigger, now: datetime, count: int) -> dict[str, Any]:
    """Return the next fires of a task as a JSON object."""
    config = trigger.config
    on = trigger.enabled and task.spec.enabled
    coming = islice(fires(config.cron_expression, config.timezone, now), count) if on else ()
    return {
        "taskId": task.id,
        "enabled": on,
        "expression": config.cron_expression,
        "words": cron.explain(config.cron_expression),
        "timezone": config.timezone,
        "misfire": config.misfire,
        "overlap": config.overlap,
        "fires": [
            {"at": _utc(fire.at), "local": fire.at.isoformat(), **({"note": fire.note} if fire.note else {})} for fire in coming
        ],
    }


def text(task: CompiledTask, trigger: ScheduleTrigger, now: datetime, count: int) -> str:
    """Return the next fires of a task as text for a terminal."""
    config = trigger.config
    expression = render_run.safe(" ".join(config.cron_expression.split()))
    head = f"{task.id}: {cron.explain(config.cron_expression)} ({expression}, {config.timezone})"
    if not (trigger.enabled and task.spec.enabled):
        return f"{head}\n  off: {'the task' if trigger.enabled else 'its trigger'} has `enabled: false`"
    rows = [
        f"  {fire.at:%a %Y-%m-%d %H:%M %Z}   here {fire.at.astimezone():%a %H:%M %Z}   in {_span_text(fire.at - now)}"
        + (f"   {fire.note}" if fire.note else "")
        for fire in islice(fires(config.cron_expression, config.timezone, now), count)
    ]
    return "\n".join([head, *rows])


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _span_text(span: timedelta) -> str:
    """Return `3 d 4 h`, `5 h 10 min` or `2 min`."""
    minutes = max(0, int(span.total_seconds() // 60))
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
