"""`optio hook replay`: judge past deliveries again, by the tasks that are served now, by a directory, or by a revision of
it."""

import argparse
import base64
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optio.cli import FAILED, OK, print_error
from optio.cli.shared import client, flags, ids, output, render_run, terminal
from optio.cli.shared.time_arg import time_range
from optio.compiler.diagnostics import Severity
from optio.compiler.pipeline import compile_tree
from optio.compiler.report import render_concise
from optio.compiler.source_tree import DirectoryTree, SourceTree
from optio.errors import SettingsError
from optio.model.registry import Registry
from optio.runs import webhook_decision
from optio.runs.replay import DeliveryDecision, diff, differences
from optio.server import serializers
from optio.server.bodies.deliveries import DecisionBody
from optio.tree.revision import tree_at

# Deliveries judged by one command.
MAX_DELIVERIES = 10_000
_MAX_DIFF_LINES = 200

Judge = Callable[[str], dict[str, Any]]


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 1 if a delivery could not be judged, a run could not be started, or a file of the tree has
    errors."""
    _check_options(args)
    settings = flags.read_settings(args)
    server = client.Client(settings)
    has_errors = False
    if args.rev is not None or args.tasks is not None:
        registry, has_errors = _registry(settings.tasks, args.rev)
        ask: Judge = lambda key: _judge_here(server, registry, key)  # noqa: E731 - one of two ways
    else:
        ask = lambda key: _judge_on_server(server, key, start=args.yes, again=args.again)  # noqa: E731
    with terminal.progress("asking for deliveries") as doing:
        decisions = []
        keys = _delivery_ids(server, args)
        for number, key in enumerate(keys, 1):
            doing.text = f"judging deliveries, {number:,} of {len(keys):,}"
            decisions.append(_judge_safely(ask, key))
    items_shown = [item for item in decisions if not args.diff or item.get("differs") or item.get("error")]
    lines = (text(item, with_diff=args.diff) for item in items_shown)
    as_text = lambda: "\n".join([*lines, summary(decisions, is_started=args.yes)])  # noqa: E731 - only where text is asked for
    output.show(args.output, items_shown, as_text, (item["deliveryId"] for item in items_shown))
    return FAILED if has_errors or any(item.get("error") for item in decisions) else OK


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that would have no effect."""
    if (args.delivery is None) == (args.since is None):
        raise SettingsError("give the id of one delivery, or --since for all since a time")
    for name in ("until", "path", "verdict"):
        if args.since is None and getattr(args, name) is not None:
            raise SettingsError(f"--{name} needs --since")
    if args.again and not args.yes:
        raise SettingsError("--again needs --yes: without it no run is started")
    if args.yes and (args.rev is not None or args.tasks is not None):
        raise SettingsError("--yes starts runs of served tasks only: leave out --rev and --tasks")


def _registry(root: Path, revision: str | None) -> tuple[Registry, bool]:
    """Return the tasks of a tree, and whether one of its files has errors."""
    tree: SourceTree
    if revision is not None:
        tree, commit = tree_at(root, revision)
        name = f"{commit[:12]}:{root}"
    elif root.is_dir():
        tree, name = DirectoryTree(root), str(root)
    else:
        raise SettingsError(f"there is no task directory `{root}`")
    compilation = compile_tree(tree)
    errors = [diagnostic for diagnostic in compilation.diagnostics if diagnostic.severity is Severity.ERROR]
    if errors:
        print_error("\n".join(f"{name}/{line}" for line in render_concise(errors)))
    return compilation.registry, bool(errors)


def _delivery_ids(server: client.Client, args: argparse.Namespace) -> list[str]:
    """Return delivery ids, oldest first, at most `MAX_DELIVERIES`."""
    if args.delivery is not None:
        return [ids.delivery_id(server, args.delivery)]
    since, until = time_range(args, datetime.now(UTC))
    query = {
        "since": since,
        "until": until,
        "path": args.path,
        "verdict": args.verdict,
        "limit": 200,
    }
    delivery_ids: list[str] = []
    cursor: str | None = None
    while True:
        page = server.request("GET", "/api/deliveries", query={**query, "cursor": cursor})
        delivery_ids += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None or len(delivery_ids) >= MAX_DELIVERIES:
            break
    if cursor is not None:
        print_error(f"more than {MAX_DELIVERIES:,} deliveries: only the newest {len(delivery_ids):,} are judged")
    return delivery_ids[::-1]


def _judge_safely(ask: Judge, key: str) -> dict[str, Any]:
    """Judge one delivery; a refusal of the server for this delivery becomes its error. Raises ServerRefused without server or
    rights."""
    try:
        return ask(key)
    except client.ServerRefused as err:
        if err.status not in (404, 409, 429):
            raise
        return {"deliveryId": key, "error": str(err)}


def _judge_on_server(server: client.Client, key: str, *, start: bool, again: bool) -> dict[str, Any]:
    """Return the server's judgement. With `start` also start the run, unless the delivery has one and `again` is not set."""
    path = f"/api/deliveries/{client.quoted(key)}/replay"
    decision: dict[str, Any] = server.request("POST", path, body={"dryRun": True})
    if start and decision["now"]["verdict"] == "accepted" and (again or decision["hasRun"] is None):
        decision = server.request("POST", path, body={"again": again})
    return decision


def _judge_here(server: client.Client, registry: Registry, key: str) -> dict[str, Any]:
    """Judge a delivery that the server keeps by the tasks of a local registry."""
    delivery = server.request("GET", f"/api/deliveries/{client.quoted(key)}", query={"body": "base64"})
    if delivery["bodyBase64"] is None:
        return {"deliveryId": key, "error": "the body of this delivery is not stored"}
    earlier = DeliveryDecision(verdict=delivery["verdict"], detail=delivery["detail"], task_id=delivery["taskId"])
    if delivery["verdict"] == "accepted" and delivery["runId"] is not None:
        earlier = _with_run(server, earlier, delivery["runId"])
    now, _ = webhook_decision.decide_again(
        registry, delivery["path"], delivery["headers"], base64.b64decode(delivery["bodyBase64"])
    )
    return {
        "deliveryId": key,
        "path": delivery["path"],
        "receivedAt": delivery["receivedAt"],
        "hasRun": delivery["runId"],
        "replayedAs": None,
        "then": serializers.to_json(serializers.to_body(DecisionBody, earlier)),
        "now": serializers.to_json(serializers.to_body(DecisionBody, now)),
        "differs": differences(earlier, now),
        "diff": diff(earlier, now),
        "runId": None,
    }


def _with_run(server: client.Client, earlier: DeliveryDecision, run_id: str) -> DeliveryDecision:
    try:
        run = server.request("GET", f"/api/workflow-runs/{client.quoted(run_id)}")
    except client.ServerRefused as err:
        if err.status != 404:
            raise
        return earlier
    return DeliveryDecision(
        verdict=earlier.verdict,
        task_id=earlier.task_id,
        definition=run["definition"],
        params=run["params"],
        prompt=run["prompt"],
    )


def text(item: dict[str, Any], *, with_diff: bool) -> str:
    """Return one delivery as a line, with the diff below it if asked for."""
    if "error" in item:
        return f"{item['deliveryId']}  {render_run.coloured('not replayed', '31')}: {render_run.safe(item['error'])}"
    earlier, now = item["then"], item["now"]
    differences = [name for name in item["differs"] if name != "verdict"]
    verdict = now["verdict"] if earlier["verdict"] == now["verdict"] else f"{earlier['verdict']} -> {now['verdict']}"
    if differences:
        verdict += f", {' and '.join(differences)} differ{'' if len(differences) > 1 else 's'}"
    elif not item["differs"]:
        verdict += " as then"
    if not _is_run(now) and now["detail"]:
        verdict += f" ({render_run.safe(now['detail'])})"
    if item.get("duplicate"):
        verdict += f": a duplicate of run {item['runId']} by its key"
    elif item["replayedAs"] is not None:
        verdict += f": replayed before as run {item['replayedAs']}"
    elif item["runId"] is not None:
        verdict += f": started run {item['runId']}"
    elif item["hasRun"] is not None and _is_run(now):
        verdict += f": it has run {item['hasRun']}"
    time_text = item["receivedAt"][:19].replace("T", " ")
    line = f"{time_text}  {render_run.safe(item['path'])}  {item['deliveryId']}  {verdict}"
    if not with_diff or not item["diff"]:
        return line
    lines = item["diff"].splitlines()
    remainder = [f"    ... {len(lines) - _MAX_DIFF_LINES:,} more lines"] if len(lines) > _MAX_DIFF_LINES else []
    return "\n".join([line, *(f"    {_coloured(diff_line)}" for diff_line in lines[:_MAX_DIFF_LINES]), *remainder])


def summary(decisions: list[dict[str, Any]], *, is_started: bool) -> str:
    """Return the totals as one line."""
    judged = [item for item in decisions if "error" not in item]
    differ = sum(bool(item["differs"]) for item in judged)
    parts = [
        "1 delivery" if len(decisions) == 1 else f"{len(decisions):,} deliveries",
        f"{differ:,} differ{'s' if differ == 1 else ''}",
    ]
    if len(judged) < len(decisions):
        parts.append(f"{len(decisions) - len(judged):,} could not be replayed")
    if is_started:
        parts.append(f"{sum(item['runId'] is not None and item['replayedAs'] is None for item in judged):,} started")
    else:
        would = sum(_is_run(item["now"]) and item["hasRun"] is None and item["replayedAs"] is None for item in judged)
        parts.append(f"{would:,} would start a run now but did not before")
    return ", ".join(parts)


def _is_run(judgement: dict[str, Any]) -> bool:
    return bool(judgement["verdict"] == "accepted")


def _coloured(line: str) -> str:
    text = render_run.safe(line)
    return render_run.coloured(text, "31" if line.startswith("-") else "32" if line.startswith("+") else "2")
