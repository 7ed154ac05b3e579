"""Check that a webhook's `scheme`, headers and events fit the sender that the file speaks of: a Stripe event with `scheme:
github` would never be accepted."""

from collections.abc import Iterator

from optio.compiler.checks import event_names
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route, value_at
from optio.model.senders import RETRIED, SENDERS, InHeader, Sender, sender_of
from optio.model.trigger import Scheme, WebhookConfig, WebhookTrigger

# The scheme of a sender by its signature header, if no other sender uses that header.
_OWN_HEADERS: dict[str, Scheme] = {
    **{sender.header.lower(): scheme for scheme, sender in SENDERS.items() if scheme not in ("hmac", "optio")},
    **dict.fromkeys(("x-forgejo-signature", "x-gogs-signature"), "gitea"),
}
# Signature headers that no scheme supports, with the reason.
_UNREAD = {
    "x-zm-signature": "Zoom signs a time stamp together with the body",
    "calendly-webhook-signature": "Calendly signs a time stamp together with the body",
    "x-twilio-signature": "Twilio signs its URL, with SHA-1",
    "svix-signature": "Svix signs as Standard Webhooks does, with headers of other names",
    "x-zendesk-webhook-signature": "Zendesk signs a time stamp together with the body",
    "x-trello-webhook": "Trello signs its URL together with the body, with SHA-1",
    "x-mandrill-signature": "Mandrill signs its URL, with SHA-1",
    "x-vercel-signature": "Vercel signs with SHA-1",
}
# Headers with the event or the number of a delivery that one sender sets, with its signature header.
SIGNED_IN = {
    "sentry-hook-resource": ("Sentry", "Sentry-Hook-Signature"),
    **dict.fromkeys(("linear-event", "linear-delivery"), ("Linear", "Linear-Signature")),
    **dict.fromkeys(("x-shopify-topic", "x-shopify-webhook-id"), ("Shopify", "X-Shopify-Hmac-Sha256")),
    **dict.fromkeys(("x-wc-webhook-topic", "x-wc-webhook-delivery-id"), ("WooCommerce", "X-WC-Webhook-Signature")),
    "x-event-key": ("Bitbucket", "X-Hub-Signature"),
    "x-atlassian-webhook-identifier": ("Jira", "X-Hub-Signature"),
}
# Schemes whose every delivery differs in what is signed.
_SIGNED_ID: tuple[Scheme, ...] = ("slack", "stripe", "pagerduty", "standard-webhooks")
_WITH_HEADERS: tuple[Scheme, ...] = ("github", "gitlab", "gitea")
# Signature headers with base64 signatures.
_BASE64 = {
    "x-shopify-hmac-sha256": "Shopify",
    "x-wc-webhook-signature": "WooCommerce",
    "typeform-signature": "Typeform",
    "heroku-webhook-hmac-sha256": "Heroku",
    "x-line-signature": "LINE",
    "x-twitter-webhooks-signature": "X",
}


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of every signed webhook, and of the events of all webhooks."""
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config")
        if isinstance(trigger, WebhookTrigger) and task.is_known(route) and task.is_known((*route, "scheme")):
            yield from _without_effect(task, route, trigger.config)
            findings = [] if trigger.config.secret is None else list(_signature(task, route, trigger.config))
            findings += _event_place(task, route, trigger.config)
            findings += event_names.check(task, route, trigger.config)
            yield from findings or _delivery(task, route, trigger.config)


def _without_effect(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """Report keys that only `hmac` reads. A signature header of a known sender is reported instead, because it says more."""
    header = (config.signature_header or "").lower()
    foreign = header in _UNREAD or _OWN_HEADERS.get(header, config.scheme) != config.scheme
    sender = SENDERS[config.scheme]
    header_names = {place.name.lower() for place in sender.event if isinstance(place, InHeader)}
    values = {
        "signatureHeader": config.secret and header and not foreign and header not in _signed_in(sender),
        "signatureEncoding": config.secret and config.signature_encoding != "hex",
        "eventHeader": config.event_header and config.event_header.lower() not in header_names,
        "eventPath": config.event_path,
    }
    if config.replay_window is not None and config.scheme in _SIGNED_ID:
        message = f"`replayWindow` has no effect with `scheme: {config.scheme}`: what is signed has an id of the delivery"
        yield task.at("OPT420", message, (*route, "replayWindow"), key=True, hint="delete it")
    for key in (key for key, value in values.items() if value and config.scheme != "hmac"):
        message, hint = f"`{key}` has no effect with `scheme: {config.scheme}`", "delete it, or write `scheme: hmac`"
        is_said = value_at(task.document.value, (*route, "scheme")) is not None
        if not is_said:
            hint = "write `scheme: hmac` beside it, or delete it if the sender signs as Optio does"
        yield task.at("OPT420", message, (*route, key), key=True, hint=hint)
        if not is_said:
            return  # one word makes all of them count


def _signature(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """Report a header whose signature the scheme does not verify."""
    scheme, header, place = config.scheme, (config.signature_header or "").lower(), (*route, "signatureHeader")
    owner, reason = _OWN_HEADERS.get(header), _UNREAD.get(header)
    if reason is not None:
        message = f"no scheme supports `{config.signature_header}`: {reason}"
        hint = "let a relay check it and sign the delivery again, and name the relay's header here"
        yield task.at("OPT420", message, place, hint=hint)
    elif owner not in (None, scheme) and header not in _signed_in(SENDERS[scheme]) and not _is_read(config, owner):
        message = f"`scheme: {scheme}` does not verify what {SENDERS[owner].name} signs in `{config.signature_header}`"
        yield task.at("OPT420", message, place, hint=f"write `scheme: {owner}`, and delete `signatureHeader`")
    elif scheme == "hmac":
        yield from _hmac_signature(task, route, config, header)


def _hmac_signature(task: ResolvedTask, route: Route, config: WebhookConfig, header: str) -> Iterator[Diagnostic]:
    place: Route = (*route, "signatureHeader")
    if header in SIGNED_IN:
        sender, right = SIGNED_IN[header]
        message = f"`{config.signature_header}` of {sender} is not a signature"
        yield task.at("OPT420", message, place, hint=f"write `{right}`")
    elif header == "x-hub-signature" and any(_is_githubs(name) for name in (config.event_header, config.delivery_header)):
        message = "`X-Hub-Signature` of GitHub is SHA-1, which no scheme reads: every delivery would be refused"
        yield task.at("OPT420", message, place, hint="write `scheme: github`, and delete the keys that name headers")
    elif not header and task.is_known(place) and (header_fault := _by_other_headers(config)) is not None:
        key, signer, hint = header_fault
        message = (
            f"`scheme: hmac` reads `{SENDERS['hmac'].header}` without `signatureHeader`, and {signer} signs in another header"
        )
        yield task.at("OPT420", message, (*route, key), hint=hint)
    elif header in _BASE64 and config.signature_encoding == "hex":
        message = f"the signature of {_BASE64[header]} is base64, but hex is expected"
        encoding_route = (*route, "signatureEncoding")
        is_there = "signatureEncoding" in value_at(task.document.value, route)
        hint = f"{'write' if is_there else 'add'} `signatureEncoding: base64`"
        yield task.at("OPT420", message, encoding_route if is_there else place, hint=hint)


def _signed_in(sender: Sender) -> set[str]:
    """Return the headers, in lower case, in which a sender signs."""
    return {signer.header.lower() for signer in (sender, sender.signing) if signer is not None}


def _is_read(config: WebhookConfig, owner: Scheme) -> bool:
    """Return True if `scheme: hmac` verifies what this sender signs: the body alone, with a prefix that it knows."""
    sender, own_sender = SENDERS[owner], sender_of(config)
    is_plain = not sender.signed and sender.separator is None and sender.encoding == config.signature_encoding
    return config.scheme == "hmac" and is_plain and set(sender.prefixes) <= set(own_sender.prefixes)


def _by_other_headers(config: WebhookConfig) -> tuple[str, str, str] | None:
    """Return the key of a header that only one sender sets, the sender, and the hint how to read its signature."""
    for key, name in (("eventHeader", config.event_header), ("deliveryHeader", config.delivery_header)):
        signing = SIGNED_IN.get((name or "").lower())
        if signing is not None:
            signer, header = signing
            base64 = (
                ", and `signatureEncoding: base64`" if header.lower() in _BASE64 and config.signature_encoding == "hex" else ""
            )
            return key, signer, f"add `signatureHeader: {header}`{base64}"
        for scheme_name in _WITH_HEADERS:
            row = SENDERS[scheme_name]
            if name is not None and name.lower() in {
                place.name.lower() for place in (*row.event, *row.delivery) if isinstance(place, InHeader) and place != RETRIED
            }:
                return key, row.name, f"write `scheme: {scheme_name}`, and delete `{key}`"
    return None


def _is_githubs(name: str | None) -> bool:
    """Return True for a header such as `X-GitHub-Event`. Others, such as Bitbucket, send an `X-Hub-Signature` of SHA-256."""
    return name is not None and name.lower().startswith("x-github-")


def _delivery(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """Report a header with the event that is taken for the number of a delivery: all but the first would be repetitions."""
    header = (config.delivery_header or "").lower()
    if header and any(isinstance(place, InHeader) and place.name.lower() == header for place in sender_of(config).event):
        message = f"`{config.delivery_header}` names the event: all deliveries of one event would count as one"
        hint = f"delete it, or write the header with the delivery's number, such as `{RETRIED.name}`"
        yield task.at("OPT420", message, (*route, "deliveryHeader"), hint=hint)


def _event_place(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    """Report keys that say where the event is named: every scheme except `hmac` knows that itself."""
    places = {"eventHeader": config.event_header, "eventPath": config.event_path}
    place_keys = [key for key, value in places.items() if value is not None]
    if config.scheme != "hmac":
        return
    if len(place_keys) > 1:
        yield task.at(
            "OPT108",
            "both `eventHeader` and `eventPath`",
            (*route, "eventPath"),
            key=True,
            hint="keep one: delete `eventPath`, or `eventHeader`",
        )
    elif config.events is not None and not place_keys and all(task.is_known((*route, key)) for key in places):
        message = "`events` with `scheme: hmac`, without the place where the sender names the event"
        hint = "add `eventHeader: X-Event-Key`, or another header, or `eventPath: $.type`, or another JSONPath"
        sender = next(filter(None, map(event_names.guess_sender, config.events)), None)
        if sender is not None and sender != "bitbucket":
            hint = f"write `scheme: {sender}`"
        yield task.at("OPT427", message, (*route, "events"), key=True, hint=hint)
