"""PolicySpec: what an organisation allows its tasks, whatever their files, templates and defaults say."""

from typing import Literal

from msgspec import field

from optio.model.effect import EffectKind, EffectWeight
from optio.model.spec import Count, Duration, Money, Namespace, Positive, Spec, Text
from optio.model.task import Runtime

Required = Literal["description", "owner", "model", "maxTurns", "budgetUsd", "timeout", "startLimit", "tests"]
Level = Literal["error", "warning", "info", "off"]
EFFECTS = tuple(str(name) for name in (*EffectWeight, *EffectKind))
"""What `failOn` may name."""


class Ceilings(Spec, frozen=True, kw_only=True):
    """The most that a task may ask for. What has a ceiling must be given, but for `keepFailed`."""

    budget_usd: Money | None = None
    """US dollars for a run, as text."""
    max_turns: Positive | None = None
    """Turns of an agent."""
    timeout: Duration | None = None
    """The length of an attempt."""
    max_retries: Count | None = None
    """Further attempts."""
    max_concurrent: Positive | None = None
    """Runs of one task at a time."""
    warm_pool_size: Count | None = None
    """Pods that are kept ready for one task."""
    keep_failed: Duration | None = None
    """How long the pod of a failed run may stay (`environment.keepFailed`); a task need not have it."""
    day_usd: Money | None = None
    """US dollars that the triggers of one task may spend in any 24 hours at the worst, as text; webhooks need `startLimit`."""
    month_usd: Money | None = None
    """US dollars that the triggers of one task may spend in any 30 days, each of 24 hours, at the worst, as text; webhooks need
    `startLimit`."""


class Fleet(Spec, frozen=True, kw_only=True):
    """The most that all tasks together may come to."""

    day_usd: Money | None = None
    """US dollars that all triggers may spend in any 24 hours at the worst, as text."""
    month_usd: Money | None = None
    """US dollars that all triggers may spend in any 30 days, each of 24 hours, at the worst, as text."""


class Allow(Spec, frozen=True, kw_only=True):
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


class PolicySpec(Spec, frozen=True, kw_only=True):
    """A policy as written."""

    type: Literal["policy"]
    """`policy`."""
    description: str = ""
    """Whom to ask, and why it is so."""
    executor: Literal["kubernetes"] | None = None
    """Where the tree's tasks run. Workers with another executor refuse their runs, and `optio check` assumes this one."""
    namespaces: dict[Text, Namespace] = {}
    """The Kubernetes namespaces of the tasks' pods, by patterns of paths below the task directory, such as `team-a/*`. The
    first pattern that fits a task's file counts; a task that fits none has no namespace."""
    ceilings: Ceilings = field(default_factory=Ceilings)
    """The most that a task may ask for."""
    fleet: Fleet = field(default_factory=Fleet)
    """The most that all tasks together may come to."""
    require: list[Required] = []
    """Keys that every task must have."""
    allow: Allow = field(default_factory=Allow)
    """What tasks may use."""
    rules: dict[str, Level] = {}
    """Severities of rules by their codes. An error stays one."""
    new_month_usd: Money | None = None
    """US dollars, as text, that the triggers of a new or enabled task may spend in any 30 days at the worst before `optio plan`
    calls it a danger: `"100"` by default."""
    fail_on: list[str] = []
    """Effects, or weights of effects, with which `optio plan` fails: `[danger, money-up]`."""
