"""Webhook senders: how each one signs, names the event and numbers its deliveries. A table without behaviour.

`optio.runs.signature` verifies and signs by it. `optio check`, `optio hook`, `optio test` and the JSON Schema read it too: a
new sender is a new row here, a value of `trigger.Scheme`, and a row in `docs/reference/signatures.md`.

A signature is an HMAC-SHA256, keyed by the secret, over the parts of `signed` and then the body. The one exception is GitLab's
secret token, where the header carries the secret itself.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from optio.model.trigger import Scheme, WebhookConfig

SIGNING_PREFIX = "whsec_"


class InHeader(Struct, frozen=True):
    """A value in a request header; `name` is spelled as the sender spells it."""

    name: str


class InSignature(Struct, frozen=True):
    """A value in one entry of the signature header: in `t=1700000000` it has the key `t`."""

    key: str


class InBody(Struct, frozen=True):
    """A value in the JSON body, found by a JSONPath such as `$.event.id`."""

    path: str


Source = InHeader | InBody
Stamp = InHeader | InSignature


class Sender(Struct, frozen=True, kw_only=True):
    """The conventions of one sender. Of the places in `event` and `delivery` the first that holds a value counts."""

    name: str
    """Who sends, as people call it."""
    summary: str
    """The scheme in one line, for editors."""
    header: str
    """The header that carries the signature."""
    prefixes: tuple[str, ...] = ("",)
    """What stands before a signature; one of them is required, and the first is sent."""
    separator: str | None = None
    """What stands between several entries of the header. One signature that verifies is enough."""
    encoding: Literal["hex", "base64", "token"] = "hex"
    """How a signature is written; `token`: the header carries the secret itself."""
    signed: tuple[str | Stamp, ...] = ()
    """What is signed before the body."""
    timestamp: Stamp | None = None
    """Where the time of signing stands, in Unix seconds; one of the parts of `signed`."""
    may_omit_timestamp: bool = False
    """Whether a request without the time stamp is signed over the body alone."""
    event: tuple[Source, ...]
    delivery: tuple[Source, ...]
    key: Literal["text", "base64"] = "text"
    """How the secret becomes the key: its bytes as written, or decoded."""
    min_key_bytes: int = 8
    signing: "Sender | None" = None
    """How a secret that begins with `whsec_` verifies instead."""
    challenge: str | None = None
    """The `type` of a request that asks for its `challenge` back before the sender uses the URL."""

    @property
    def can_be_stale(self) -> bool:
        """Return whether a signature can cover a timestamp, so that old requests can be refused."""
        return self.timestamp is not None or (self.signing is not None and self.signing.timestamp is not None)


_OPTIO_STAMP, _SLACK_STAMP, _STRIPE_STAMP = (
    InHeader("X-Optio-Timestamp"),
    InHeader("X-Slack-Request-Timestamp"),
    InSignature("t"),
)
_STANDARD_ID, _STANDARD_STAMP = InHeader("webhook-id"), InHeader("webhook-timestamp")
RETRIED = InHeader("Idempotency-Key")

_STANDARD = Sender(
    name="Standard Webhooks",
    summary="`webhook-signature`, as Standard Webhooks describes it: over id, time stamp and body",
    header="webhook-signature",
    prefixes=("v1,",),
    separator=" ",
    encoding="base64",
    signed=(_STANDARD_ID, ".", _STANDARD_STAMP, "."),
    timestamp=_STANDARD_STAMP,
    event=(InBody("$.type"),),
    delivery=(_STANDARD_ID,),
    key="base64",
    # The specification asks for 24 to 64. Senders with 16 are in use, and 16 cannot be guessed either.
    min_key_bytes=16,
)
_GITLAB_EVENT = (InHeader("X-Gitlab-Event"),)

SENDERS: Mapping[Scheme, Sender] = {
    "optio": Sender(
        name="Optio",
        summary="`X-Optio-Signature`: over the body, and over `X-Optio-Timestamp` if it is sent",
        header="X-Optio-Signature",
        prefixes=("sha256=", ""),
        signed=(_OPTIO_STAMP, "."),
        timestamp=_OPTIO_STAMP,
        may_omit_timestamp=True,
        event=(InHeader("X-Optio-Event"),),
        delivery=(InHeader("X-Optio-Delivery"), RETRIED),
    ),
    "github": Sender(
        name="GitHub",
        summary="`X-Hub-Signature-256`, as GitHub signs",
        header="X-Hub-Signature-256",
        prefixes=("sha256=",),
        event=(InHeader("X-GitHub-Event"),),
        delivery=(InHeader("X-GitHub-Delivery"),),
    ),
    "gitlab": Sender(
        name="GitLab",
        summary="`X-Gitlab-Token`, or `webhook-signature` if the secret is a signing token (`whsec_...`)",
        header="X-Gitlab-Token",
        encoding="token",
        event=_GITLAB_EVENT,
        # `X-Gitlab-Event-UUID` is not unique: webhooks that cause each other share it.
        delivery=(RETRIED,),
        signing=replace(_STANDARD, name="GitLab", event=_GITLAB_EVENT),
    ),
    "gitea": Sender(
        name="Gitea",
        summary="`X-Gitea-Signature`, as Gitea and Forgejo sign",
        header="X-Gitea-Signature",
        event=(InHeader("X-Gitea-Event"),),
        delivery=(InHeader("X-Gitea-Delivery"),),
    ),
    "slack": Sender(
        name="Slack",
        summary="`X-Slack-Signature`, as Slack's Events API signs: over time stamp and body",
        header="X-Slack-Signature",
        prefixes=("v0=",),
        signed=("v0:", _SLACK_STAMP, ":"),
        timestamp=_SLACK_STAMP,
        event=(InBody("$.event.type"), InBody("$.type")),
        delivery=(InBody("$.event_id"),),
        challenge="url_verification",
    ),
    "stripe": Sender(
        name="Stripe",
        summary="`Stripe-Signature`, as Stripe signs: over time stamp and body",
        header="Stripe-Signature",
        prefixes=("v1=",),
        separator=",",
        signed=(_STRIPE_STAMP, "."),
        timestamp=_STRIPE_STAMP,
        event=(InBody("$.type"),),
        delivery=(InBody("$.id"),),
    ),
    "pagerduty": Sender(
        name="PagerDuty",
        summary="`X-PagerDuty-Signature`, as PagerDuty's webhooks v3 sign",
        header="X-PagerDuty-Signature",
        prefixes=("v1=",),
        separator=",",
        event=(InBody("$.event.event_type"),),
        delivery=(InBody("$.event.id"),),
    ),
    "standard-webhooks": _STANDARD,
    "hmac": Sender(
        name="a sender of your own",
        summary="HMAC-SHA256 of the body in a header of your choice: `signatureHeader`",
        header="X-Signature",
        prefixes=("sha256=", ""),
        # Only for tasks that an earlier version compiled: `events` needs `eventHeader` or `eventPath` now.
        event=(InHeader("X-Optio-Event"),),
        delivery=(RETRIED,),
    ),
}


def sender_of(config: WebhookConfig) -> Sender:
    """Return the row of a webhook's scheme, with the headers and encoding that the webhook itself configures."""
    row = SENDERS[config.scheme]
    if config.scheme == "hmac":
        row = replace(row, encoding=config.signature_encoding, header=config.signature_header or row.header)
        if config.signature_encoding == "base64":
            row = replace(row, prefixes=("", "sha256="))
        if config.event_header is not None:
            row = replace(row, event=(InHeader(config.event_header),))
        elif config.event_path is not None:
            row = replace(row, event=(InBody(config.event_path),))
    if config.delivery_header is not None:
        delivery = (InHeader(config.delivery_header),)
        signing = None if row.signing is None else replace(row.signing, delivery=delivery)
        row = replace(row, delivery=delivery, signing=signing)
    return row
