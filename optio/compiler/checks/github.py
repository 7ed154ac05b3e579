"""Check webhooks of GitHub: event names, and the types of the mapped fields against the parameters that they fill, including
fields that GitHub may send as null. The fields come from `optio.compiler.payloads`."""

import re
from collections.abc import Iterator
from itertools import islice

from optio.compiler.checks.filter_questions import questions_of, with_test
from optio.compiler.checks.params_pedantic import OF_OTHERS
from optio.compiler.checks.scheme import foreign_sender
from optio.compiler.diagnostics import Diagnostic, Fix
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters, declared_types
from optio.compiler.payloads.github import (
    _USUAL,
    ALL_ITEMS,
    FIRST_ITEM,
    WORDS,
    explain_missing_path,
    fields_of,
    steps_of,
    top_fields,
    type_of,
)
from optio.compiler.payloads.github_fields import ACTIONS, ACTIONS_OF, ALWAYS, EVENTS, NAMES
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.compiler.yaml.emit import flow
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

# A cure with one event to accept, which a parameter cannot do without.
_ONE_OTHER = r"\Adelete it, or accept events that have it: `(\w+)`\Z"
# Other systems' names for GitHub's events.
_FOREIGN_EVENTS = {
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
# Each path may cost a search for a suggestion; real mappings are smaller.
_MAX_PATHS = 100
# Keywords that give values, which are of the former type.
_VALUES = ("enum", "const", "default", "examples")
# Fields that stand for the whole object.
_NAMING = ("login", "full_name", "title", "name")


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of every webhook with `scheme: github`, for its events and its `paramMapping`."""
    for index, trigger in enumerate(task.spec.triggers):
        config: Route = ("triggers", index, "config")
        if not isinstance(trigger, WebhookTrigger) or trigger.config.scheme != "github" or not task.is_known(config):
            continue
        if task.is_known((*config, "events")):
            yield from _events(task, (*config, "events"), trigger.config)
        route: Route = (*config, "paramMapping")
        if not task.is_known(route):
            continue
        known = declared_parameters(task)
        paths = ((name, source) for name, source in (trigger.config.param_mapping or {}).items() if isinstance(source, str))
        for name, source in islice(paths, _MAX_PATHS):
            if known is not None and (steps := steps_of(source)):
                yield from _one(task, (*route, name), source, steps, trigger.config, known)


def type_mismatch(task: ResolvedTask, route: Route, wanted: str, source: str, kind: str) -> Diagnostic:
    """Return the finding for a mapping that never gives a value of the declared type: at that type where the path is the one
    that the parameter is named after (`NUMBER: $.issue.number`), and at the path where another may be meant."""
    name, last = str(route[-1]), source.rpartition(".")[2]
    place: Route = ("paramsSchema", "properties", name, "type")
    if last in ("number", "iid") or last.replace("_", "").lower() in name.replace("_", "").lower():
        message = f"`{name}` takes {wanted}, and `{source}` is {WORDS[kind]}: every delivery would be refused"
        whole = _declaration(task, name, kind)
        hint, value = (f"write `type: {kind}`", kind) if whole is None else (f"write `{whole}`", None)
        return task.at("OPT412", message, place, hint=hint, value=value, safe=False)
    return task.at("OPT412", _refused(source, name, kind, wanted), route, hint=f"write {declare(task, name, kind)}")


def _refused(source: str, name: str, kind: str, wanted: str) -> str:
    return f"`{source}` is {WORDS[kind]}, and `{name}` takes {wanted}: every delivery would be refused"


def declare(task: ResolvedTask, name: str, kind: str) -> str:
    """Return what to write under `paramsSchema` for a parameter of this type, and where."""
    whole = _declaration(task, name, kind)
    return (
        f"`type: {kind}` under `paramsSchema.properties.{name}`"
        if whole is None
        else f"`{whole}` under `paramsSchema.properties`"
    )


def _declaration(task: ResolvedTask, name: str, kind: str) -> str | None:
    """Return the parameter of this type without the keywords of its former type. Returns None if it has none."""
    known = declared_parameters(task)
    sub = known.properties.get(name) if known is not None else None
    if not isinstance(sub, dict) or kind not in OF_OTHERS:
        return None
    gone = {*OF_OTHERS[kind], *(() if kind == "string" else ("format",)), *(each for each in _VALUES if each in sub)}
    if gone.isdisjoint(sub):
        return None
    return f"{name}: {flow({word: kind if word == 'type' else value for word, value in sub.items() if word not in gone})}"


def _and_when(config: WebhookConfig, test: str) -> str:
    """Return the end of a hint that says which condition to write beside an event, given the filter that is there."""
    if config.when is None:
        return f', and `when: "{test}"`'
    return ": `when` says the rest" if test in config.when else f", and add ` && {test}` to `when`"


def _events(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    events = config.events or []
    there = set(events)
    split = [_split_event(event) for event in events]
    for index, event in enumerate(events):
        if event in NAMES or foreign_sender("github", event) is not None:
            continue  # `scheme` reports another sender's event
        at, message = (*route, index), f"`{event}` is not an event of GitHub, so no delivery matches"
        name, action = _split_event(event)
        if action is not None:
            test = "@.pull_request.merged == true" if action == "merged" else f"@.action == '{action}'"
            what = f"write `{name}`" if name else "name the event whose action that is, such as `pull_request`"
            of_name = [its for each, its in split if name and each == name and its not in (None, "merged")]
            if name in there and name not in events and config.when is None:
                message = f"`{event}` is not an event of GitHub"
                yield task.at("OPT420", message, at, hint=f"delete it: `{name}` with the filter is enough")
                continue
            if name in there:
                what = f"delete it, because `{name}` is enough"
            elif len(of_name) > 1 and config.when is None and action in of_name:
                test = " || ".join(f"@.action == '{its}'" for its in of_name)
            there.add(name or event)
            alone = len(events) == 1 and config.when is None
            fix = _parted(task, at, name, test) if name and alone else None
            yield task.at("OPT420", message, at, hint=f"{what}{_and_when(config, test)}", fix=fix)
        elif (called := _FOREIGN_EVENTS.get(event.lower().replace("-", "_"))) is not None:
            # The word has a known meaning elsewhere; the event with the most similar letters would be another one.
            yield task.at("OPT420", message, at, hint=f"write `{called}`, which is what GitHub calls it")
        elif name is not None:
            yield task.at("OPT420", message, at, hint=f"did you mean `{name}`?", value=name, safe=False)


def _split_event(event: str) -> tuple[str | None, str | None]:
    """Return the event and the action that one word such as `pull_request.opened` combines, each as far as it is recognised."""
    folded = event.lower().replace("-", "_").replace(" ", "_")
    if folded in ACTIONS:
        return None, folded
    head, *tail = re.split(r"[.:/]", folded, maxsplit=1)
    name = head if head in NAMES else suggest(head, sorted(NAMES))
    if name is None or not tail:
        return name, None
    action = tail[0].strip("_")
    return name, action if action in ACTIONS else suggest(action, sorted(ACTIONS))


def _parted(task: ResolvedTask, event: Route, name: str, test: str) -> Fix | None:
    """Return a fix that keeps the event alone and puts its action into a new filter."""
    from optio.compiler.edits import fix_edits

    when = fix_edits.insert_key_before(task.document, event[:-1], f'when: "{test}"')
    return when and Fix((*when.edits, *Fix.write(name, task.span(event)).edits), safe=False)


def _one(
    task: ResolvedTask, route: Route, source: str, steps: tuple[str, ...], config: WebhookConfig, known: DeclaredParameters
) -> Iterator[Diagnostic]:
    takes_list = "array" in (declared_types(known.properties.get(str(route[-1]))) or ())
    item = ALL_ITEMS if takes_list else FIRST_ITEM
    if not task.samples and (gone := explain_missing_path(source, steps, config, item)) is not None:
        message = f"`{source}` finds nothing {gone.where}"
        hint = re.sub(_ONE_OTHER, r"write `events: [\1]`, which has it, or delete it", gone.hint)
        yield task.at("OPT413", message, route, hint=hint, value=None if takes_list else gone.meant, safe=False)
        return
    kind, null, above = type_of(steps)
    sub = known.properties.get(str(route[-1]))
    taken = declared_types(sub)
    if kind is None or taken is None:
        return
    name, when = str(route[-1]), config.when or ""
    if kind not in taken and not (kind == "integer" and "number" in taken):
        wanted = " or ".join(WORDS.get(each, each) for each in taken)
        if kind == "object" and (fields := fields_of(steps)):
            message = _refused(source, name, kind, wanted)
            usual = (name for name in (*_NAMING, *_USUAL, *fields) if fields.get(name, "").rstrip("?") in taken)
            hint = f"map a field of it, such as `{source}.{next(usual, next(iter(fields)))}`"
            yield task.at("OPT412", message, route, hint=hint)
        else:
            yield type_mismatch(task, route, wanted, source, kind)
    elif null and "null" not in taken and source.lstrip("$") not in when and not _is_merged(steps, when):
        message = f"`{source}` may be null, and `{name}` takes {WORDS[kind]}: such a delivery is refused"
        hint = f'write `type: [{kind}, "null"]`, or leave such deliveries out: '
        hint += f"`{with_test(config.when, f'@{source[1:]} != null')}`"
        yield task.at("OPT412", message, route, hint=hint)
    elif name not in known.required or known.has_default(name):
        return
    elif without := [event for event in config.events or () if not _has(event, steps, when) and _may_start(event, when)]:
        message = f"`{source}` is in no delivery of `{without[0]}`, so `{name}` is missing: such a delivery is refused"
        hint = f"leave `{without[0]}` out of `events`, and give it its own task, or give `{name}` a default"
        yield task.at("OPT412", message, route, hint=hint)
    elif above is not None and not when:
        parent = "$." + ".".join(steps[:above])
        message = f"`{parent}` may be null, so `{name}` is missing: such a delivery is refused"
        hint = f"give `{name}` a default, or leave such deliveries out: `{with_test(None, f'@{parent[1:]} != null')}`"
        yield task.at("OPT412", message, route, hint=hint)


def _is_merged(steps: tuple[str, ...], when: str) -> bool:
    """Return True for fields that each merged pull request has, where the filter asks for merged ones."""
    merged = {("pull_request", "merge_commit_sha"), ("pull_request", "merged_at"), ("pull_request", "merged_by")}
    return steps in merged and re.search(r"(?<!!)@\.pull_request\.merged(?!\w)(?!\s*(?:==\s*false|!=))", when) is not None


def _has(event: str, steps: tuple[str, ...], when: str) -> bool:
    """Return True if deliveries of an event have the path's first level, or might; a filter may choose those that do."""
    known = top_fields(event) if when and event in EVENTS else EVENTS.get(event)
    return known is None or steps[0] in known or steps[0] in ALWAYS


def _may_start(event: str, when: str) -> bool:
    """Return True if nothing in a filter excludes the event: it asks for levels that the event has, and for one of its
    actions."""
    questions = list(questions_of(when))
    actions = {question.value for question in questions if question.steps == ("action",) and question.asked == "=="}
    return all(
        each.asked != "absent" and each.steps and each.path[0] == "@" and _has(event, each.steps, when) for each in questions
    ) and (not actions or not ACTIONS_OF.get(event, actions).isdisjoint(actions))
