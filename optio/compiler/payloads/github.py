"""Follow paths into GitHub's payloads: the type at the end, whether a step may be null, and suggestions for wrong paths."""

import re
from collections.abc import Iterator, Sequence
from itertools import dropwhile
from typing import NamedTuple

from optio.compiler.payloads import github_events, query_fast_path
from optio.compiler.payloads.github_fields import ALWAYS, EVENTS, FURTHER, KINDS, TOPS
from optio.compiler.suggest import suggest
from optio.model.trigger import WebhookConfig

# Names that other systems put around the payload.
_AROUND = frozenset({"github", "event", "body", "payload", "data", "request", "json", "trigger"})


# Fields to suggest, the most useful ones first.
_USUAL = ("number", "title", "body", "state", "name", "full_name", "login", "id", "html_url", "ref", "sha", "message", "user")


# What stands behind a list in a path: its first item, or all.
FIRST_ITEM, ALL_ITEMS = "[0]", "[*]"
_MAX_SUGGESTED = 4


_FIELDS = frozenset(name for fields in KINDS.values() for name in fields)


# Depth of objects that are suggested.
_MAX_DEPTH = 2


# Fields that only some deliveries of an event have, for instance those of `synchronize`.
_SOMETIMES = {"pull_request": ("after", "before", "reason", "requested_team")}


# The same value (commit, branch) in other events.
_SAME = {
    ("head_commit", "id"): {"pull_request": "pull_request.head.sha", "workflow_run": "workflow_run.head_sha"},
    ("pull_request", "head", "sha"): {"push": "after", "workflow_run": "workflow_run.head_sha"},
    ("pull_request", "head", "ref"): {"push": "ref", "workflow_run": "workflow_run.head_branch"},
    ("head_commit", "message"): {"pull_request": "pull_request.title"},
}


# Fields of GitHub's GraphQL and of `gh --json`, and those of a delivery.
_GRAPHQL = {
    "nameWithOwner": "full_name", "databaseId": "id", "headRefName": "head.ref", "baseRefName": "base.ref",
    "headRefOid": "head.sha", "baseRefOid": "base.sha", "author": "user", "isDraft": "draft", "isPrivate": "private",
    "bodyText": "body", "permalink": "html_url", "primaryLanguage": "language", "defaultBranchRef": "default_branch",
}  # fmt: skip


# Other words for a field, in any object or in those of one kind.
_OTHER_NAMES = {
    "repo": ("repository",), "author": ("user",), "actor": ("sender",), "branch": ("ref", "head_branch"),
    "sha": ("after", "head_sha"), "commit.sha": ("id",), "commit.hash": ("id",), "commit": ("head_commit",),
    **dict.fromkeys(("text", "content", "description", "summary"), ("body",)), "subject": ("title",), "name": ("title",),
    "status": ("state",), **dict.fromkeys(("tag", "version"), ("tag_name",)), "label": ("labels[0]",),
}  # fmt: skip
# The field that an object is named by.
_NAMES = {"repository": ".full_name", "user": ".login", "owner": ".login", "commit": ".id"}
# The object that a delivery of an event is about, where it has another name than the event.
_OWN_OBJECTS = {
    "issues": "issue", "pull_request_review": "review", **dict.fromkeys(
        ("issue_comment", "pull_request_review_comment", "commit_comment", "discussion_comment"), "comment"
    ), **dict.fromkeys(("dependabot_alert", "code_scanning_alert", "secret_scanning_alert"), "alert"), "push": "head_commit",
}  # fmt: skip


WORDS = {"integer": "an integer", "boolean": "true or false", "string": "a string", "array": "a list", "object": "an object"}


def _fields(kind: str) -> dict[str, str]:
    """Return the fields of an object with their types, from the hand-written table and the generated one."""
    if kind in KINDS:
        return KINDS[kind]

    return github_events.fields()[kind]


def _field(kind: str, step: str) -> str | None:
    found = _fields(kind).get(step)
    if found is None and not kind:
        return f"@{step}" if step in github_events.fields() else None
    return found


def top_fields(event: str) -> tuple[str, ...] | None:
    """Return the top-level fields of an event's delivery, or None for an unknown event."""
    if event in EVENTS:
        return (*EVENTS[event], *_SOMETIMES.get(event, ()))

    return github_events.tops().get(event)


def paths_sent(events: Sequence[str]) -> dict[str, str]:
    """Return the paths into deliveries of these events with their types, two objects deep; without events, of the usual
    ones."""
    known = [tops for event in events or EVENTS if (tops := top_fields(event)) is not None]
    found: dict[str, str] = {}
    ahead = [("$", {top: _field("", top) or "" for tops in known for top in (*tops, "organization", "installation")})]
    for path, fields in ahead:
        for name, its in fields.items():
            found[f"{path}.{name}"] = "object" if its.startswith("@") else its
            if its.startswith("@") and path.count(".") < _MAX_DEPTH:
                ahead.append((f"{path}.{name}", _fields(its.strip("@?"))))
    return found


def suggest_github_path(steps: tuple[str, ...]) -> str | None:
    """Return the path that a path with a misspelt step probably means, or None."""
    kind = ""
    for index, step in enumerate(steps):
        field = _field(kind, step)
        if field is None:
            known, further = _fields(kind), FURTHER.get(kind, ()) if kind else None
            below = steps[index + 1 :]
            if further is None or step in further or not all(name.isidentifier() for name in below):
                return None
            if (other := _GRAPHQL.get(step)) is not None and (first := known.get(other.partition(".")[0])) is not None:
                return ".".join(("$", *steps[:index], other, *(below if other in known and first.startswith("@") else ())))
            # A kind with fields is an object.
            objects = [name for name, its in known.items() if its.startswith("@")]
            meant = suggest(step, objects if below else [*known, *further])
            return None if meant is None else ".".join(("$", *steps[:index], meant, *below))
        if not field.startswith("@"):
            return None
        kind = field.strip("@?")
    return None


class MissingPath(NamedTuple):
    """A path that finds nothing: `where` ("in a push"), the hint, and the path that was probably meant."""

    where: str
    hint: str
    meant: str | None = None


def _missing_below(steps: tuple[str, ...], tops: tuple[str, ...], item: str) -> MissingPath | None:
    """Return why a path below a known object or list ends nowhere. `tops` are the levels that each of the events has."""
    kind, where = "", "in a delivery of GitHub"
    for index, step in enumerate(steps):
        below, parent = steps[index + 1 :], ".".join(("$", *steps[:index]))
        if kind and step not in KINDS[kind] and step not in FURTHER.get(kind, (step,)):
            if there := _found_elsewhere(steps[:index], step, below, tops, item):
                hint = f"`{parent}` has no `{step}`: write {' or '.join(f'`{path}`' for path in there)}"
                return MissingPath(where, hint, there[0] if len(there) == 1 else None)
            fields = [name for name in _USUAL if name in KINDS[kind]] or list(KINDS[kind])
            named = ", ".join(f"`{name}`" for name in fields[:_MAX_SUGGESTED])
            hint = f"`{parent}` has {named} and others, but no `{step}`: write an existing one, such as `{parent}.{fields[0]}`"
            return MissingPath(where, hint)
        field = KINDS[kind].get(step, "").rstrip("?")
        if field == "array" and below and not re.fullmatch(r"-?\d+|length|size|count", below[0]):
            is_last = item == FIRST_ITEM and steps[:1] == ("commits",) and kind == ""
            last = ".".join(("$.head_commit", *below)) if is_last else None
            write = f"write `{last}`, which is of the last one" if last else f"write `{parent}.{step}{item}.{'.'.join(below)}`"
            return MissingPath(where, f"`{parent}.{step}` is a list: {write}", last)
        if not field.startswith("@"):
            if field in ("string", "integer", "boolean") and below:
                return MissingPath(where, f"write `{parent}.{step}`, which is {WORDS[field]} and has no fields")
            return None
        kind = field.strip("@")
    return None


def _found_elsewhere(above: tuple[str, ...], step: str, below: tuple[str, ...], tops: tuple[str, ...], item: str) -> list[str]:
    """Return at most two paths of the same deliveries that end in these names or in others with this meaning: in the object
    above, beside it, at the top, or in an object below it."""
    kind, found = kind_of(above), list[str]()
    for name in (step, *_OTHER_NAMES.get(f"{kind}.{step}", ()), *_OTHER_NAMES.get(step, ())):
        names = (*name.removesuffix(FIRST_ITEM).split("."), *below)
        tries = [(*above, *names)]
        tries += [names] if name in tops else []
        tries += [(*above[:index], *names) for index in range(len(above) - 1, 0, -1)]
        tries += [(*above, each, *names) for each, its in _fields(kind).items() if its == "@branch"]
        for each in tries:
            if name.endswith(FIRST_ITEM) and type_of(each[: len(each) - len(below)])[0] == "array":
                items = name.removesuffix(FIRST_ITEM)
                found.append(".".join(("$", *each)).replace(items, items + item))
            elif type_of(each)[0] is not None:
                found.append(".".join(("$", *each)))
    named = [path + _NAMES.get(kind_of(tuple(path[2:].split("."))), "") if not below else path for path in found]
    return sorted(dict.fromkeys(named), key=lambda path: path.count("."))[:2]


def steps_of(source: str) -> tuple[str, ...]:
    """Return the names and indices of a simple path as steps; an empty tuple for the root and for any other path."""
    return query_fast_path.steps(source) if query_fast_path.is_path(source) else ()


def _is_alike(steps: tuple[str, ...], own: str) -> bool:
    """Return True if the event's own object has a field of this name and type, too."""
    kind = type_of((own, *steps[1:]))[0]
    return len(steps) > 1 and kind is not None and kind == type_of(steps)[0]


def explain_missing_path(
    source: str, steps: tuple[str, ...], config: WebhookConfig, item: str = FIRST_ITEM
) -> MissingPath | None:
    """Return why no delivery of the configured events has this path, or None if one has it or the path resembles nothing
    known. `item` is what a cure writes behind a list: `[0]`, or `[*]` for whoever takes all items."""
    if (meant := suggest_github_path(steps)) is not None:
        wrong = next((step for step, right in zip(steps, meant[2:].split("."), strict=False) if step != right), "")
        # A field of another object is not a misspelling.
        return MissingPath("in a delivery of GitHub", f"did you mean `{meant}`?", None if wrong in _FIELDS else meant)
    events = config.events or tuple(EVENTS)
    if steps[0] in ALWAYS or any(top_fields(event) is None for event in events):
        return None
    # Events that are not in the table send issues with more fields.
    tops = {top for event in events for top in top_fields(event) or ()}
    if config.events or steps[0] != "issue":
        always = tuple(top for top in tops if all(top in EVENTS.get(event, top_fields(event) or ()) for event in events))
        if (none := _missing_below(steps, always, item)) is not None:
            return none
    if steps[0] in tops or (config.events is None and (steps[0] in KINDS[""] or steps[0] in TOPS)):
        return None
    where = "in a delivery of " + (" or ".join(f"`{event}`" for event in events) if config.events else "GitHub")
    others = [f"`{event}`" for event, its in EVENTS.items() if steps[0] in its]
    if others:
        own = next((top for event in config.events or () for top in top_fields(event) or () if event.startswith(top)), None)
        there = ("$", own, *steps[1:]) if own is not None and _is_alike(steps, own) else None
        same = next((its[event] for event in config.events or () if event in (its := _SAME.get(steps, {}))), None)
        first = f"write `$.{same}`" if same else f"write `{'.'.join(there)}`" if there else "delete it"
        return MissingPath(where, f"{first}, or accept events that have it: {' or '.join(others)}")
    own = next((_OWN_OBJECTS.get(event, event) for event in config.events or ()), "")
    if own in tops and kind_of((own,)):
        found: list[str] = []
        if steps[0] in (config.events or ()) and type_of((own, *steps[1:]))[0] is not None:
            found = [".".join(("$", own, *steps[1:]))]
        elif len(steps) == 1:
            found = _found_elsewhere((own,), steps[0], (), tuple(tops), item)
        if found:
            hint = " or ".join(f"`{path}`" for path in found)
            return MissingPath(where, f"did you mean {hint}?", found[0] if len(found) == 1 else None)
    below = tuple(dropwhile(_AROUND.__contains__, steps))
    if below[:1] == ("event_name",) or (not below and steps[-1] == "event"):
        asked = ", ".join(config.events or ["issues"])
        return MissingPath(where, f"delete it: the event's name is in a header, and `events: [{asked}]` selects it")
    if below and below != steps and below[0] in tops:
        meant = f"$.{'.'.join(below)}"
    else:
        inner = ((top, KINDS[""].get(top, "").strip("@?")) for top in sorted(tops))
        meant = suggest(source, [path for top, kind in inner for path in (f"$.{top}", *_paths(top, kind))])
    return None if meant is None else MissingPath(where, f"did you mean `{meant}`?", meant)


def _paths(top: str, kind: str) -> Iterator[str]:
    yield from (f"$.{top}.{field}" for field in KINDS.get(kind, ()))


def type_of(steps: tuple[str, ...]) -> tuple[str | None, bool, int | None]:
    """Return the type at the end of a path, whether the value may be null, and the number of steps to a parent that may be
    null."""
    kind, above = "@", None
    null = False
    for index, step in enumerate(steps):
        if null and above is None:
            above = index
        kind = (_field(kind[1:], step) or "") if kind.startswith("@") else ""
        null, kind = kind.endswith("?"), kind.rstrip("?")
        if not kind:
            return None, False, None
    return ("object" if kind.startswith("@") else kind), null, above


def kind_of(steps: tuple[str, ...]) -> str:
    """Return the kind of object at the end of a path, such as `repository`, or an empty text."""
    kind = ""
    for step in steps:
        kind = (_field(kind, step) or "").strip("@?")
    return kind


def fields_of(steps: tuple[str, ...]) -> dict[str, str]:
    """Return the fields of the object at the end of a path, by name, with their types."""
    return _fields(kind_of(steps))
