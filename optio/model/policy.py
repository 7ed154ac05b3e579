"""PolicySpec: what an organisation allows its tasks, whatever their files, templates and defaults say."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from optio.model.effect import Kind, Weight
from optio.model.task import INT32, Duration, Money, Runtime
from optio.model.trigger import Spec, Text, no_items, no_keys

Required = Literal["description", "model", "maxTurns", "budgetUsd", "timeout", "startLimit", "tests"]
Level = Literal["error", "warning", "info", "off"]
_EFFECTS = [*Weight, *Kind]


def _effect(name: str) -> str:
    if name not in _EFFECTS:
        raise ValueError("no effect")
    return name


Effect = Annotated[str, AfterValidator(_effect), Field(json_schema_extra={"enum": [str(name) for name in _EFFECTS]})]


class Ceilings(Spec):
    """The most that a task may ask for. What has a ceiling must be given."""

    budget_usd: Money | None = None
    """US dollars for a run, as text."""
    max_turns: Annotated[int, Field(ge=1, le=INT32)] | None = None
    """Turns of an agent."""
    timeout: Duration | None = None
    """The length of an attempt."""
    max_retries: Annotated[int, Field(ge=0, le=INT32)] | None = None
    """Further attempts."""
    max_concurrent: Annotated[int, Field(ge=1, le=INT32)] | None = None
    """Runs of one task at a time."""
    warm_pool_size: Annotated[int, Field(ge=0, le=INT32)] | None = None
    """Pods that are kept ready for one task."""
    day_usd: Money | None = None
    """US dollars that the triggers of one task may spend in any day at the worst, as text."""
    month_usd: Money | None = None
    """US dollars that the triggers of one task may spend in 30 days at the worst, as text."""


class Fleet(Spec):
    """The most that all tasks together may come to."""

    day_usd: Money | None = None
    """US dollars that all triggers may spend in any day at the worst, as text."""
    month_usd: Money | None = None
    """US dollars that all triggers may spend in 30 days at the worst, as text."""


class Allow(Spec):
    """Patterns, in which `*` stands for any text. What fits none of a list is refused; what has no list is not looked at."""

    runtimes: list[Runtime] | None = None
    """Agent runtimes."""
    models: list[Text] | None = None
    """Models; a task must name one of them."""
    images: list[Text] | None = None
    """Container images."""
    egress: list[Text] | None = None
    """Entries of `environment.network.egress`; a task must have that list."""
    secrets: list[Text] | None = None
    """Names of secrets."""


class PolicySpec(Spec):
    """A policy as written."""

    type: Literal["policy"]
    """`policy`."""
    description: str = ""
    """Whom to ask, and why it is so."""
    ceilings: Ceilings = Ceilings()
    """The most that a task may ask for."""
    fleet: Fleet = Fleet()
    """The most that all tasks together may come to."""
    require: list[Required] = Field(default_factory=no_items)
    """Keys that every task must have."""
    allow: Allow = Allow()
    """What tasks may use."""
    rules: dict[str, Level] = Field(default_factory=no_keys)
    """Severities of rules by their codes. An error stays one."""
    fail_on: list[Effect] = Field(default_factory=no_items)
    """Effects, or weights of effects, with which `optio plan` fails: `[danger, money-up]`."""
