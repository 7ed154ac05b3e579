"""List, show, follow, cancel and retry runs."""

import argparse
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from typing import Any

from optio.cli import OK
from optio.cli.run import follow
from optio.cli.shared import call_list, client, flags, ids, output, render_run, run_list, terminal
from optio.errors import SettingsError
from optio.model.run import RunState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="list runs, newest first")
    listing.add_argument("--task", help="only of this task")
    listing.add_argument("--trigger", choices=["manual", "schedule", "webhook"], help="only started by this trigger")
    listing.add_argument("--since", metavar="TIME", help="only created since then: 2h, 7d, or 2026-01-05T08:00:00Z")
    listing.add_argument("--until", metavar="TIME", help="only created up to then")
    listing.add_argument("--state", choices=[state.value for state in RunState], help="only in this state")
    listing.add_argument("--reason", help="only in a state for this reason, such as oom")
    listing.add_argument(
        "-n", "--limit", type=flags.page_limit, default=20, help="maximum number of runs, up to 200 (default: 20)"
    )
    listing.add_argument("--cursor", help="continue where an earlier list ended")
    listing.add_argument(
        "-w", "--watch", action="store_true", help="go on until Ctrl-C: redraw on a terminal, else print changes"
    )
    for verb, summary in (
        ("show", "show everything about a run: parameters, events, attempts, output"),
        ("logs", "print the log of a run"),
        ("calls", "list the model calls of a run through the gateway, or show one with its request and answer"),
        ("cancel", "stop a running run, or keep a queued one from starting"),
        ("retry", "start a failed run again, with its parameters"),
        ("why", "say why a run waits, or how it ended"),
    ):
        sub = verbs.add_parser(verb, help=summary)
        sub.add_argument("run", metavar="RUN", help=f"its {ids.HELP}")
        if verb == "logs":
            sub.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
            sub.add_argument("--raw", action="store_true", help="text as the agent wrote it, control characters too")
        if verb == "calls":
            sub.add_argument("number", nargs="?", type=int, metavar="NUMBER", help="the call to show")
        if verb in ("logs", "calls"):
            sub.add_argument("--attempt", type=int, help="only this attempt")
    for sub in verbs.choices.values():
        # A log has lines, and calls have numbers, not names.
        has_names = sub not in (verbs.choices["logs"], verbs.choices["calls"])
        output.add_arguments(sub, [name for name in output.FORMATS if has_names or name != output.NAME])
        client.add_arguments(sub)
        if sub not in (verbs.choices["cancel"], verbs.choices["retry"]):
            terminal.add_arguments(sub)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    server = client.Client(flags.read_settings(args))
    if args.verb == "list":
        return run_list.print_list(server, args)
    if args.verb == "logs" and args.follow and args.attempt is not None:
        raise SettingsError("--follow shows every attempt: leave out --attempt")
    args.run = ids.run_id(server, args.run)
    path = f"/api/workflow-runs/{client.quoted(args.run)}"
    if args.verb == "logs":
        return _logs(server, path, args)
    if args.verb == "calls":
        return call_list.print_calls(server, path, args)
    if args.verb in ("cancel", "retry"):
        answer = server.request("POST", f"{path}/{args.verb}")
        output.show(args.output, answer, lambda: render_run.outcome(answer), [answer["id"]])
        return OK
    answer = server.request("GET", path)
    output.show(args.output, answer, lambda: (_reason_text if args.verb == "why" else _details)(answer), [answer["id"]])
    return OK


def _logs(server: client.Client, path: str, args: argparse.Namespace) -> int:
    if args.follow:
        return follow(server, args.run, format=args.output, raw=args.raw, notes=sys.stdout)
    after = 0
    while True:
        page = server.request("GET", f"{path}/logs", query={"after": after, "attempt": args.attempt})
        for item in page["items"]:
            if args.output == output.YAML:
                print(output.document(args.output, [item]))  # one list, whatever the number of pages
            else:
                output.show(args.output, item, partial(render_run.line, item, raw=args.raw))
        if not page["items"]:
            return OK
        after = page["next"]


def _reason_text(run: dict[str, Any]) -> str:
    last = run["events"][-1]
    if run["waiting"]:
        lines = list(_waiting_lines(run["waiting"], run["queuedAt"]))
        if last["from"] == "running":
            lines.append(f"before    {last['reason']}: {render_run.safe(last['message'])}")
        return "\n".join(lines)
    if run["state"] == "running" and run["message"]:
        explanation = f"running since {last['at']}, not begun yet: {render_run.safe(run['message'])} [{run['reason']}]"
    else:
        text = f": {render_run.safe(last['message'])}" if last["message"] else ""
        explanation = f"{run['state']} since {last['at']}: {last['reason']}{text}"
    return "\n".join([explanation, *(text for a in run["attempts"][-1:] for text in _pod_lines(a))])


def _started_at(attempt: dict[str, Any]) -> str:
    """Return when the agent of an attempt started, or when the attempt was claimed if the agent never did."""
    return attempt["startedAt"] or f"claimed {attempt['claimedAt']}, agent not started"


def _pod_lines(attempt: dict[str, Any]) -> Iterator[str]:
    """Yield the pod, node and image of an attempt; nothing for a process."""
    if attempt.get("pod"):
        image = f", image {attempt['image']}" if attempt.get("image") else ""
        yield f"pod  {attempt['namespace']}/{attempt['pod']} on {attempt['node'] or 'no node yet'}{image}"


def _agent_lines(attempt: dict[str, Any]) -> Iterator[str]:
    """Yield what the agent told of itself, and the machine of a process; nothing where neither is known."""
    words = {"agentVersion": "version", "model": "model", "session": "session", "machine": "on", "program": "program"}
    facts = [f"{word} {render_run.safe(attempt[key])}" for key, word in words.items() if attempt.get(key)]
    if facts:
        yield f"agent  {', '.join(facts)}"


def _waiting_lines(waiting: dict[str, Any], since: str) -> Iterator[str]:
    yield f"queued since {since}: {render_run.safe(waiting['message'])} [{waiting['reason']}]"
    if waiting["position"] is not None:
        queue_note = f", {waiting['ahead']} ahead of it" if waiting["ahead"] else ""
        yield f"position  {waiting['position']}{queue_note}"
    if waiting["rule"]:
        yield f"rule      {render_run.safe(waiting['rule'])}"
    if waiting["occupiedBy"]:
        yield "used by   " + "\n          ".join(waiting["occupiedBy"])
    yield f"earliest  {waiting['earliestStart'] or 'unknown'}"


def _details(run: dict[str, Any]) -> str:
    lines = [render_run.outcome(run), f"task     {run['taskId']} ({run['definition']})", f"trigger  {run['trigger']}"]
    if run.get("generation") is not None:
        lines.append(f"served   generation {run['generation']}" + (f", commit {run['commit']}" if run.get("commit") else ""))
    lines += [f"param    {name} = {render_run.safe(str(value))}" for name, value in run["params"].items()]
    lines += ["events"]
    lines += [
        f"  {e['at']}  {e['from'] or ''} -> {e['to']}  {e['reason']}  {render_run.safe(e['message'])}".rstrip()
        for e in run["events"]
    ]
    lines += ["attempts"]
    for a in run["attempts"]:
        start_note = f"  ({a['began']} pod)" if a.get("began") in ("cold", "warm") else ""
        cost = f"{render_run.usd(a['costUsd'])} {render_run.cost_origin(a)}"
        end_note = f"{a['reason'] or 'running'}  {render_run.safe(a['message'] or '')}  {cost}".rstrip()
        lines.append(f"  {a['number']}  {_started_at(a)}{start_note}  {end_note}")
        lines += [f"     {text}" for text in (*_pod_lines(a), *_agent_lines(a))]
        if a.get("modelCalls"):
            lines.append(f"     model calls  {a['modelCalls']}, see `optio runs calls`")
    if run["output"]:
        lines += ["output", *[f"  {render_run.safe(text)}" for text in run["output"].splitlines()]]
    if run.get("result") is not None:
        lines += ["result", textwrap.indent(render_run.as_json(run["result"]), "  ")]
    return "\n".join(lines)
