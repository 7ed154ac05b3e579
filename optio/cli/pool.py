"""Show the pods that are kept ready for runs (`warmPoolSize`) and how useful they were; `plan` proposes how many to keep."""

import argparse
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from optio.cli import OK
from optio.cli.shared import client, flags, output, render_run, terminal
from optio.cli.shared.parser import whole_number
from optio.cli.shared.time_arg import parse_past_time
from optio.errors import SettingsError
from optio.model.room import SECRET_SOURCE
from optio.model.text import format_roughly

# A worker reports every half minute.
_MAX_SILENCE_S = 60
_MAX_NAMED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of both forms; without a verb the pools are shown."""
    _add_common_flags(parser)
    since = "count starts since then: 24h, 7d, or 2026-01-05T08:00:00Z (default: 24h)"
    parser.add_argument("--since", default=None, metavar="TIME", help=since)
    verbs = parser.add_subparsers(dest="verb", metavar="plan")
    plan = verbs.add_parser(
        "plan",
        help="compare the sizes of each pool",
        description="Replay the starts of the last days and the next fires of schedules against each pool size.",
        argument_default=argparse.SUPPRESS,  # flags before the verb apply too
    )
    task_help = "the task's id (default: all that have a pool, a schedule or starts)"
    plan.add_argument("task", nargs="?", default=None, metavar="TASK", help=task_help)
    plan.add_argument("--days", type=whole_number(90), default=7, help="how many days to look back, and ahead (default: 7)")
    plan.add_argument("--target", type=_share, default=0.95, help="the share of starts that should be warm (default: 0.95)")
    plan.add_argument(
        "-n", "--limit", type=flags.page_limit, default=50, help="maximum number of tasks, up to 200 (default: 50)"
    )
    _add_common_flags(plan)


def _add_common_flags(parser: argparse.ArgumentParser) -> None:
    output.add_arguments(parser)
    terminal.add_arguments(parser)
    client.add_arguments(parser)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"invalid share `{text}`: give a number above 0 and up to 1, such as 0.95")
    return share


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0; raises SettingsError, and ServerRefused if the server refuses."""
    if args.verb == "plan":
        if args.since is not None:
            raise SettingsError("--since is for `optio pool`: the plan takes --days")
        query = {"task": args.task, "days": args.days, "target": args.target, "limit": args.limit}
        answer = client.Client(flags.read_settings(args)).request("GET", "/api/pools/plan", query=query)
        output.show(args.output, answer, lambda: plan_text(answer), (item["taskId"] for item in answer["items"]))
        return OK
    since = None if args.since is None else parse_past_time("--since", args.since, datetime.now(UTC)).isoformat()
    query = {"since": since}
    answer = client.Client(flags.read_settings(args)).request("GET", "/api/pools", query=query)
    output.show(args.output, answer, lambda: text(answer), (item["pool"] for item in answer["items"] if item["pool"]))
    return OK


def text(answer: dict[str, Any]) -> str:
    """Return the pools as text for a terminal."""
    if not answer["items"]:
        return "\n".join(
            ["no task keeps pods ready: none sets `warmPoolSize`", *_silence_lines(answer), *_waiting_lines(answer)]
        )
    has_places = len({item["place"] for item in answer["items"]}) > 1 and len(answer["reports"]) > 1
    columns = [
        output.Column("POOL", lambda item: item["pool"] or "-"),
        *([output.Column("PLACE", lambda item: item["place"] or "-")] if has_places else []),
        output.Column("TASKS", lambda item: _names(item["tasks"]), free=True),
        output.Column("SIZE", "size", right=True),
        output.Column("READY", "ready", right=True),
        output.Column("STARTING", "starting", right=True),
        output.Column("WARM", "warmStarts", right=True),
        output.Column("COLD", "coldStarts", right=True),
        output.Column("WAIT P50", lambda item: seconds(item["waitMs"]["p50"]), right=True),
        output.Column("P99", lambda item: seconds(item["waitMs"]["p99"]), right=True),
        output.Column("PROBLEM", "problem", free=True),
    ]
    table = output.listing(columns, answer, "")
    since = f"starts since {answer['since'][:16].replace('T', ' ')} UTC: warm ones found a pod ready"
    return "\n".join([table, since, *_silence_lines(answer), *_waiting_lines(answer)])


def _waiting_lines(answer: dict[str, Any]) -> Iterator[str]:
    """Yield runs that no worker takes, and cold starts that wait, each with the reason."""
    for entry in answer.get("unserved", ()):
        tasks = _names(entry["tasks"]) or "removed tasks"
        yield f"{render_run.safe(entry['message'])} ({tasks}; runs that wait: {entry['waiting']})"
    for entry in answer.get("shortages", ()):
        since = f"since {entry['since'][:19].replace('T', ' ')} UTC"
        lack = "its secrets cannot be read" if entry["reason"] == SECRET_SOURCE else "there is no room"
        yield f"task {entry['taskId']} waits {since}, because {lack}: {render_run.safe(entry['message'])} [{entry['reason']}]"
    for entry in answer.get("startingSlowly", ()):
        message = render_run.safe(entry["message"])
        yield f"run {entry['runId']} of task {entry['taskId']} has not begun: {message} [{entry['reason']}]"


def _silence_lines(answer: dict[str, Any]) -> Iterator[str]:
    """Yield a warning if no worker reports on the pools, for then the figures are old or missing."""
    for report in answer["reports"]:
        if report["ageSeconds"] > _MAX_SILENCE_S:
            place = f" of {report['place']}" if len(answer["reports"]) > 1 else ""
            age = format_roughly(timedelta(seconds=report["ageSeconds"]))
            yield (
                f"no report on the pools{place} for {age}, so the figures are that old: is a worker with "
                "OPTIO_EXECUTOR=kubernetes running?"
            )
    if answer["reports"] or not answer["items"]:
        return
    if answer["executor"] == "process":
        yield (
            "no pods are kept ready: agents run as processes of the worker's machine (OPTIO_EXECUTOR=process), which start at "
            "once; `warmPoolSize` has an effect where OPTIO_EXECUTOR=kubernetes"
        )
    else:
        yield "no worker has reported on these pools yet: is a worker with OPTIO_EXECUTOR=kubernetes running?"


def _names(tasks: list[str]) -> str:
    remainder = f" and {len(tasks) - _MAX_NAMED} more" if len(tasks) > _MAX_NAMED else ""
    return ", ".join(tasks[:_MAX_NAMED]) + remainder


def seconds(milliseconds: int | None) -> str:
    """Return a duration as `84 ms` or `1.25 s`; a dash for None."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.4g} s"


def plan_text(answer: dict[str, Any]) -> str:
    """Return the plan as text for a terminal: for each task the proposal, its reason, and a table of sizes."""
    if not answer["items"]:
        return f"nothing to plan: no task has a pool, a schedule or starts in the last {answer['days']:g} days"
    parts = ["\n".join(_task(item)) for item in answer["items"]]
    if answer["left"]:
        parts.append(f"and {answer['left']} more: raise --limit, or name a task")
    return "\n\n".join(parts)


def _task(item: dict[str, Any]) -> Iterator[str]:
    current, proposed = item["current"], item["proposed"]
    change = f"keep warmPoolSize: {current}" if proposed == current else f"warmPoolSize: {proposed} instead of {current}"
    yield f"{item['taskId']}: {change}"
    yield f"  {item['why']}"
    scheduled = f", {item['scheduledStarts']} by schedule" if item["scheduledStarts"] else ""
    counts = f"{item['measuredStarts']} measured{scheduled}"
    span = format_roughly(timedelta(days=item["days"]))
    yield f"  starts of {span}: {counts}; a pod is replaced in {item['refillSeconds']:.3g} s"
    if item["assumed"]:
        yield f"  not measured yet: {'; '.join(item['assumed'])}"
    if item["sharedWith"]:
        yield f"  shares its pods with {_names(item['sharedWith'])}: together they need fewer pods than these figures"
    columns = [
        output.Column("SIZE", "size", right=True),
        output.Column("WARM", lambda size: f"{100 * size['warmShare']:.1f} %", right=True),
        output.Column("WAIT P50", lambda size: seconds(size["waitMs"]["p50"]), right=True),
        output.Column("P99", lambda size: seconds(size["waitMs"]["p99"]), right=True),
        output.Column("IDLE H/DAY", lambda size: _figure(size["idleHoursPerDay"]), right=True),
        output.Column("CPU-H/DAY", lambda size: _figure(size["cpuHoursPerDay"]), right=True),
        output.Column("GIB-H/DAY", lambda size: _figure(size["memoryGibHoursPerDay"]), right=True),
        output.Column("", lambda size: _mark(size["size"], current, proposed)),
    ]
    yield textwrap.indent(output.listing(columns, {"items": item["sizes"]}, ""), "  ")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _mark(size: int, current: int, proposed: int) -> str:
    words = [word for word, marked_size in (("now", current), ("proposed", proposed)) if size == marked_size]
    return f"<- {', '.join(words)}" if words else ""
