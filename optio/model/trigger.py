"""Triggers: the events that may start a run, as task files configure them. A task has at most one of each type."""

from datetime import timedelta
from typing import Annotated, Literal

from msgspec import Meta, field

from optio.model import text
from optio.model.spec import HeaderName, Mapping, ReplayWindow, SecretName, Spec, Text

Misfire = Literal["last", "skip", "all"]
Overlap = Literal["queue", "skip"]
# Each is a row of `senders.SENDERS`.
Scheme = Literal["optio", "github", "gitlab", "gitea", "slack", "stripe", "pagerduty", "standard-webhooks", "hmac"]

# Longer than a day and shorter than a week: a daily sender with a constant body notices at once, a weekly one is not affected.
DEFAULT_REPLAY_WINDOW = "72h"


class SecretRef(Spec, frozen=True, kw_only=True):
    """A secret by name; task files never contain its value."""

    name: SecretName
    """The name of the secret."""


class ManualConfig(Spec, frozen=True, kw_only=True):
    """There is nothing to configure: any caller with the operator role may start the task."""


class _Trigger(Spec, frozen=True, tag_field="type"):
    @property
    def type(self) -> str:
        """Return the type: `manual`, `schedule` or `webhook`."""
        return str(self.__struct_config__.tag)


class ManualTrigger(_Trigger, frozen=True, kw_only=True, tag="manual"):
    """Starts runs on demand, through the API, the CLI or the dashboard."""

    enabled: bool = True
    """Whether it may start runs."""
    config: ManualConfig = field(default_factory=ManualConfig)
    """There is nothing to configure."""


class ScheduleConfig(Spec, frozen=True, kw_only=True):
    """A cron schedule: its zone, its parameters, and how missed and overlapping times are handled."""

    cron_expression: Text
    """Five fields: minute, hour, day of month, month, day of week; or a preset such as `@daily`."""
    timezone: Text = "UTC"
    """The IANA name of the zone in which the fields are read: `Europe/Berlin`."""
    param_mapping: Mapping = {}
    """The parameters of every run, as constant values."""
    misfire: Misfire = "last"
    """The times that passed while no scheduler was running: run the `last` one, `skip` them, or run `all`."""
    max_catch_up: Annotated[int, Meta(ge=1, le=1000)] = 10
    """With `misfire: all`: the most missed runs that are started."""
    overlap: Overlap = "queue"
    """When the previous run has not ended: `queue` the next one behind it, or `skip` it."""


class ScheduleTrigger(_Trigger, frozen=True, kw_only=True, tag="schedule"):
    """Starts runs at scheduled times."""

    enabled: bool = True
    """Whether it may start runs."""
    config: ScheduleConfig
    """The schedule, and the parameters of its runs."""


class WebhookConfig(Spec, frozen=True, kw_only=True):
    """A webhook: its URL, how requests prove their sender, and the parameters that they give to runs."""

    path: Text
    """The last part of the URL `/api/hooks/{path}`: a-z, 0-9 and dashes."""
    secret: SecretRef | None = None
    """The secret by which the sender signs, by name: `{name: MY_SECRET}`."""
    previous_secret: SecretRef | None = None
    """The previous secret, which is still accepted during a rotation."""
    unsigned: bool = False
    """Accept requests without a secret, from anybody who knows the URL."""
    scheme: Scheme = "optio"
    """The signature scheme of the sender."""
    signature_header: HeaderName | None = None
    """With `scheme: hmac`: the header with the signature; `X-Signature` by default."""
    signature_encoding: Literal["hex", "base64"] = "hex"
    """With `scheme: hmac`: the encoding of the signature."""
    delivery_header: HeaderName | None = None
    """The header with the id of a delivery, by which repeated deliveries are recognised."""
    replay_window: ReplayWindow | None = None
    """During this time the same signed body with another delivery id is a replay and starts no run: `72h`, or `none`."""
    events: list[Text] | None = None
    """The event names that start a run, as the sender writes them. All others are accepted and ignored."""
    event_header: HeaderName | None = None
    """With `scheme: hmac`: the header that names the event."""
    event_path: Text | None = None
    """With `scheme: hmac`: the JSONPath of the event's name in the body."""
    when: Text | None = None
    """A filter on the payload, such as `@.action == 'opened'`; others are accepted and ignored."""
    param_mapping: Mapping | None = None
    """For each parameter a JSONPath into the payload, or `{literal: VALUE}`. Without a mapping the body itself is the
    parameters."""

    @property
    def replay_span(self) -> timedelta | None:
        """Return `replayWindow` as a duration, its default included; None for `none`."""
        span = self.replay_window or DEFAULT_REPLAY_WINDOW
        return None if span == "none" else text.parse_duration(span)


class WebhookTrigger(_Trigger, frozen=True, kw_only=True, tag="webhook"):
    """Starts a run for each signed HTTP POST to `/api/hooks/{path}`."""

    enabled: bool = True
    """Whether it may start runs."""
    config: WebhookConfig
    """The URL, the sender and the mapping of the webhook."""


Trigger = ManualTrigger | ScheduleTrigger | WebhookTrigger
