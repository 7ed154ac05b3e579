"""Check the names under `events` against those that the sender of a webhook has. The names come from the published deliveries;
one that resembles none of them is left alone, because a sender may have added it since."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from optio.compiler.diagnostics import Diagnostic, Fix
from optio.compiler.payloads.deliveries import SenderTable, table_of
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route, value_at
from optio.model.senders import SENDERS, InBody, InHeader, Source, sender_of
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
_MAX_SLIP, _MAX_SHOWN = 2, 4


class _EventCure(NamedTuple):
    """A hint, the event to write in the place of a wrong one, and the test to write under `when`."""

    hint: str
    event: str | None = None
    test: str | None = None


def check(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """Report the names of other senders, patterns, and names that are nearly those of the sender. `route` is the webhook's."""
    place = next(iter(sender_of(config).event), None)
    events = config.events or []
    pattern = next((index for index, event in enumerate(events) if "*" in event), None)
    if pattern is not None:
        yield _pattern(task, (*route, "events", pattern), events[pattern], len(events) == 1, place)
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
    names = set(events)
    for index, event in enumerate(events):
        if event not in table.events and (cure := _cure(config, event, table, names)) is not None:
            message = f"`{event}` is not an event of {SENDERS[config.scheme].name}, so no delivery matches"
            at: Route = (*route, "events", index)
            fix = None if cure.event is None else _fix(task, at, config, cure.event, cure.test)
            yield task.at("OPT420", message, at, hint=cure.hint, fix=fix)


def foreign_sender(scheme: Scheme, event: str) -> Scheme | Literal["bitbucket"] | None:
    """Return the other sender that alone uses this event name, or None."""
    meant: Scheme | Literal["bitbucket"] | None = guess_sender(event)
    if meant is None and scheme not in _OWN_PROGRAMS:
        tables = ((sender, table_of(sender)) for sender in _WITH_OWN_NAMES)
        meant = next(
            (sender for sender, table in tables if table is not None and re.search("[._]", event) and event in table.events),
            None,
        )
    own = table_of(scheme)
    is_own = meant == scheme or (own is not None and event in own.events) or (meant, scheme) == ("github", "gitea")
    return None if is_own else meant


def guess_sender(event: str) -> Literal["github", "gitlab", "bitbucket"] | None:
    """Return the sender that uses this event name, if exactly one does."""
    if re.fullmatch(_GITLAB_EVENT, event):
        return "gitlab"
    if re.fullmatch(_BITBUCKET_EVENT, event):
        return "bitbucket"
    return "github" if event in _GITHUB_EVENTS else None


def _pattern(task: ResolvedTask, route: Route, event: str, alone: bool, place: Source | None) -> Diagnostic:
    """Report an event that is a pattern: events are compared as a whole, and a filter can test a part."""
    hint = "name each event as the sender writes it"
    if event == "*":
        hint = "delete `events`: without it every event starts a run"
    elif alone and isinstance(place, InBody) and re.fullmatch(r"[\w.-]+\*", event):
        begins = event[:-1].replace(".", "[.]")
        hint += f"; or delete `events`, and write `when: \"search(@{place.path[1:]}, '^{begins}')\"`"
    message = f"`{event}` is a pattern, but events are compared as a whole: no delivery matches"
    return task.at("OPT420", message, route, hint=hint)


def _foreign(task: ResolvedTask, route: Route, config: WebhookConfig, index: int, place: Source) -> Diagnostic:
    """Report an event of another sender: at the scheme where all events are that sender's."""
    events = config.events or []
    meant = foreign_sender(config.scheme, events[index])
    sender, hint = "Bitbucket", "write `scheme: hmac`, `signatureHeader: X-Hub-Signature` and `eventHeader: X-Event-Key`"
    if meant is not None and meant != "bitbucket":
        sender, hint = SENDERS[meant].name, f"write `scheme: {meant}`"
        hint += "" if config.scheme in _OWN_PROGRAMS else f", or the name that {SENDERS[config.scheme].name} has for it"
    read = place.name if isinstance(place, InHeader) else place.path
    message = f"`{events[index]}` is an event of {sender}, but `scheme: {config.scheme}` reads the event from `{read}`"
    at: Route = (*route, "scheme")
    if value_at(task.document.value, at) is None or any(foreign_sender(config.scheme, each) != meant for each in events):
        at = (*route, "events", index)
    return task.at("OPT420", message, at, hint=hint)


def _cure(config: WebhookConfig, event: str, table: SenderTable, names: set[str]) -> _EventCure | None:
    """Return the cure for a name that the sender does not have, or None for a name that resembles none."""
    if config.scheme == "slack":
        return _of_slack(event)
    name, action = _split(event, table)
    if action and name is not None and _actions(table, name):
        return _parted(config, name, action, table, names)
    if any(event in _actions(table, event_name) for event_name in table.events):
        return _EventCure(f"it is an action: name its event, and write `when: \"@.action == '{event}'\"`")
    if config.scheme == "gitlab":
        made = f"{event.replace('_', ' ').replace(' events', '').title()} Hook"
        name = suggest(made, table.events) or suggest(event, table.events)
        known = name or ("Push Hook" if not re.fullmatch(_GITLAB_EVENT, event) else None)
        return (
            None
            if known is None
            else _EventCure(f"did you mean `{name}`?" if name else "its names end in `Hook`, as in `Push Hook`")
        )
    if "." in event:
        return _of_object(event, table)
    ends = [event_name for event_name in table.events if event_name.replace(".", "_") == event]
    name = ends[0] if len(ends) == 1 else suggest(event, table.events)
    return None if name is None else _EventCure(f"did you mean `{name}`?", name)


def _actions(table: SenderTable, event: str) -> list[str]:
    return [each.action for each in table.deliveries(event) if each.action is not None]


def _split(event: str, table: SenderTable) -> tuple[str | None, str]:
    """Return the event and the action of one word such as `pull_request.opened`, the event as far as it is recognised."""
    head, _, action = re.sub(r"[ -]", "_", event.lower()).partition("." if "." in event else ":" if ":" in event else "/")
    return (head if head in table.events else suggest(head, table.events)), action


def _of_object(event: str, table: SenderTable) -> _EventCure | None:
    """Return the cure for a name of an object and a word, such as `charge.refund`. A word that no object has may be new."""
    head, _, word = event.rpartition(".")
    pairs = [(name, last) for name, _, last in (event_name.rpartition(".") for event_name in table.events)]
    words = sorted(last for name, last in pairs if name == head)
    ends = [event_name for event_name in table.events if event_name.endswith(f".{event}")]
    parts = [last for last in words if word in last.split("_")]
    near = parts[0] if len(parts) == 1 else suggest(word, words)
    if len(ends) == 1 or near is not None:
        name = ends[0] if len(ends) == 1 else f"{head}.{near}"
        return _EventCure(f"did you mean `{name}`?", name)
    is_known = any(word == last for _, last in pairs) or suggest(word, {last for _, last in pairs}) is not None
    if words:
        return _EventCure(f"`{head}` has {', '.join(words)}") if is_known else None
    return _of_other_object(event, head, table, is_known=is_known)


def _of_other_object(event: str, head: str, table: SenderTable, *, is_known: bool) -> _EventCure | None:
    """Return the cure for an object that the sender does not have, by the objects that have its name as a part."""
    objects = {event_name.rpartition(".")[0] for event_name in table.events}
    alike = sorted(event_name for event_name in objects if head in re.split("[._]", event_name))
    if alike and is_known:
        return _EventCure(f"its objects are called {' or '.join(f'`{event_name}`' for event_name in alike[:_MAX_SHOWN])}")
    slip = suggest(event, table.events)
    return _EventCure(f"did you mean `{slip}`?", slip) if slip is not None and _is_slip(event, slip) else None


def _is_slip(given: str, meant: str) -> bool:
    """Return True if the names differ in their letters by a slip of the keyboard, and not in a word."""
    return abs(len(given) - len(meant)) <= _MAX_SLIP and sum((Counter(given) - Counter(meant)).values()) <= _MAX_SLIP


def _parted(config: WebhookConfig, name: str, action: str, table: SenderTable, names: set[str]) -> _EventCure:
    """Return the cure for an event and its action in one word: the action stands in the body, so `when` asks for it."""
    known = _actions(table, name)
    meant = [
        found
        for other, its in (_split(each, table) for each in config.events or ())
        if other == name and (found := its if its in known else suggest(its, known)) is not None
    ]
    if name in names:
        return _EventCure(f"delete it: `{name}` with a filter is enough")
    names.add(name)
    if (action if action in known else suggest(action, known)) is None:
        return _EventCure(f"write `{name}`, whose actions are {', '.join(known)}")
    test = " || ".join(f"@.action == '{each}'" for each in meant)
    if config.when is None:
        return _EventCure(f'write `{name}`, and `when: "{test}"`', name, test)
    return _EventCure(
        f"write `{name}`" + (": `when` says the rest" if test in config.when else f", and ask for `{test}` in `when`, too")
    )


def _of_slack(event: str) -> _EventCure | None:
    """Return the cure for names of Slack's subscriptions and envelopes, which stand elsewhere in a delivery."""
    name, _, kind = event.partition(".")
    if name == "message" and kind in ("channels", "groups", "im", "mpim", "app_home"):
        return _EventCure(f"write `message`, and test `@.event.channel_type == '{kind.rstrip('s')}'` in `when`")
    if event == "event_callback":
        return _EventCure("write the type of the event in it (`$.event.type`), such as `app_mention` or `message`")
    if event == "url_verification":
        return _EventCure(
            "delete it: the server answers this request itself; name what Slack sends later, such as `app_mention`"
        )
    return None


def _fix(task: ResolvedTask, event: Route, config: WebhookConfig, name: str, test: str | None) -> Fix | None:
    """Return a fix that writes the event, and for an event that stands alone its action into a new filter."""
    if test is None:
        return task.document.rewritten(event, task.document.restyled(event, name), safe=False)
    if len(config.events or ()) != 1:
        return None
    from optio.compiler.edits import fix_edits

    when = fix_edits.insert_key_before(task.document, event[:-1], f'when: "{test}"')
    return when and Fix((*when.edits, *Fix.write(name, task.span(event)).edits), safe=False)
