"""Check the names under `events` against those that the sender of a webhook has. The names come from the published deliveries;
one that resembles none of them is left alone, because a sender may have added it since."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.payloads.deliveries import SenderTable, table_of
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route, value_at
from optio.model.senders import SENDERS, InHeader, Source, sender_of
from optio.model.trigger import Scheme, WebhookConfig

# Event names that only GitHub and Gitea use.
_GITHUB_EVENTS = frozenset(
    {
        *("pull_request", "pull_request_review", "issues", "issue_comment", "workflow_run", "check_run", "check_suite"),
        *("workflow_dispatch", "deployment_status", "repository_dispatch", "dependabot_alert"),
    }
)
_GITLAB_EVENT = r"[A-Z][A-Za-z ]{1,40} Hook"
_BITBUCKET_EVENT = r"(?:repo|pullrequest|pr):[a-z_:]{1,60}"
# Schemes with which a program of the author's own may sign, so that a name such as `invoice.paid` may be its own.
_OWN_PROGRAMS = ("optio", "hmac", "standard-webhooks")
_WITH_OWN_NAMES: tuple[Scheme, ...] = ("stripe", "pagerduty", "slack")
_MAX_SLIP = 2


def check(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """Report the names of other senders, patterns, and names that are nearly those of the sender. `route` is the webhook's."""
    place = next(iter(sender_of(config).event), None)
    events = config.events or []
    pattern = next((index for index, event in enumerate(events) if "*" in event), None)
    if pattern is not None:
        yield _pattern(task, (*route, "events", pattern), events[pattern])
        return
    if config.scheme == "hmac" or place is None:
        return
    foreign = next((index for index, event in enumerate(events) if foreign_sender(config.scheme, event) is not None), None)
    if foreign is not None:
        yield _foreign(task, route, config, foreign, place)
        return
    table = table_of(config.scheme)
    if table is None:
        return
    for index, event in enumerate(events):
        if event not in table.events and (hint := _hint(event, table)) is not None:
            message = f"`{event}` is not an event of {SENDERS[config.scheme].name}, so no delivery matches"
            similar = _similar(event, table)
            yield task.at("OPT420", message, (*route, "events", index), hint=hint, value=similar, safe=False)


def foreign_sender(scheme: Scheme, event: str) -> Scheme | Literal["bitbucket"] | None:
    """Return the other sender that alone uses this event name, or None."""
    sender: Scheme | Literal["bitbucket"] | None = guess_sender(event)
    own_table = table_of(scheme)
    if sender == scheme or (own_table is not None and event in own_table.events) or (sender, scheme) == ("github", "gitea"):
        return None
    if sender is None and scheme not in _OWN_PROGRAMS and re.search("[._]", event):
        tables = ((scheme_name, table_of(scheme_name)) for scheme_name in _WITH_OWN_NAMES if scheme_name != scheme)
        sender = next((scheme_name for scheme_name, table in tables if table is not None and event in table.events), None)
    return sender


def guess_sender(event: str) -> Literal["github", "gitlab", "bitbucket"] | None:
    """Return the sender that uses this event name, if exactly one does."""
    if re.fullmatch(_GITLAB_EVENT, event):
        return "gitlab"
    if re.fullmatch(_BITBUCKET_EVENT, event):
        return "bitbucket"
    return "github" if event in _GITHUB_EVENTS else None


def _pattern(task: ResolvedTask, route: Route, event: str) -> Diagnostic:
    """Report an event that is a pattern: events are compared as a whole, and a filter can test a part."""
    hint = "delete `events`: without it every event starts a run"
    if event != "*":
        hint = "name each event as the sender writes it, or delete `events`, and test a part of it in `when`"
    message = f"`{event}` is a pattern, but events are compared as a whole: no delivery matches"
    return task.at("OPT420", message, route, hint=hint)


def _foreign(task: ResolvedTask, route: Route, config: WebhookConfig, index: int, place: Source) -> Diagnostic:
    """Report an event of another sender: at the scheme where all events are that sender's."""
    events = config.events or []
    other_sender = foreign_sender(config.scheme, events[index])
    sender, hint = "Bitbucket", "write `scheme: hmac`, `signatureHeader: X-Hub-Signature` and `eventHeader: X-Event-Key`"
    if other_sender is not None and other_sender != "bitbucket":
        sender, hint = SENDERS[other_sender].name, f"write `scheme: {other_sender}`"
        hint += "" if config.scheme in _OWN_PROGRAMS else f", or the name that {SENDERS[config.scheme].name} has for it"
    source_name = place.name if isinstance(place, InHeader) else place.path
    message = f"`{events[index]}` is an event of {sender}, but `scheme: {config.scheme}` reads the event from `{source_name}`"
    at: Route = (*route, "scheme")
    if value_at(task.document.value, at) is None or any(foreign_sender(config.scheme, name) != other_sender for name in events):
        at = (*route, "events", index)
    return task.at("OPT420", message, at, hint=hint)


def _hint(event: str, table: SenderTable) -> str | None:
    """Return the cure for a name that the sender does not have, or None for a name that resembles none: it may be new."""
    if (similar := _similar(event, table)) is not None:
        return f"did you mean `{similar}`?"
    head, _, action = event.replace(":", ".").replace("/", ".").partition(".")
    name = _similar(head, table) if action else None
    actions = _actions(table, name) if name is not None else []
    if name is not None and actions:
        action = action if action in actions else suggest(action, actions) or "ACTION"
        return f"write `{name}`, and `@.action == '{action}'` in `when`: the action is in the body"
    if any(event in _actions(table, name) for name in table.events):
        return f"name its event, and write `when: \"@.action == '{event}'\"`: the action is in the body"
    return None


def _similar(event: str, table: SenderTable) -> str | None:
    """Return the event that a name spells otherwise, or the only one that ends in it. The words of a dotted name are the
    sender's own, so only a slip of the keyboard is corrected there."""
    if event in table.events:
        return event
    head, _, word = event.rpartition(".")
    spelt = [name for name in table.events if _folded(name) == _folded(event) or name.endswith(f".{event}")]
    if head and not spelt:
        spelt = [name for name in table.events if name.rpartition(".")[0] == head and word in re.split("[._]", name)]
    if len(spelt) == 1:
        return spelt[0]
    similar = suggest(event, table.events)
    return similar if similar is not None and ("." not in event or _is_slip(event, similar)) else None


def _folded(name: str) -> str:
    """Return the letters of an event's name, without the word that GitLab's names end in."""
    return re.sub(r"[\W_]|hook\Z|events?\Z", "", name.lower())


def _actions(table: SenderTable, event: str) -> list[str]:
    return [delivery.action for delivery in table.deliveries(event) if delivery.action is not None]


def _is_slip(name: str, similar: str) -> bool:
    """Return True if the names differ in their letters by a slip of the keyboard, and not in a word."""
    if name.rpartition(".")[2][:1] != similar.rpartition(".")[2][:1]:
        return False
    return abs(len(name) - len(similar)) <= _MAX_SLIP and sum((Counter(name) - Counter(similar)).values()) <= _MAX_SLIP
