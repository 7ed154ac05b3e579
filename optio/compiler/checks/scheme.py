"""Schemes: whether the sender that the file speaks of signs in the way that the file says."""

import re
from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolve import ResolvedTask
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

# Events that only GitHub names so, in the header that only its own scheme reads.
_GITHUB_EVENTS = frozenset(
    {
        *("pull_request", "pull_request_review", "issues", "issue_comment", "workflow_run", "check_run", "check_suite"),
        *("workflow_dispatch", "deployment_status", "repository_dispatch", "dependabot_alert"),
    }
)
# Headers whose signature no scheme reads, and what is in them.
_UNREAD = {
    "stripe-signature": "Stripe signs a time stamp together with the body",
    "x-slack-signature": "Slack signs a time stamp together with the body",
    "x-gitlab-token": "GitLab sends the secret itself, and no signature",
    "x-pagerduty-signature": "PagerDuty writes `v1=` before each of its signatures",
    "x-zm-signature": "Zoom signs a time stamp together with the body",
    "calendly-webhook-signature": "Calendly signs a time stamp together with the body",
    "x-twilio-signature": "Twilio signs its URL, with SHA-1",
}
# Headers whose signature is base64.
_BASE64 = {
    "x-shopify-hmac-sha256": "Shopify",
    "x-wc-webhook-signature": "WooCommerce",
    "typeform-signature": "Typeform",
    "heroku-webhook-hmac-sha256": "Heroku",
    "x-line-signature": "LINE",
}
_STANDARD = frozenset({"webhook-signature", "svix-signature"})


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Every webhook that is signed."""
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config")
        sound = task.knows(route) and task.knows((*route, "scheme"))
        if isinstance(trigger, WebhookTrigger) and sound:
            if trigger.config.secret is not None:
                yield from _one(task, route, trigger.config)
            elif trigger.config.scheme != "github":
                yield from _of_githubs(task, route, trigger.config)
            if trigger.config.scheme != "github":
                yield from _unread_events(task, route, trigger.config)


def _one(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    scheme, header = config.scheme, (config.signature_header or "").lower()
    if config.signature_encoding != "hex" and scheme != "hmac":
        message = f"`signatureEncoding` does nothing with `scheme: {scheme}`"
        yield task.at("OPT420", message, (*route, "signatureEncoding"), key=True, hint="delete it, or write `scheme: hmac`")
    if why := _UNREAD.get(header):
        message = f"no scheme reads `{config.signature_header}`: {why}"
        hint = "let a relay check it and sign the delivery anew, and name the relay's header here"
        yield task.at("OPT420", message, (*route, "signatureHeader"), hint=hint)
    elif header in _STANDARD and scheme != "standard-webhooks":
        message = f"`{config.signature_header}` is the header of Standard Webhooks, and `scheme: {scheme}` reads another form"
        yield task.at("OPT420", message, (*route, "signatureHeader"), hint="write `scheme: standard-webhooks`, and delete this")
    elif header == "x-hub-signature-256" and scheme != "github":
        message = f"`{config.signature_header}` is the header of GitHub, whose events `scheme: {scheme}` does not read"
        yield task.at("OPT420", message, (*route, "signatureHeader"), hint="write `scheme: github`, and delete this")
    elif header and scheme != "hmac":
        message = f"`signatureHeader` does nothing with `scheme: {scheme}`"
        yield task.at("OPT420", message, (*route, "signatureHeader"), key=True, hint="delete it, or write `scheme: hmac`")
    elif header in _BASE64 and config.signature_encoding == "hex":
        message = f"the signature of {_BASE64[header]} is in base64, and hex is read"
        yield task.at("OPT420", message, (*route, "signatureHeader"), hint="add `signatureEncoding: base64`")
    elif scheme != "github":
        yield from _github(task, route, config)


def _github(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    hint = "write `scheme: github`"
    told = list(_of_githubs(task, route, config))
    yield from told
    if not told and config.scheme == "optio" and re.search(r"(?:^|-)github(?:-|$)", config.path):
        message = "`scheme: optio` reads `X-Optio-Signature`, and GitHub signs in `X-Hub-Signature-256`"
        yield task.at("OPT420", message, (*route, "path"), hint=hint)


def _of_githubs(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """The first of GitHub's events in the list."""
    for index, event in enumerate(config.events or ()):
        if event in _GITHUB_EVENTS:
            message = f"`{event}` is an event of GitHub, and `scheme: {config.scheme}` reads it from `X-Optio-Event`"
            yield task.at("OPT420", message, (*route, "events", index), hint="write `scheme: github`")
            return


def _unread_events(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """The first event in the list that its sender names in a header of its own."""
    for index, event in enumerate(config.events or ()):
        if found := re.fullmatch(r"([A-Z][A-Za-z ]{1,40}) Hook", event):
            kind = {"job": "build"}.get(found[1].lower(), found[1].lower().replace(" ", "_"))
            hint = f"delete `events`, and write `when: \"@.object_kind == '{kind}'\"`"
            sender, header = "GitLab", "X-Gitlab-Event"
        elif re.fullmatch(r"(?:repo|pullrequest|pr):[a-z_:]{1,60}", event):
            hint = "delete `events`, and tell deliveries apart by `when`, or by a path for each"
            sender, header = "Bitbucket", "X-Event-Key"
        else:
            continue
        message = f"`{event}` is an event of {sender}, which names it in `{header}`, and Optio reads `X-Optio-Event`"
        yield task.at("OPT420", message, (*route, "events", index), hint=hint)
        return
