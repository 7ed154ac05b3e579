"""GitHub's payloads: the types of what tasks usually map, and what may be null, against the parameters that they fill."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from optio.compiler.checks import plain
from optio.compiler.checks.declared import Declared, declared
from optio.compiler.diagnostics import Diagnostic, closest
from optio.compiler.resolve import ResolvedTask
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

# Kinds of objects: a field's type, `@kind` for an object of a kind; `?` where it may be null. What is not here nobody knows.
_KINDS: dict[str, dict[str, str]] = {
    "repository": {
        "id": "integer", "node_id": "string", "name": "string", "full_name": "string", "private": "boolean", "owner": "@owner",
        "html_url": "string", "description": "string?", "fork": "boolean", "url": "string", "homepage": "string?",
        "size": "integer", "stargazers_count": "integer", "language": "string?", "archived": "boolean",
        "forks_count": "integer", "open_issues_count": "integer", "default_branch": "string", "topics": "array",
        "visibility": "string", "clone_url": "string", "ssh_url": "string",
    },
    "owner": {"login": "string", "id": "integer", "html_url": "string", "type": "string"},
    "user": {"login": "string", "id": "integer", "html_url": "string", "type": "string", "site_admin": "boolean"},
    "pusher": {"name": "string"},
    "commit": {"id": "string", "message": "string", "timestamp": "string", "author": "@author", "committer": "@author"},
    "author": {"name": "string"},
    "issue": {
        "id": "integer", "number": "integer", "title": "string", "body": "string?", "state": "string", "html_url": "string",
        "user": "@user", "labels": "array", "locked": "boolean", "assignee": "@user?", "assignees": "array",
        "milestone": "@milestone?", "comments": "integer", "created_at": "string", "updated_at": "string",
        "closed_at": "string?", "author_association": "string",
    },
    "milestone": {"id": "integer", "number": "integer", "title": "string", "description": "string?"},
    "comment": {"id": "integer", "body": "string", "html_url": "string", "user": "@user", "created_at": "string"},
    "pull_request": {
        "id": "integer", "number": "integer", "title": "string", "body": "string?", "state": "string", "html_url": "string",
        "diff_url": "string", "user": "@user", "labels": "array", "draft": "boolean", "merged": "boolean", "locked": "boolean",
        "assignee": "@user?", "assignees": "array", "milestone": "@milestone?", "head": "@branch", "base": "@branch",
        "merged_at": "string?", "merged_by": "@user?", "merge_commit_sha": "string?", "closed_at": "string?",
        "created_at": "string", "updated_at": "string", "commits": "integer", "additions": "integer", "deletions": "integer",
        "changed_files": "integer", "comments": "integer", "author_association": "string",
    },
    "branch": {"label": "string", "ref": "string", "sha": "string", "repo": "@repository?"},
    "release": {
        "id": "integer", "tag_name": "string", "target_commitish": "string", "name": "string?", "body": "string?",
        "draft": "boolean", "prerelease": "boolean", "html_url": "string", "author": "@user", "assets": "array",
    },
    "workflow_run": {
        "id": "integer", "name": "string?", "head_branch": "string?", "head_sha": "string", "event": "string",
        "status": "string", "conclusion": "string?", "run_number": "integer", "run_attempt": "integer",
        "workflow_id": "integer", "html_url": "string", "path": "string", "display_title": "string", "actor": "@user",
        "pull_requests": "array",
    },
    "organization": {"login": "string", "id": "integer", "description": "string?"},
    "installation": {"id": "integer"},
    "": {
        "action": "string", "number": "integer", "ref": "string", "before": "string", "after": "string", "created": "boolean",
        "deleted": "boolean", "forced": "boolean", "base_ref": "string?", "compare": "string", "commits": "array",
        "head_commit": "@commit?", "pusher": "@pusher", "repository": "@repository", "sender": "@user", "issue": "@issue",
        "comment": "@comment", "pull_request": "@pull_request", "release": "@release", "workflow_run": "@workflow_run",
        "organization": "@organization", "installation": "@installation",
    },
}  # fmt: skip
# What a delivery of the event has at its top; an organization's, an enterprise's and an app's have one key more.
_EVENTS: dict[str, tuple[str, ...]] = {
    "push": (
        *("ref", "before", "after", "created", "deleted", "forced", "base_ref", "compare", "commits", "head_commit"),
        *("repository", "pusher", "sender"),
    ),
    "pull_request": ("action", "number", "pull_request", "repository", "sender"),
    "issues": ("action", "issue", "repository", "sender"),
    "issue_comment": ("action", "issue", "comment", "repository", "sender"),
    "release": ("action", "release", "repository", "sender"),
    "workflow_run": ("action", "workflow", "workflow_run", "repository", "sender"),
}
_ALWAYS = frozenset(
    {"organization", "enterprise", "installation", "changes", "assignee", "label", "milestone", "requested_reviewer"}
)
_STEP = re.compile(r"\.(\w+)|\[(?:(-?[0-9]+)|'([^']*)'|\"([^\"]*)\")\]", re.ASCII)
# Each may cost a search for what was meant, and nobody maps more.
_MOST_PATHS = 100
_WORDS = {"integer": "an integer", "boolean": "true or false", "string": "a string", "array": "a list", "object": "an object"}


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Where the scheme says that GitHub sends."""
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config", "paramMapping")
        if not isinstance(trigger, WebhookTrigger) or trigger.config.scheme != "github" or not task.knows(route):
            continue
        known = declared(task)
        paths = ((name, source) for name, source in (trigger.config.param_mapping or {}).items() if isinstance(source, str))
        for name, source in islice(paths, _MOST_PATHS):
            if known is not None and (steps := _steps(source)):
                yield from _one(task, (*route, name), source, steps, trigger.config, known)


def _steps(source: str) -> tuple[str, ...]:
    """The names and indices of a path that has nothing else; of any other, and of the root, none."""
    if not plain.is_path(source):
        return ()
    return tuple(next(filter(None, found)) for found in _STEP.findall(source))


def _one(
    task: ResolvedTask, route: Route, source: str, steps: tuple[str, ...], config: WebhookConfig, known: Declared
) -> Iterator[Diagnostic]:
    if not task.samples and (lost := _lost(task, route, source, steps, config)) is not None:
        yield lost
        return
    kind, null, above = _type(steps)
    sub = known.properties.get(str(route[-1]))
    taken = _taken(sub)
    if kind is None or taken is None:
        return
    name, when = str(route[-1]), config.when or ""
    if kind not in taken and not (kind == "integer" and "number" in taken):
        wanted = " or ".join(_WORDS.get(each, each) for each in taken)
        message = f"`{source}` is {_WORDS[kind]}, and `{name}` takes {wanted}: every delivery would be refused"
        hint = f"write `type: {kind}` under `paramsSchema.properties.{name}`"
        if kind == "object" and (fields := _KINDS[_kind(steps)]):
            hint = f"map a field of it, such as `{source}.{'login' if 'login' in fields else next(iter(fields))}`"
        yield task.at("OPT412", message, route, hint=hint)
    elif null and "null" not in taken and source.lstrip("$") not in when:
        message = f"`{source}` may be null, and `{name}` takes {_WORDS[kind]}: such a delivery is refused"
        hint = f'write `type: [{kind}, "null"]`, or leave such deliveries out: `when: "@{source[1:]} != null"`'
        yield task.at("OPT412", message, route, hint=hint)
    elif above is not None and name in known.required and not known.has_default(name) and not when:
        parent = "$." + ".".join(steps[:above])
        message = f"`{parent}` may be null, and then nothing fills `{name}`: such a delivery is refused"
        hint = f'give `{name}` a default, or leave such deliveries out: `when: "@{parent[1:]} != null"`'
        yield task.at("OPT412", message, route, hint=hint)


def _lost(task: ResolvedTask, route: Route, source: str, steps: tuple[str, ...], config: WebhookConfig) -> Diagnostic | None:
    """A path that begins with what no delivery of these events has, and looks like one that begins otherwise."""
    events = config.events or tuple(_EVENTS)
    if steps[0] in _ALWAYS or not all(event in _EVENTS for event in events):
        return None
    tops = {top for event in events for top in _EVENTS[event]}
    if steps[0] in tops or (config.events is None and steps[0] in _KINDS[""]):
        return None
    inner = ((top, _KINDS[""].get(top, "").strip("@?")) for top in sorted(tops))
    sent = "of " + " or ".join(f"`{event}`" for event in events) if config.events else "of GitHub"
    message = f"`{source}` finds nothing in a delivery {sent}"
    others = [f"`{event}`" for event, its in _EVENTS.items() if steps[0] in its]
    if others:
        return task.at("OPT413", message, route, hint=f"delete it, or take deliveries that have it: {' or '.join(others)}")
    meant = closest(source, [path for top, kind in inner for path in (f"$.{top}", *_paths(top, kind))])
    return None if meant is None else task.at("OPT413", message, route, hint=f"did you mean `{meant}`?")


def _paths(top: str, kind: str) -> Iterator[str]:
    yield from (f"$.{top}.{field}" for field in _KINDS.get(kind, ()))


def _type(steps: tuple[str, ...]) -> tuple[str | None, bool, int | None]:
    """The type at the end of a path, whether it may be null, and how far it is to what above it may be null."""
    kind, above = "@", None
    null = False
    for index, step in enumerate(steps):
        if null and above is None:
            above = index
        kind = _KINDS.get(kind[1:], {}).get(step, "") if kind.startswith("@") else ""
        null, kind = kind.endswith("?"), kind.rstrip("?")
        if not kind:
            return None, False, None
    return ("object" if kind.startswith("@") else kind), null, above


def _kind(steps: tuple[str, ...]) -> str:
    """The kind of object at the end of a path."""
    kind = ""
    for step in steps:
        kind = _KINDS[kind][step].strip("@?")
    return kind


def _taken(sub: Any) -> list[str] | None:
    """The types that a parameter takes, or None where its schema says nothing of them."""
    types = sub.get("type") if isinstance(sub, dict) else None
    if isinstance(types, str):
        return [types]
    return [str(each) for each in types] if isinstance(types, list) and types else None
