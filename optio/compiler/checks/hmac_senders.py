"""Check webhooks with `scheme: hmac` whose headers belong to a well-known sender: where it names the event, and how. The names
are those of the senders' own documentation; one that resembles none of them is left alone."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route
from optio.model.trigger import WebhookConfig


class _Known(NamedTuple):
    """A sender: its name, its signature header, the key that names the event, the names of events, and their form."""

    name: str
    header: str
    place: tuple[str, str]
    events: tuple[str, ...] = ()
    form: str | None = None


_LINEAR = _Known(
    "Linear",
    "Linear-Signature",
    ("eventHeader", "Linear-Event"),
    (
        *("Issue", "Comment", "IssueLabel", "Project", "ProjectUpdate", "Cycle", "Reaction", "Document", "Initiative"),
        *("InitiativeUpdate", "Customer", "CustomerNeed", "User", "IssueSLA", "AgentSessionEvent", "AppUserNotification"),
        *("OAuthApp", "OAuthAuthorization", "PermissionChange", "IssueAttachment", "ProjectLabel", "Release"),
    ),
)
_SENTRY = _Known(
    "Sentry",
    "Sentry-Hook-Signature",
    ("eventHeader", "Sentry-Hook-Resource"),
    ("installation", "issue", "error", "comment", "event_alert", "metric_alert", "seer"),
)
_SHOPIFY = _Known("Shopify", "X-Shopify-Hmac-Sha256", ("eventHeader", "X-Shopify-Topic"), (), r"[a-z_]+/[a-z_]+")
_TYPEFORM = _Known("Typeform", "Typeform-Signature", ("eventPath", "$.event_type"), ("form_response", "form_response_partial"))
_BITBUCKET = _Known(
    "Bitbucket",
    "X-Hub-Signature",
    ("eventHeader", "X-Event-Key"),
    (
        *("repo:push", "repo:fork", "repo:updated", "repo:commit_comment_created", "repo:commit_status_created"),
        *("repo:commit_status_updated", "issue:created", "issue:updated", "issue:comment_created", "pullrequest:created"),
        *("pullrequest:updated", "pullrequest:approved", "pullrequest:unapproved", "pullrequest:fulfilled"),
        *("pullrequest:rejected", "pullrequest:changes_request_created", "pullrequest:comment_created"),
        *("pullrequest:comment_updated", "pullrequest:comment_deleted", "pullrequest:comment_resolved"),
    ),
    r"[a-z]+:[a-z_:]+",
)
_JIRA = _Known(
    "Jira",
    "X-Hub-Signature",
    ("eventPath", "$.webhookEvent"),
    (
        *("jira:issue_created", "jira:issue_updated", "jira:issue_deleted", "comment_created", "comment_updated"),
        *("comment_deleted", "worklog_created", "worklog_updated", "worklog_deleted", "issuelink_created"),
        *("issuelink_deleted", "attachment_created", "attachment_deleted", "sprint_created", "sprint_started"),
        *("sprint_closed", "sprint_updated", "project_created", "project_updated", "project_deleted", "user_created"),
        *("jira:version_released", "jira:version_created", "jira:version_updated", "board_created", "option_voting_changed"),
    ),
)
_ALL = (_LINEAR, _SENTRY, _TYPEFORM, _BITBUCKET, _JIRA)
_BY_SIGNATURE = {each.header.lower(): each for each in (_LINEAR, _SENTRY, _SHOPIFY, _TYPEFORM)}
# The header by which a sender names the event, or numbers its deliveries, tells the sender, too.
_BY_OTHER = {
    **{each.place[1].lower(): each for each in (_LINEAR, _SENTRY, _SHOPIFY, _BITBUCKET)},
    **dict.fromkeys(("linear-delivery",), _LINEAR),
    **dict.fromkeys(("x-shopify-webhook-id",), _SHOPIFY),
    **dict.fromkeys(("x-request-uuid", "x-hook-uuid"), _BITBUCKET),
    **dict.fromkeys(("x-atlassian-webhook-identifier",), _JIRA),
}
# Words of other senders and of spoken English for events.
_MEANT = {
    **dict.fromkeys(("pull_request", "pull_request:opened", "pullrequest:opened", "pullrequest"), "pullrequest:created"),
    **dict.fromkeys(("pullrequest:merged", "pull_request:merged"), "pullrequest:fulfilled"),
    **dict.fromkeys(("pullrequest:declined", "pullrequest:closed"), "pullrequest:rejected"),
    "push": "repo:push",
    "issue": "jira:issue_created",
}


def check(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """Report one slip in the headers, the place of the event, or its names."""
    names = {"signatureHeader": config.signature_header, "eventHeader": config.event_header}
    lower = {key: (name or "").lower() for key, name in names.items()}
    if config.signature_header and (sender := _BY_OTHER.get(lower["signatureHeader"])) is not None:
        message = f"`{config.signature_header}` of {sender.name} is not a signature"
        yield task.at("OPT420", message, (*route, "signatureHeader"), hint=f"write `{sender.header}`")
        return
    if config.event_header and (sender := _BY_SIGNATURE.get(lower["eventHeader"])) is not None:
        key, value = sender.place
        hint = f"write `{value}`" if key == "eventHeader" else f"write `{key}: {value}` in the place of `eventHeader`"
        message = f"`{config.event_header}` of {sender.name} is the signature, and names no event"
        yield task.at("OPT420", message, (*route, "eventHeader"), hint=hint)
        return
    sender = _sender(config, lower)
    if sender is None:
        return
    if config.signature_header and lower["signatureHeader"] != sender.header.lower():
        if sender.name.lower() in lower["signatureHeader"]:
            message = f"`{config.signature_header}` is a header that {sender.name} does not send"
            yield task.at("OPT420", message, (*route, "signatureHeader"), hint=f"write `{sender.header}`")
        return
    yield from _place(task, route, config, sender) if config.events else ()


def suggest_place(config: WebhookConfig) -> str | None:
    """Return the hint with the key that names the event, for a webhook whose headers or events are those of one sender."""
    sender = _sender(config, {"signatureHeader": (config.signature_header or "").lower(), "eventHeader": ""})
    if sender is None:
        named = [each for each in _ALL if any(event in each.events for event in config.events or ())]
        sender = named[0] if len(named) == 1 else None
    if sender is None and any(event.startswith("jira:") for event in config.events or ()):
        sender = _JIRA
    if sender is None:
        return None
    key, value = sender.place
    return f"add `{key}: {value}`, where {sender.name} names the event"


def _sender(config: WebhookConfig, lower: dict[str, str]) -> _Known | None:
    others = (lower["eventHeader"], (config.delivery_header or "").lower())
    by_other = next((_BY_OTHER[each] for each in others if each in _BY_OTHER), None)
    sender = _BY_SIGNATURE.get(lower["signatureHeader"], by_other)
    if lower["signatureHeader"] == "x-hub-signature" and sender in (None, _BITBUCKET):
        is_jiras = config.event_path == "$.webhookEvent" or any(each.startswith("jira:") for each in config.events or ())
        return _JIRA if is_jiras else sender
    return sender


def _place(task: ResolvedTask, route: Route, config: WebhookConfig, sender: _Known) -> Iterator[Diagnostic]:
    """Report an event that stands elsewhere, and a name that the sender writes in another way."""
    key, value = sender.place
    events = config.events or []
    if config.event_header is not None and (key != "eventHeader" or config.event_header.lower() != value.lower()):
        if key == "eventPath" and config.event_header.lower() in _BY_OTHER:
            message = f"`{config.event_header}` is a header that {sender.name} does not send"
            hint = f"write `{key}: {value}` in the place of `eventHeader`"
            yield task.at("OPT420", message, (*route, "eventHeader"), hint=hint)
        return
    if config.event_path is not None and key == "eventHeader":
        if config.event_path == "$.action" and any(event in sender.events for event in events):
            message = f"`$.action` of {sender.name} says what happened, such as `created`, and never `{events[0]}`"
            hint = f"write `{key}: {value}` in the place of `eventPath`"
            yield task.at("OPT420", message, (*route, "eventPath"), hint=hint)
        return
    if config.event_path is not None and config.event_path != value:
        return
    for index, event in enumerate(events):
        if event not in sender.events and (cure := _name(event, sender)) is not None:
            message = f"`{event}` is not an event of {sender.name}, so no delivery matches"
            yield task.at("OPT420", message, (*route, "events", index), hint=cure)
            return


def _name(event: str, sender: _Known) -> str | None:
    """Return the cure for a name that the sender writes in another way, or None."""
    head, _, tail = event.partition(".")
    resource = next((each for each in sender.events if each.casefold() == head.casefold()), None)
    if sender in (_LINEAR, _SENTRY) and tail and resource is not None:
        action = {"created": "create", "updated": "update", "removed": "remove"}.get(tail, tail) if sender is _LINEAR else tail
        return f"write `{resource}`, and `when: \"@.action == '{action}'\"`: the action stands in the body"
    if sender is _SHOPIFY:
        made = re.sub(r"[.:_ ]", "/", event.lower(), count=1)
        return None if re.fullmatch(sender.form or "", event) or "/" not in made else f"write `{made}`"
    if (meant := _MEANT.get(event.lower())) in sender.events:
        return f"write `{meant}`"
    if sender.form is not None and re.fullmatch(sender.form, event) and suggest(event, sender.events) is None:
        return None
    folded = {re.sub(r"\W|_", "", each.lower()): each for each in sender.events}
    folded |= {re.sub(r"\W|_", "", each.lower().partition(":")[2]): each for each in sender.events if ":" in each}
    bare = re.sub(r"\W|_", "", event.lower())
    near = folded.get(bare) or folded.get(bare.removesuffix("s"))
    return f"did you mean `{near}`?" if near is not None else None
