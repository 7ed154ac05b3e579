"""GitHub's payloads: the types of what tasks usually map, and what may be null, against the parameters that they fill."""

import re
from collections.abc import Iterator, Sequence
from itertools import dropwhile, islice
from typing import Any, NamedTuple

from optio.compiler.checks import plain
from optio.compiler.checks.declared import Declared, declared
from optio.compiler.checks.github_fields import ACTIONS, ALWAYS, EVENTS, FURTHER, KINDS, NAMES, TOPS
from optio.compiler.diagnostics import Diagnostic, Fix
from optio.compiler.nearest import closest
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

# What others put around the payload.
_AROUND = frozenset({"github", "event", "body", "payload", "data", "request", "json", "trigger"})
# What others call GitHub's events.
_CALLED = {
    **dict.fromkeys(("merge_request", "mr", "pr", "pull", "pull_request_target"), "pull_request"),
    **dict.fromkeys(("tag_push", "tag", "branch", "create_tag", "tags"), "create"),
    **dict.fromkeys(("note", "comment", "comments"), "issue_comment"),
    **dict.fromkeys(("pipeline", "build", "workflow", "ci"), "workflow_run"),
    **dict.fromkeys(("job", "jobs"), "workflow_job"),
    **dict.fromkeys(("commit", "commits", "repo_push"), "push"),
    **dict.fromkeys(("review", "reviews", "approval"), "pull_request_review"),
    **dict.fromkeys(("bug", "ticket", "tickets"), "issues"),
    **dict.fromkeys(("workflow_call", "manual"), "workflow_dispatch"),
    **dict.fromkeys(("wiki", "wiki_page"), "gollum"),
    **dict.fromkeys(("vulnerability", "dependabot"), "dependabot_alert"),
    **dict.fromkeys(("deploy", "deployments"), "deployment"),
}
# Each may cost a search for what was meant, and nobody maps more.
_MOST_PATHS = 100
# Fields that people ask for, the first ones first.
_USUAL = ("number", "title", "body", "state", "name", "full_name", "login", "id", "html_url", "ref", "sha", "message", "user")
# Those that stand for the whole object.
_NAMING = ("login", "full_name", "title", "name")
_MOST_TOLD = 4
_FIELDS = frozenset(name for fields in KINDS.values() for name in fields)
# Objects below objects that are offered.
_DEEPEST = 2
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


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Where the scheme says that GitHub sends."""
    for index, trigger in enumerate(task.spec.triggers):
        config: Route = ("triggers", index, "config")
        if not isinstance(trigger, WebhookTrigger) or trigger.config.scheme != "github" or not task.knows(config):
            continue
        if task.knows((*config, "events")):
            yield from _events(task, (*config, "events"), trigger.config)
        route: Route = (*config, "paramMapping")
        if not task.knows(route):
            continue
        known = declared(task)
        paths = ((name, source) for name, source in (trigger.config.param_mapping or {}).items() if isinstance(source, str))
        for name, source in islice(paths, _MOST_PATHS):
            if known is not None and (steps := steps_of(source)):
                yield from _one(task, (*route, name), source, steps, trigger.config, known)


def _and_when(config: WebhookConfig, test: str) -> str:
    """The condition to write beside an event, where it does not stand there."""
    if config.when is None:
        return f', and `when: "{test}"`'
    return ": `when` says the rest" if test in config.when else f", and add ` && {test}` to `when`"


def _events(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    events = config.events or []
    for index, event in enumerate(events):
        if event in NAMES:
            continue
        at, message = (*route, index), f"`{event}` is no event of GitHub: none fits"
        name, action = _meant(event)
        if action is not None:
            test = "@.pull_request.merged == true" if action == "merged" else f"@.action == '{action}'"
            what = f"write `{name}`" if name else "name the event whose action that is, such as `pull_request`"
            alone = len(events) == 1 and config.when is None
            fix = _parted(task, at, name, test) if name and alone else None
            yield task.at("OPT420", message, at, hint=f"{what}{_and_when(config, test)}", fix=fix)
        elif (called := _CALLED.get(event.lower().replace("-", "_"))) is not None:
            # A word that means something, there: the one here that is near to it in letters would be another event.
            yield task.at("OPT420", message, at, hint=f"write `{called}`, which is what GitHub calls it")
        elif name is not None:
            yield task.at("OPT420", message, at, hint=f"did you mean `{name}`?", value=name, safe=False)


def _meant(event: str) -> tuple[str | None, str | None]:
    """The event and the action in one word, as far as they are known or nearly so."""
    folded = event.lower().replace("-", "_").replace(" ", "_")
    if folded in ACTIONS:
        return None, folded
    head, *tail = re.split(r"[.:/]", folded, maxsplit=1)
    name = head if head in NAMES else closest(head, sorted(NAMES))
    if name is None or not tail:
        return name, None
    action = tail[0].strip("_")
    return name, action if action in ACTIONS else closest(action, sorted(ACTIONS))


def _parted(task: ResolvedTask, event: Route, name: str, test: str) -> Fix | None:
    """The event alone, and its action in a filter."""
    from optio.compiler import mend

    when = mend.before(task.document, event[:-1], f'when: "{test}"')
    return when and Fix((*when.edits, *Fix.write(name, task.span(event)).edits), safe=False)


def _fields(kind: str) -> dict[str, str]:
    """The fields of an object, those that tasks use most and others."""
    if kind in KINDS:
        return KINDS[kind]
    from optio.compiler.checks import github_events  # few tasks name one of these

    return github_events.fields()[kind]


def _field(kind: str, step: str) -> str | None:
    found = _fields(kind).get(step)
    if found is None and not kind:
        from optio.compiler.checks import github_events

        return f"@{step}" if step in github_events.fields() else None
    return found


def tops_of(event: str) -> tuple[str, ...] | None:
    """What a delivery of the event may have at its top; None for one that is not known."""
    if event in EVENTS:
        return (*EVENTS[event], *_SOMETIMES.get(event, ()))
    from optio.compiler.checks import github_events

    return github_events.tops().get(event)


def paths_sent(events: Sequence[str]) -> dict[str, str]:
    """The paths into deliveries of these events, or of those that tasks use most, with their types: two objects deep."""
    known = [tops for event in events or EVENTS if (tops := tops_of(event)) is not None]
    found: dict[str, str] = {}
    ahead = [("$", {top: _field("", top) or "" for tops in known for top in (*tops, "organization", "installation")})]
    for path, fields in ahead:
        for name, its in fields.items():
            found[f"{path}.{name}"] = "object" if its.startswith("@") else its
            if its.startswith("@") and path.count(".") < _DEEPEST:
                ahead.append((f"{path}.{name}", _fields(its.strip("@?"))))
    return found


def near(steps: tuple[str, ...]) -> str | None:
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
            meant = closest(step, objects if below else [*known, *further])
            return None if meant is None else ".".join(("$", *steps[:index], meant, *below))
        if not field.startswith("@"):
            return None
        kind = field.strip("@?")
    return None


def _no_field(steps: tuple[str, ...]) -> str | None:
    """Why there is nothing at the end of a path below a known object."""
    kind = ""
    for index, step in enumerate(steps):
        if kind and step not in KINDS[kind] and step not in FURTHER.get(kind, (step,)):
            fields = [name for name in _USUAL if name in KINDS[kind]] or list(KINDS[kind])
            parent = ".".join(("$", *steps[:index]))
            named = ", ".join(f"`{name}`" for name in fields[:_MOST_TOLD])
            return (
                f"`{parent}` has {named} and others, and no `{step}`: write one that is there, such as `{parent}.{fields[0]}`"
            )
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
    return plain.steps(source) if plain.is_path(source) else ()


def _one(
    task: ResolvedTask, route: Route, source: str, steps: tuple[str, ...], config: WebhookConfig, known: Declared
) -> Iterator[Diagnostic]:
    if not task.samples and (gone := lost(source, steps, config)) is not None:
        message = f"`{source}` finds nothing {gone.where}"
        yield task.at("OPT413", message, route, hint=gone.hint, value=gone.meant, safe=False)
        return
    kind, null, above = type_of(steps)
    sub = known.properties.get(str(route[-1]))
    taken = _taken(sub)
    if kind is None or taken is None:
        return
    name, when = str(route[-1]), config.when or ""
    if kind not in taken and not (kind == "integer" and "number" in taken):
        wanted = " or ".join(WORDS.get(each, each) for each in taken)
        message = f"`{source}` is {WORDS[kind]}, and `{name}` takes {wanted}: every delivery would be refused"
        hint = f"write `type: {kind}` under `paramsSchema.properties.{name}`"
        if kind == "object" and (fields := fields_of(steps)):
            usual = (name for name in (*_NAMING, *_USUAL, *fields) if fields.get(name, "").rstrip("?") in taken)
            hint = f"map a field of it, such as `{source}.{next(usual, next(iter(fields)))}`"
        yield task.at("OPT412", message, route, hint=hint)
    elif null and "null" not in taken and source.lstrip("$") not in when:
        message = f"`{source}` may be null, and `{name}` takes {WORDS[kind]}: such a delivery is refused"
        hint = f'write `type: [{kind}, "null"]`, or leave such deliveries out: `when: "@{source[1:]} != null"`'
        yield task.at("OPT412", message, route, hint=hint)
    elif name not in known.required or known.has_default(name) or when:
        return
    elif without := [event for event in config.events or () if steps[0] not in (*EVENTS.get(event, steps), *ALWAYS)]:
        message = f"`{source}` is in no delivery of `{without[0]}`, and then nothing fills `{name}`: such a delivery is refused"
        hint = f"give `{name}` a default, or leave `{without[0]}` out of `events`, for a task of its own"
        yield task.at("OPT412", message, route, hint=hint)
    elif above is not None:
        parent = "$." + ".".join(steps[:above])
        message = f"`{parent}` may be null, and then nothing fills `{name}`: such a delivery is refused"
        hint = f'give `{name}` a default, or leave such deliveries out: `when: "@{parent[1:]} != null"`'
        yield task.at("OPT412", message, route, hint=hint)


def _is_alike(steps: tuple[str, ...], own: str) -> bool:
    """Whether the object of the event has such a field of that type, too."""
    kind = type_of((own, *steps[1:]))[0]
    return len(steps) > 1 and kind is not None and kind == type_of(steps)[0]


class Lost(NamedTuple):
    """Where a path finds nothing, the cure, and the path that was meant, probably."""

    where: str
    hint: str
    meant: str | None = None


def lost(source: str, steps: tuple[str, ...], config: WebhookConfig) -> Lost | None:
    """What is said of a path to what no delivery of these events has, and that is like one to what they or others have."""
    if (meant := near(steps)) is not None:
        wrong = next((step for step, right in zip(steps, meant[2:].split("."), strict=False) if step != right), "")
        # A word that is a field of another object is no slip of the pen.
        return Lost("in a delivery of GitHub", f"did you mean `{meant}`?", None if wrong in _FIELDS else meant)
    events = config.events or tuple(EVENTS)
    if steps[0] in ALWAYS or any(tops_of(event) is None for event in events):
        return None
    # Events that are not told of send issues with more in them.
    if (config.events or steps[0] != "issue") and (none := _no_field(steps)) is not None:
        return Lost("in a delivery of GitHub", none)
    tops = {top for event in events for top in tops_of(event) or ()}
    if steps[0] in tops or (config.events is None and (steps[0] in KINDS[""] or steps[0] in TOPS)):
        return None
    where = "in a delivery of " + (" or ".join(f"`{event}`" for event in events) if config.events else "GitHub")
    others = [f"`{event}`" for event, its in EVENTS.items() if steps[0] in its]
    if others:
        own = next((top for event in config.events or () for top in tops_of(event) or () if event.startswith(top)), None)
        there = ("$", own, *steps[1:]) if own is not None and _is_alike(steps, own) else None
        same = next((its[event] for event in config.events or () if event in (its := _SAME.get(steps, {}))), None)
        first = f"write `$.{same}`" if same else f"write `{'.'.join(there)}`" if there else "delete it"
        return Lost(where, f"{first}, or take deliveries that have it: {' or '.join(others)}")
    below = tuple(dropwhile(_AROUND.__contains__, steps))
    if below[:1] == ("event_name",) or (not below and steps[-1] == "event"):
        asked = ", ".join(config.events or ["issues"])
        return Lost(where, f"delete it: the event's name stands in a header, and `events: [{asked}]` asks for it")
    if below != steps and below[0] in tops:
        meant = f"$.{'.'.join(below)}"
    else:
        inner = ((top, KINDS[""].get(top, "").strip("@?")) for top in sorted(tops))
        meant = closest(source, [path for top, kind in inner for path in (f"$.{top}", *_paths(top, kind))])
    return None if meant is None else Lost(where, f"did you mean `{meant}`?", meant)


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


def _taken(sub: Any) -> list[str] | None:
    """The types that a parameter takes, or None where its schema says nothing of them."""
    types = sub.get("type") if isinstance(sub, dict) else None
    if isinstance(types, str):
        return [types]
    return [str(each) for each in types] if isinstance(types, list) and types else None
