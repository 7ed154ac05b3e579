"""Triggers: what may start a run. At most one of each type in a task."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Misfire = Literal["last", "skip", "all"]
Overlap = Literal["queue", "skip"]
Scheme = Literal["optio", "github", "standard-webhooks", "hmac"]


class Spec(BaseModel):
    """A mapping of a task file: camelCase keys, no unknown keys, no coercion."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, validate_by_name=False, validate_by_alias=True
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


class ManualConfig(Spec):
    """Nothing to set: any caller with the operator role may start the task."""


class ManualTrigger(Spec):
    """Started on demand, by the API, the CLI or the dashboard."""

    type: Literal["manual"]
    enabled: bool = True
    config: ManualConfig = ManualConfig()


class ScheduleConfig(Spec):
    """When to fire, in which zone, with which parameters, and what happens to slots that were missed or overlap."""

    cron_expression: Text
    timezone: Text = "UTC"
    param_mapping: Mapping = Field(default_factory=dict)
    misfire: Misfire = "last"
    max_catch_up: Annotated[int, Field(ge=1, le=1000)] = 10
    overlap: Overlap = "queue"


class ScheduleTrigger(Spec):
    """Started by the clock."""

    type: Literal["schedule"]
    enabled: bool = True
    config: ScheduleConfig


class WebhookConfig(Spec):
    """Where an HTTP POST arrives, how it proves its sender, and what it hands to the run."""

    path: Text
    secret: SecretRef | None = None
    previous_secret: SecretRef | None = None
    unsigned: bool = False
    scheme: Scheme = "optio"
    signature_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=64)] | None = None
    signature_encoding: Literal["hex", "base64"] = "hex"
    delivery_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=64)] | None = None
    events: list[Text] | None = None
    when: Text | None = None
    param_mapping: Mapping | None = None


class WebhookTrigger(Spec):
    """Started by a signed HTTP POST to `/api/hooks/{path}`."""

    type: Literal["webhook"]
    enabled: bool = True
    config: WebhookConfig


Trigger = Annotated[ManualTrigger | ScheduleTrigger | WebhookTrigger, Field(discriminator="type")]
