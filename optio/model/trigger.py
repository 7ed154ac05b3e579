"""Triggers: what may start a run. At most one of each type in a task."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Misfire = Literal["last", "skip", "all"]
Overlap = Literal["queue", "skip"]
Scheme = Literal["optio", "github", "standard-webhooks", "hmac"]


def camel(name: str) -> str:
    """`max_turns` -> `maxTurns`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def no_items() -> list[Any]:
    """An empty list; pydantic takes 6 ms at import to look at `list` itself."""
    return []


def no_keys() -> dict[str, Any]:
    """An empty mapping."""
    return {}


class Spec(BaseModel):
    """A mapping of a task file: camelCase keys, no unknown keys, no coercion."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=camel, validate_by_name=False, validate_by_alias=True
    )


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("blank")
    return value


Text = Annotated[str, AfterValidator(_not_blank)]
Mapping = dict[str, Any]


class SecretRef(Spec):
    """A secret by name; its value never stands in a task file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
    """The name of the secret."""


class ManualConfig(Spec):
    """Nothing to set: any caller with the operator role may start the task."""


class ManualTrigger(Spec):
    """Started on demand, by the API, the CLI or the dashboard."""

    type: Literal["manual"]
    """`manual`."""
    enabled: bool = True
    """Whether it may start runs."""
    config: ManualConfig = ManualConfig()
    """Nothing to set."""


class ScheduleConfig(Spec):
    """When to fire, in which zone, with which parameters, and what happens to slots that were missed or overlap."""

    cron_expression: Text
    """Five fields: minute, hour, day of month, month, day of week. `@daily` and its like too."""
    timezone: Text = "UTC"
    """IANA name of the zone that the fields are read in: `Europe/Berlin`."""
    param_mapping: Mapping = Field(default_factory=no_keys)
    """The parameters of every run, as fixed values."""
    misfire: Misfire = "last"
    """What happens to times that passed while nothing was running: run the last one, none, or all."""
    max_catch_up: Annotated[int, Field(ge=1, le=1000)] = 10
    """With `misfire: all`: the most runs that are caught up."""
    overlap: Overlap = "queue"
    """What happens when the run before has not ended: wait in the queue, or skip."""


class ScheduleTrigger(Spec):
    """Started by the clock."""

    type: Literal["schedule"]
    """`schedule`."""
    enabled: bool = True
    """Whether it may start runs."""
    config: ScheduleConfig
    """When, and with what."""


class WebhookConfig(Spec):
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
    signature_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=64)] | None = None
    """With `scheme: hmac`: the header that carries the signature; `X-Signature` if none is given."""
    signature_encoding: Literal["hex", "base64"] = "hex"
    """With `scheme: hmac`: how the signature is written."""
    delivery_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=64)] | None = None
    """The header that carries the id of a delivery, for senders that repeat themselves."""
    events: list[Text] | None = None
    """The event names that start a run, as the sender's event header gives them; all others are accepted and ignored."""
    when: Text | None = None
    """A filter over the payload: `@.action == 'opened'`."""
    param_mapping: Mapping | None = None
    """JSONPath into the payload for each parameter, or `{literal: VALUE}`. Without it the whole body is the parameters."""


class WebhookTrigger(Spec):
    """Started by a signed HTTP POST to `/api/hooks/{path}`."""

    type: Literal["webhook"]
    """`webhook`."""
    enabled: bool = True
    """Whether it may start runs."""
    config: WebhookConfig
    """Where, from whom, and what is taken."""


Trigger = Annotated[ManualTrigger | ScheduleTrigger | WebhookTrigger, Field(discriminator="type")]
