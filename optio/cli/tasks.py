"""List the served tasks; show one, or the definition that a run used; pause a task, so that none of its runs start, and resume
it; release a held removal."""

import argparse
from typing import Any

from optio.cli import FAILED, OK
from optio.cli.shared import client, flags, output, terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list", help="list every task, and whether it is paused")
    show_parser = verbs.add_parser("show", help="print a served task, or the definition with a digest, as YAML")
    choice = show_parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("task", nargs="?", metavar="TASK", help="the task's id")
    choice.add_argument("--digest", help="digest of a definition, as `optio runs show` prints it: sha256:...")
    pause = verbs.add_parser("pause", help="start no more runs of a task: queued runs wait, running ones go on")
    pause.add_argument("--reason", default="", help="shown to everyone who asks why a run waits")
    resume = verbs.add_parser("resume", help="end a pause: queued runs may start again")
    release = verbs.add_parser("release", help="remove held tasks, whose files were deleted; without a digest, list them")
    release.add_argument("digest", nargs="?", metavar="DIGEST", help="digest of the held removal, from the list")
    for sub in (pause, resume):
        sub.add_argument("task", metavar="TASK", help="the task's id")
    for sub in verbs.choices.values():
        output.add_arguments(sub, default=output.YAML if sub is show_parser else output.TABLE)
        client.add_arguments(sub)
    for name in ("list", "show"):
        terminal.add_arguments(verbs.choices[name])


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    server = client.Client(flags.read_settings(args))
    if args.verb == "list":
        answer = server.request("GET", "/api/tasks")
        as_text = lambda: output.listing(_COLUMNS, answer, "no tasks", wide=args.output == output.WIDE)  # noqa: E731
        output.show(args.output, answer, as_text, (item["id"] for item in answer["items"]))
        return OK
    if args.verb == "show":
        path = f"/api/tasks/{client.quoted(args.task)}" if args.task else f"/api/definitions/{client.quoted(args.digest)}"
        answer = server.request("GET", path)
        output.show(args.output, answer, lambda: output.document(output.YAML, answer), [answer["id"]])
        return OK
    if args.verb == "release":
        return _release(server, args.digest, args.output)
    body = {"reason": args.reason} if args.verb == "pause" else None
    answer = server.request("POST", f"/api/tasks/{client.quoted(args.task)}/{args.verb}", body=body)
    paused = f"is paused: `optio tasks resume {args.task}` ends it" if args.verb == "pause" else "is not paused"
    output.show(args.output, answer, lambda: f"{args.task} {paused}", [args.task])
    return OK


def _release(server: client.Client, digest: str | None, format: str) -> int:
    if digest is not None:
        answer = server.request("POST", "/api/registry/removal/release", body={"digest": digest})
        output.show(format, answer, lambda: f"{answer['count']} tasks are removed, {answer['served']} are served", [digest])
        return OK
    removal = server.request("GET", "/api/registry").get("removal")
    output.show(format, removal, lambda: _removal_text(removal), removal["tasks"] if removal else ())
    return OK if removal is None else FAILED


def _removal_text(removal: dict[str, Any] | None) -> str:
    if removal is None:
        return "no removal is held"
    lines = [f"{removal['count']} of {removal['total']} tasks are held since {removal['since']}, their files were deleted:"]
    lines += [f"  {task_id}" for task_id in removal["tasks"]]
    if removal["count"] > len(removal["tasks"]):
        lines.append(f"  and {removal['count'] - len(removal['tasks'])} more")
    return "\n".join([*lines, f"restore the files, or run `{removal['release']}` to remove the tasks"])


def _state(task: dict[str, Any]) -> str:
    words = [] if task["enabled"] else ["disabled"]
    if task["paused"]:
        reason_text = f": {task['paused']['reason']}" if task["paused"]["reason"] else ""
        words.append(f"paused by {task['paused']['by']}{reason_text}")
    if task["stale"]:
        words.append("its file has errors")
    if task.get("held"):
        words.append("its file was deleted, its removal is held")
    return ", ".join(words) or "served"


_COLUMNS = (
    output.Column("TASK", "id"),
    output.Column("NAME", "name", free=True),
    output.Column("STATE", _state, free=True),
    output.Column("PRIORITY", "priority", right=True, drop=1),
    output.Column("AT ONCE", "maxConcurrent", right=True, drop=2),
    output.Column("TRIGGERS", lambda task: ", ".join(trigger["type"] for trigger in task["triggers"]), wide=True),
    output.Column("RUNTIME", "agentRuntime", wide=True),
    output.Column("MODEL", lambda task: output.compact(task.get("model")), wide=True),
    output.Column("OWNER", lambda task: output.compact(task.get("owner")), wide=True),
    output.Column("NAMESPACE", lambda task: output.compact(task.get("namespace")), wide=True),
    output.Column("FILE", lambda task: f"{task['origin']['path']}:{task['origin']['line']}", wide=True),
    output.Column("DEFINITION", "digest", wide=True),
)
