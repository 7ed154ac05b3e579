"""Triggers: what may start a run. At most one of each type in a task."""

from datetime import timedelta
from typing import Annotated, Literal

from msgspec import Meta, field

from optio.model import text
from optio.model.spec import HeaderName, Mapping, ReplayWindow, SecretName, Spec, Text

Misfire = Literal["last", "skip", "all"]
Overlap = Literal["queue", "skip"]
# Each is a row of `senders.SENDERS`.
Scheme = Literal["optio", "github", "gitlab", "gitea", "slack", "stripe", "pagerduty", "standard-webhooks", "hmac"]

# No usual period of a sender: a daily one with a constant body finds out at once, and a weekly one is never affected.
DEFAULT_REPLAY_WINDOW = "72h"


class SecretRef(Spec, frozen=True, kw_only=True):
    """A secret by name; its value never stands in a task file."""

    name: SecretName
    """The name of the secret."""


class ManualConfig(Spec, frozen=True, kw_only=True):
    """Nothing to set: any caller with the operator role may start the task."""


class _Trigger(Spec, frozen=True, tag_field="type"):
    @property
    def type(self) -> str:
        """`manual`, `schedule` or `webhook`."""
        return str(self.__struct_config__.tag)


class ManualTrigger(_Trigger, frozen=True, kw_only=True, tag="manual"):
    """Started on demand, by the API, the CLI or the dashboard."""

    enabled: bool = True
    """Whether it may start runs."""
    config: ManualConfig = field(default_factory=ManualConfig)
    """Nothing to set."""


class ScheduleConfig(Spec, frozen=True, kw_only=True):
    """When to fire, in which zone, with which parameters, and what happens to slots that were missed or overlap."""

    cron_expression: Text
    """Five fields: minute, hour, day of month, month, day of week. `@daily` and its like too."""
    timezone: Text = "UTC"
    """IANA name of the zone that the fields are read in: `Europe/Berlin`."""
    param_mapping: Mapping = {}
    """The parameters of every run, as fixed values."""
    misfire: Misfire = "last"
    """What happens to times that passed while nothing was running: run the last one, none, or all."""
    max_catch_up: Annotated[int, Meta(ge=1, le=1000)] = 10
    """With `misfire: all`: the most runs that are caught up."""
    overlap: Overlap = "queue"
    """What happens when the run before has not ended: wait in the queue, or skip."""


class ScheduleTrigger(_Trigger, frozen=True, kw_only=True, tag="schedule"):
    """Started by the clock."""

    enabled: bool = True
    """Whether it may start runs."""
    config: ScheduleConfig
    """When, and with what."""


class WebhookConfig(Spec, frozen=True, kw_only=True):
    """Where an HTTP POST arrives, how it proves its sender, and what it hands to the run."""

    path: Text
    """The last part of the URL `/api/hooks/{path}`: a-z, 0-9 and dashes."""
    secret: SecretRef | None = None
    """The secret that signs deliveries, by name: `{name: MY_SECRET}`."""
    previous_secret: SecretRef | None = None
    """The secret before a rotation; it is still accepted."""
    unsigned: bool = False
    """Take deliveries from anybody: there is no secret."""
    scheme: Scheme = "optio"
    """How deliveries are signed."""
    signature_header: HeaderName | None = None
    """With `scheme: hmac`: the header that carries the signature; `X-Signature` if none is given."""
    signature_encoding: Literal["hex", "base64"] = "hex"
    """With `scheme: hmac`: how the signature is written."""
    delivery_header: HeaderName | None = None
    """The header that carries the id of a delivery, for senders that repeat themselves."""
    replay_window: ReplayWindow | None = None
    """How long the same signed body under another delivery id is a replay, which starts no run: `72h` by default, or `none`."""
    events: list[Text] | None = None
    """The event names that start a run, as the sender writes them; all others are accepted and ignored."""
    event_header: HeaderName | None = None
    """With `scheme: hmac`: the header that names the event."""
    event_path: Text | None = None
    """With `scheme: hmac`: the JSONPath that names the event in the body."""
    when: Text | None = None
    """A filter over the payload: `@.action == 'opened'`."""
    param_mapping: Mapping | None = None
    """JSONPath into the payload for each parameter, or `{literal: VALUE}`. Without it the whole body is the parameters."""

    @property
    def replay_span(self) -> timedelta | None:
        """`replayWindow` as a duration; None for `none`."""
        written = self.replay_window or DEFAULT_REPLAY_WINDOW
        return None if written == "none" else text.parse_duration(written)


class WebhookTrigger(_Trigger, frozen=True, kw_only=True, tag="webhook"):
    """Started by a signed HTTP POST to `/api/hooks/{path}`."""

    enabled: bool = True
    """Whether it may start runs."""
    config: WebhookConfig
    """Where, from whom, and what is taken."""


Trigger = ManualTrigger | ScheduleTrigger | WebhookTrigger
