"""Follow paths into GitHub's payloads: the type at the end, what may be null above it, and what a wrong path meant."""

from collections.abc import Iterator, Sequence
from itertools import dropwhile
from typing import NamedTuple

from optio.compiler.payloads import query_fast_path
from optio.compiler.payloads.github_fields import ALWAYS, EVENTS, FURTHER, KINDS, TOPS
from optio.compiler.suggest import suggest
from optio.model.trigger import WebhookConfig

# What others put around the payload.
_AROUND = frozenset({"github", "event", "body", "payload", "data", "request", "json", "trigger"})


# Fields that people ask for, the first ones first.
_USUAL = ("number", "title", "body", "state", "name", "full_name", "login", "id", "html_url", "ref", "sha", "message", "user")


_MAX_SUGGESTED = 4


_FIELDS = frozenset(name for fields in KINDS.values() for name in fields)


# Objects below objects that are offered.
_MAX_DEPTH = 2


# What only some deliveries of an event have: those of `synchronize`, say.
_SOMETIMES = {"pull_request": ("after", "before", "reason", "requested_team")}


# Where other events have what a path leads to: the commit, and the branch.
_SAME = {
    ("head_commit", "id"): {"pull_request": "pull_request.head.sha", "workflow_run": "workflow_run.head_sha"},
    ("pull_request", "head", "sha"): {"push": "after", "workflow_run": "workflow_run.head_sha"},
    ("pull_request", "head", "ref"): {"push": "ref", "workflow_run": "workflow_run.head_branch"},
    ("head_commit", "message"): {"pull_request": "pull_request.title"},
}


WORDS = {"integer": "an integer", "boolean": "true or false", "string": "a string", "array": "a list", "object": "an object"}


def _fields(kind: str) -> dict[str, str]:
    """The fields of an object, those that tasks use most and others."""
    if kind in KINDS:
        return KINDS[kind]
    from optio.compiler.payloads import github_events  # few tasks name one of these

    return github_events.fields()[kind]


def _field(kind: str, step: str) -> str | None:
    found = _fields(kind).get(step)
    if found is None and not kind:
        from optio.compiler.payloads import github_events

        return f"@{step}" if step in github_events.fields() else None
    return found


def top_fields(event: str) -> tuple[str, ...] | None:
    """What a delivery of the event may have at its top; None for one that is not known."""
    if event in EVENTS:
        return (*EVENTS[event], *_SOMETIMES.get(event, ()))
    from optio.compiler.payloads import github_events

    return github_events.tops().get(event)


def paths_sent(events: Sequence[str]) -> dict[str, str]:
    """The paths into deliveries of these events, or of those that tasks use most, with their types: two objects deep."""
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
    """The path that was meant by one into GitHub's objects, of which some step is misspelt."""
    kind = ""
    for index, step in enumerate(steps):
        field = _field(kind, step)
        if field is None:
            known, further = _fields(kind), FURTHER.get(kind, ()) if kind else None
            below = steps[index + 1 :]
            if further is None or step in further or not all(name.isidentifier() for name in below):
                return None
            # What has fields of its own is an object.
            objects = [name for name, its in known.items() if its.startswith("@")]
            meant = suggest(step, objects if below else [*known, *further])
            return None if meant is None else ".".join(("$", *steps[:index], meant, *below))
        if not field.startswith("@"):
            return None
        kind = field.strip("@?")
    return None


def _missing_field_reason(steps: tuple[str, ...]) -> str | None:
    """Why there is nothing at the end of a path below a known object."""
    kind = ""
    for index, step in enumerate(steps):
        if kind and step not in KINDS[kind] and step not in FURTHER.get(kind, (step,)):
            fields = [name for name in _USUAL if name in KINDS[kind]] or list(KINDS[kind])
            parent = ".".join(("$", *steps[:index]))
            named = ", ".join(f"`{name}`" for name in fields[:_MAX_SUGGESTED])
            return f"`{parent}` has {named} and others, but no `{step}`: write an existing one, such as `{parent}.{fields[0]}`"
        field = KINDS[kind].get(step)
        below = steps[index + 1 :]
        if field is None or not field.startswith("@"):
            if field is not None and field.rstrip("?") in ("string", "integer", "boolean") and below:
                path = ".".join(("$", *steps[: index + 1]))
                return f"write `{path}`, which is {WORDS[field.rstrip('?')]} and has no fields"
            return None
        kind = field.strip("@?")
    return None


def steps_of(source: str) -> tuple[str, ...]:
    """The names and indices of a path that has nothing else; of any other, and of the root, none."""
    return query_fast_path.steps(source) if query_fast_path.is_path(source) else ()


def _is_alike(steps: tuple[str, ...], own: str) -> bool:
    """Whether the object of the event has such a field of that type, too."""
    kind = type_of((own, *steps[1:]))[0]
    return len(steps) > 1 and kind is not None and kind == type_of(steps)[0]


class MissingPath(NamedTuple):
    """Where a path finds nothing, the cure, and the path that was meant, probably."""

    where: str
    hint: str
    meant: str | None = None


def explain_missing_path(source: str, steps: tuple[str, ...], config: WebhookConfig) -> MissingPath | None:
    """What is said of a path to what no delivery of these events has, and that is like one to what they or others have."""
    if (meant := suggest_github_path(steps)) is not None:
        wrong = next((step for step, right in zip(steps, meant[2:].split("."), strict=False) if step != right), "")
        # A word that is a field of another object is no slip of the pen.
        return MissingPath("in a delivery of GitHub", f"did you mean `{meant}`?", None if wrong in _FIELDS else meant)
    events = config.events or tuple(EVENTS)
    if steps[0] in ALWAYS or any(top_fields(event) is None for event in events):
        return None
    # Events that are not told of send issues with more in them.
    if (config.events or steps[0] != "issue") and (none := _missing_field_reason(steps)) is not None:
        return MissingPath("in a delivery of GitHub", none)
    tops = {top for event in events for top in top_fields(event) or ()}
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
    below = tuple(dropwhile(_AROUND.__contains__, steps))
    if below[:1] == ("event_name",) or (not below and steps[-1] == "event"):
        asked = ", ".join(config.events or ["issues"])
        return MissingPath(where, f"delete it: the event's name is in a header, and `events: [{asked}]` selects it")
    if below != steps and below[0] in tops:
        meant = f"$.{'.'.join(below)}"
    else:
        inner = ((top, KINDS[""].get(top, "").strip("@?")) for top in sorted(tops))
        meant = suggest(source, [path for top, kind in inner for path in (f"$.{top}", *_paths(top, kind))])
    return None if meant is None else MissingPath(where, f"did you mean `{meant}`?", meant)


def _paths(top: str, kind: str) -> Iterator[str]:
    yield from (f"$.{top}.{field}" for field in KINDS.get(kind, ()))


def type_of(steps: tuple[str, ...]) -> tuple[str | None, bool, int | None]:
    """The type at the end of a path, whether it may be null, and how far it is to what above it may be null."""
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
    """The kind of object at the end of a path."""
    kind = ""
    for step in steps:
        kind = (_field(kind, step) or "").strip("@?")
    return kind


def fields_of(steps: tuple[str, ...]) -> dict[str, str]:
    """The fields of the object at the end of a path."""
    return _fields(kind_of(steps))
