"""List the served tasks; show one, or the definition that a run used; pause a task, so that none of its runs start, and resume
it; release a held removal."""

import argparse
from typing import Any

from optio.cli import FAILED, OK
from optio.cli.shared import client, flags, render_run
from optio.compiler.yaml.emit import dump


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list", help="every task, and whether it is paused")
    shown = verbs.add_parser("show", help="a served task, or the definition with a digest, as YAML")
    which = shown.add_mutually_exclusive_group(required=True)
    which.add_argument("task", nargs="?", help="the task's id")
    which.add_argument("--digest", help="digest of a definition, as `optio runs show` prints it: sha256:...")
    pause = verbs.add_parser("pause", help="start no more runs of a task: queued runs wait, running ones go on")
    pause.add_argument("--reason", default="", help="shown to everyone who asks why a run waits")
    resume = verbs.add_parser("resume", help="end a pause")
    release = verbs.add_parser("release", help="remove held tasks, whose files were deleted; without a digest, list them")
    release.add_argument("digest", nargs="?", help="digest of the held removal, from the list")
    for sub in (pause, resume):
        sub.add_argument("task", help="the task's id")
    for sub in verbs.choices.values():
        sub.add_argument("--json", action="store_true", help="for programs")
        client.add_arguments(sub)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    server = client.Client(flags.read_settings(args))
    if args.verb == "list":
        found = server.request("GET", "/api/tasks")
        print(render_run.as_json(found) if args.json else _table(found["items"]))
        return OK
    if args.verb == "show":
        path = f"/api/tasks/{client.quoted(args.task)}" if args.task else f"/api/definitions/{client.quoted(args.digest)}"
        found = server.request("GET", path)
        print(render_run.as_json(found) if args.json else dump(found), end="\n" if args.json else "")
        return OK
    if args.verb == "release":
        return _release(server, args.digest, args.json)
    body = {"reason": args.reason} if args.verb == "pause" else None
    found = server.request("POST", f"/api/tasks/{client.quoted(args.task)}/{args.verb}", body=body)
    if args.json:
        print(render_run.as_json(found))
    elif args.verb == "pause":
        print(f"{args.task} is paused: `optio tasks resume {args.task}` ends it")
    else:
        print(f"{args.task} is not paused")
    return OK


def _release(server: client.Client, digest: str | None, as_json: bool) -> int:
    if digest is not None:
        done = server.request("POST", "/api/registry/removal/release", body={"digest": digest})
        print(render_run.as_json(done) if as_json else f"{done['count']} tasks are removed, {done['served']} are served")
        return OK
    removal = server.request("GET", "/api/registry").get("removal")
    if as_json:
        print(render_run.as_json(removal))
    elif removal is None:
        print("no removal is held")
    else:
        print(f"{removal['count']} of {removal['total']} tasks are held since {removal['since']}, their files were deleted:")
        print("\n".join(f"  {task_id}" for task_id in removal["tasks"]))
        if removal["count"] > len(removal["tasks"]):
            print(f"  and {removal['count'] - len(removal['tasks'])} more")
        print(f"restore the files, or run `{removal['release']}` to remove the tasks")
    return OK if removal is None else FAILED


def _table(tasks: list[dict[str, Any]]) -> str:
    rows = [[task["id"], task["name"], _state(task), str(task["priority"]), str(task["maxConcurrent"])] for task in tasks]
    return render_run.table(["TASK", "NAME", "STATE", "PRIORITY", "AT ONCE"], rows) if rows else "no tasks"


def _state(task: dict[str, Any]) -> str:
    words = [] if task["enabled"] else ["disabled"]
    if task["paused"]:
        why = f": {task['paused']['reason']}" if task["paused"]["reason"] else ""
        words.append(f"paused by {task['paused']['by']}{why}")
    if task["stale"]:
        words.append("its file has errors")
    if task.get("held"):
        words.append("its file was deleted, its removal is held")
    return ", ".join(words) or "served"
