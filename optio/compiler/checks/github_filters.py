"""Compare a filter with what GitHub sends: paths that no delivery has, tests for fields that every delivery has, and values or
actions that the field never holds."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.checks.filter_questions import (
    Question,
    is_in_samples,
    unsent_diagnostic,
    without_tests,
    write_when,
)
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.payloads.github import WORDS, explain_missing_path, fields_of, kind_of, type_of
from optio.compiler.payloads.github_fields import ACTIONS, ACTIONS_OF, ALWAYS, EVENTS, ITEMS, WORDS_OF
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route
from optio.model.trigger import WebhookConfig

# Actions under other names.
_FOREIGN_ACTIONS = {
    "created": ("opened", "published"), "opened": ("created", "published"), "added": ("opened", "created"),
    "new": ("opened", "created"), "updated": ("synchronize", "edited"), "pushed": ("synchronize",),
    "success": ("completed",), "failure": ("completed",), "failed": ("completed",), "draft": ("converted_to_draft",),
}  # fmt: skip


# Accounts of apps whose login ends in `[bot]`.
_BOTS = frozenset({"dependabot", "renovate", "github-actions", "pre-commit-ci", "mergify"})


_FOREIGN_WORDS = {
    **dict.fromkeys(("failed", "error"), "failure"), **dict.fromkeys(("succeeded", "passed", "ok"), "success"),
    **dict.fromkeys(("opened", "reopened"), "open"), **dict.fromkeys(("running", "started"), "in_progress"),
    **dict.fromkeys(("done", "finished"), "completed"), "canceled": "cancelled", "bots": "Bot", "human": "User",
    **dict.fromkeys(("maintainer", "maintain", "write", "admin"), "MEMBER"),
}  # fmt: skip


# Fields of issues and pull requests beside the object itself, and the actions that they come with.
_ONLY_WITH = {
    "label": ("labeled", "unlabeled"),
    "assignee": ("assigned", "unassigned"),
    "requested_reviewer": ("review_requested", "review_request_removed"),
    "milestone": ("milestoned", "demilestoned"),
}
# Cures that leave a test out.
_DELETE, _ANY = "delete it, or accept events", "compare it with a value, or delete the test"
_WITH_WORDS = frozenset(field for _, field in WORDS_OF)


def check(task: ResolvedTask, route: Route, config: WebhookConfig, questions: list[Question]) -> Iterator[Diagnostic]:
    """Report at most one finding for each question of a filter. Paths that a sample of the task has are trusted."""
    yield from _of_another_action(task, route, config, questions)
    asked = [question for question in questions if question.steps and question.path[0] == "@"]
    lost = {question: found for question in asked if (found := _lost(task, question, config)) is not None}
    same = {question: each for question in asked if question not in lost and (each := _same(question, config)) is not None}
    for question in asked:
        if (missing := lost.get(question)) is not None:
            where, hint, meant = missing
            if hint.startswith(_DELETE):
                gone = [each for each, (_, its, _) in lost.items() if its.startswith(_DELETE)]
                hint = _without(config, gone, asked, hint)
            yield unsent_diagnostic(task, route, question, where, hint, meant)
        elif question in same:
            message, hint = same[question]
            gone = [each for each, (_, its) in same.items() if its == _ANY]
            if hint == _ANY and (whole := without_tests(config.when or "", gone)) is not None:
                hint = f"write `{write_when(whole)}`" if whole else "delete `when`"
                hint += ", or compare it with a value"
            span = task.document.inside(route, question.start, question.end)
            yield task.at("OPT426", message, route, hint=hint, span=span)


def _of_another_action(
    task: ResolvedTask, route: Route, config: WebhookConfig, questions: list[Question]
) -> Iterator[Diagnostic]:
    """Report a field that comes with certain actions alone, in a filter that asks for all of its parts and for another one."""
    actions = [each for each in questions if each.steps == ("action",) and each.asked == "==" and each.path[0] == "@"]
    if len(actions) != 1 or config.when is None or re.search(r"\|\||!\s*\(", config.when):
        return
    if not config.events or not {"issues", "pull_request"}.issuperset(config.events):
        return  # a `label` or a `milestone` has events of its own
    for question in questions:
        with_it = _ONLY_WITH.get(question.steps[0], ()) if question.steps and question.path[0] == "@" else ()
        if with_it and question.asked in ("==", "there") and actions[0].value not in with_it:
            named = " and ".join(f"`{each}`" for each in with_it)
            message = f"`@.{question.steps[0]}` comes with the actions {named} alone, and never with `{actions[0].value}`"
            span = task.document.inside(route, question.start, question.end)
            whole = f"{config.when[: actions[0].start]}@.action == '{with_it[0]}'{config.when[actions[0].end :]}"
            hint = f"write `{write_when(whole)}`"
            yield task.at("OPT426", message, route, hint=hint, span=span, value=whole, safe=False)


def _without(config: WebhookConfig, gone: list[Question], asked: list[Question], hint: str) -> str:
    """Return the hint that gives the filter without the tests that no delivery passes. It offers only events in whose
    deliveries all paths of the filter and of the mapping find something."""
    mapped = (re.match(r"\$\.(\w+)", path) for path in (config.param_mapping or {}).values() if isinstance(path, str))
    tops = {*(question.steps[0] for question in asked), *(found[1] for found in mapped if found)} - ALWAYS
    whole = without_tests(config.when or "", gone)
    first = "delete this test" if whole is None else f"write `{write_when(whole)}`" if whole else "delete `when`"
    others = [f"`{event}`" for event in re.findall(r"`(\w+)`", hint) if tops.issubset(EVENTS[event])]
    if len(others) == 1:
        return f"write `events: [{others[0].strip('`')}]`, which has it, or {first}"
    return f"{first}, or accept events that have it: {' or '.join(others)}" if others else first


def _lost(task: ResolvedTask, question: Question, config: WebhookConfig) -> tuple[str, str, str | None] | None:
    """Return the place, the hint and the intended path for a question about a field that no delivery has."""
    if is_in_samples(task, question.steps):
        return None
    found = explain_missing_path(f"${question.path[1:]}", question.steps, config)
    # A test for absence is right if another event's deliveries have the field.
    if found is None or (question.asked == "absent" and found.meant is None):
        return None
    hint, item = (
        found.hint.replace("`$.", "`@."),
        re.search(r"write `(@[\w.]+)\[0\]\.([\w.]+)`$", found.hint.replace("`$.", "`@.")),
    )
    if item is not None and question.asked == "==" and isinstance(question.value, str):
        hint = f"`{item[1]}` is a list: write `{item[1]}[?@.{item[2]} == '{question.value}']`"
    return found.where, hint, found.meant


def _same(question: Question, config: WebhookConfig) -> tuple[str, str] | None:
    """Return message and hint for a question whose answer is the same for every delivery."""
    if question.asked in ("there", "absent"):
        return _always(question, config)
    if question.asked == "other" or question.value is None:
        return None
    if question.steps == ("action",) and isinstance(question.value, str):
        return _action(question.value, config)
    if question.steps[-1] == "login" and question.value in _BOTS:
        message = f"`{question.path}` of a bot ends in `[bot]`, and is never `{question.value}`"
        return message, f"write `{question.path} {question.asked} '{question.value}[bot]'`"
    return _unlike(question) or _no_word(question)


def _no_word(question: Question) -> tuple[str, str] | None:
    """Report a value outside the few words that the field can hold, such as a `state` of `opened`."""
    *above, field = question.steps
    if field not in _WITH_WORDS:
        return None
    kind = kind_of(tuple(above))
    words, given = WORDS_OF.get((kind, field)), question.value
    if words is None or not isinstance(given, str) or given in words:
        return None
    meant = next((each for each in words if each.casefold() == given.casefold()), None)
    meant = meant or _FOREIGN_WORDS.get(given.lower()) or suggest(given, sorted(words))
    message = f"`{question.path}` is one of {', '.join(sorted(words))}, never `{given}`"
    if field == "state" and given.lower() == "merged":
        return message, "write `@.pull_request.merged == true`"
    results = WORDS_OF.get((kind, "conclusion"), frozenset())
    if field == "status" and (result := given if given in results else _FOREIGN_WORDS.get(given.lower())) in results:
        return message, f"write `{question.path.removesuffix('status')}conclusion {question.asked} '{result}'`"
    if field == "author_association" and given.lower() in _FOREIGN_WORDS and question.asked == "==":
        trusted = " || ".join(f"{question.path} == '{each}'" for each in ("OWNER", "MEMBER", "COLLABORATOR"))
        return message, f"write `({trusted})`, who may have the right to write"
    known = meant if meant in words else None
    return message, f"write `{question.path} {question.asked} '{known}'`" if known else "compare it with one of them"


def _always(question: Question, config: WebhookConfig) -> tuple[str, str] | None:
    """Report a test for the presence of a field that all deliveries of the configured events have."""
    path, there = question.path, question.asked == "there"
    kind, null, above = type_of(question.steps)
    events = [EVENTS.get(event, ()) for event in config.events or ()]
    if kind is None or above is not None or not events or not all(question.steps[0] in tops for tops in events):
        return None
    state = ", if only as null" if null else ", true or false" if kind == "boolean" else ""
    message = f"`{path}` is in every delivery{state}: this is {'always' if there else 'never'} true"
    if null:
        return message, f"write `{path} {'!=' if there else '=='} null`"
    if kind == "boolean":
        return message, f"write `{path} == {'true' if there else 'false'}`"
    return message, _ANY


def _unlike(question: Question) -> tuple[str, str] | None:
    """Report a comparison of values of different types, such as a number with a text."""
    path, steps, given = question.path, question.steps, _type(question.value)
    if steps == ("issue", "pull_request") and given == "boolean":
        is_there = question.value == (question.asked == "==")
        message = f"`{path}` is an object in a pull request and missing elsewhere, and never `{_literal(question.value)}`"
        return message, f"write `{'' if is_there else '!'}{path}`"
    never = f"and never {'the text ' if given == 'string' else ''}`{_literal(question.value)}`"
    field = ITEMS.get(steps[-2]) if len(steps) > 1 and steps[-1].lstrip("-").isdigit() else None
    if field is not None and type_of(steps[:-1])[0] == "array":
        return f"`{path}` is an object, {never}", _among(question, path.rpartition("[")[0], field)
    kind, _, _ = type_of(steps)
    if kind is None or kind == given or (kind, given) == ("integer", "number"):
        return None
    return f"`{path}` is {WORDS[kind]}, {never}", _instead(question, kind)


def _action(action: str, config: WebhookConfig) -> tuple[str, str] | None:
    """Report an action that none of the configured events has. A word that resembles none of them is left alone, because GitHub
    may have added it since."""
    events = config.events or []
    if not events or not all(map(_actions_of, events)):
        return None
    known = sorted({each for event in events for each in _actions_of(event)})
    if action in known:
        return None
    message = f"no delivery of {' or '.join(f'`{event}`' for event in events)} has the action `{action}`"
    if action == "merged" and "pull_request" in events:
        return message, "write `@.action == 'closed' && @.pull_request.merged == true`"
    if action in WORDS_OF["review", "state"] and "pull_request_review" in events:
        return message, f"write `@.action == 'submitted' && @.review.state == '{action}'`"
    meant = next((each for each in _FOREIGN_ACTIONS.get(action, ()) if each in known), None)
    if meant is None and action not in ACTIONS:  # an action of another event is not a misspelling
        meant = suggest(action.lower(), known)
    if meant is None and action not in ACTIONS:
        return None
    return message, f"did you mean `{meant}`?" if meant else f"it is one of {', '.join(known)}"


def _actions_of(event: str) -> frozenset[str]:
    if event in ACTIONS_OF:
        return ACTIONS_OF[event]
    from optio.compiler.payloads import github_events  # imported here: few tasks name one of these events

    return github_events.actions().get(event, frozenset())


def _instead(question: Question, kind: str) -> str:
    text = str(question.value)
    if kind == "boolean":
        return f"write `{question.path} {question.asked} {'false' if text.lower() in ('false', '0', 'no') else 'true'}`"
    if kind == "integer":
        return f"write `{question.path} {question.asked} {text if text.isdigit() else '1'}`"
    if kind == "array":
        return _among(question, question.path, ITEMS.get(question.steps[-1]))
    if kind == "object":
        fields = fields_of(question.steps)
        field = next((each for each in ("login", "name", "full_name", "ref", "number") if each in fields), next(iter(fields)))
        if fields[field].rstrip("?") == _type(question.value):
            return (
                f"write `{question.path}.{field} {question.asked} {_literal(question.value)}`, or compare another field of it"
            )
        return f"compare a field of it, such as `{question.path}.{field}`"
    return f"write `{question.path} {question.asked} '{text.lower()}'`"


def _among(question: Question, path: str, field: str | None) -> str:
    """Return the hint that asks whether a list has an item; `field` is the field by which items are named."""
    asked = "" if question.asked == "==" else "!"
    return f"write `{asked}{path}[?@{'.' + field if field else ''} == {_literal(question.value)}]`"


def _type(value: Any) -> str:
    return {bool: "boolean", int: "integer", float: "number"}.get(type(value), "string")


def _literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower()
