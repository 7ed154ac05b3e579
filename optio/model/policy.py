"""PolicySpec: the limits that an organisation sets for all tasks of a tree, whatever their files, templates and defaults say.
`optio.compiler.policy` applies it."""

from typing import Literal

from msgspec import field

from optio.model.effect import EffectKind, EffectWeight
from optio.model.spec import Count, Duration, Money, Namespace, Positive, Spec, Text
from optio.model.task import Runtime

Required = Literal["description", "owner", "model", "maxTurns", "budgetUsd", "timeout", "startLimit", "tests"]
Level = Literal["error", "warning", "info", "off"]
EFFECTS = tuple(str(name) for name in (*EffectWeight, *EffectKind))
"""The words that `failOn` accepts: weights and kinds of effects."""


class Ceilings(Spec, frozen=True, kw_only=True):
    """The most that a task may ask for. If a key has a ceiling, every task must set that key, except `keepFailed`."""

    budget_usd: Money | None = None
    """The most US dollars for one run, as text."""
    max_turns: Positive | None = None
    """The most turns of an agent."""
    timeout: Duration | None = None
    """The longest time limit of an attempt."""
    max_retries: Count | None = None
    """The most retries of a run."""
    max_concurrent: Positive | None = None
    """The most runs of one task at the same time."""
    warm_pool_size: Count | None = None
    """The most pods kept ready for one task."""
    keep_failed: Duration | None = None
    """The longest that the pod of a failed run may stay (`environment.keepFailed`); tasks need not set it."""
    day_usd: Money | None = None
    """The worst-case spend of one task's triggers in any 24 hours, in US dollars, as text. Webhooks then need `startLimit`."""
    month_usd: Money | None = None
    """The worst-case spend of one task's triggers in any 30 days of 24 hours, in US dollars, as text. Webhooks then need
    `startLimit`."""


class Fleet(Spec, frozen=True, kw_only=True):
    """Limits on all tasks together."""

    day_usd: Money | None = None
    """The worst-case spend of all triggers in any 24 hours, in US dollars, as text."""
    month_usd: Money | None = None
    """The worst-case spend of all triggers in any 30 days of 24 hours, in US dollars, as text."""


class Allow(Spec, frozen=True, kw_only=True):
    """Allow-lists of patterns, in which `*` stands for any text. A missing list allows everything."""

    runtimes: list[Runtime] | None = None
    """The allowed agent runtimes."""
    models: list[Text] | None = None
    """The allowed models; a task must name one of them."""
    images: list[Text] | None = None
    """The allowed container images."""
    egress: list[Text] | None = None
    """The allowed entries of `environment.network.egress`; a task must have that list. Hosts of connections must fit, too."""
    secrets: list[Text] | None = None
    """The names of the allowed secrets, those of connections included."""
    connections: list[Text] | None = None
    """The allowed connections, by the names of their files."""
    tools: list[Text] | None = None
    """The allowed tools of MCP servers, as `CONNECTION/TOOL`: `github/get_*`."""


class PolicySpec(Spec, frozen=True, kw_only=True):
    """A policy as its file states it."""

    type: Literal["policy"]
    """`policy`."""
    description: str = ""
    """The contact for questions, and the reasons for the policy."""
    executor: Literal["kubernetes"] | None = None
    """The executor of the tree's tasks. Workers with another one refuse their runs, and `optio check` assumes this one."""
    sandbox: Literal["isolated"] | None = None
    """The sandbox of the tree's tasks: with `isolated`, a worker refuses runs whose agents would be processes without a file
    system, process list and IPC of their own. Pods are isolated."""
    namespaces: dict[Text, Namespace] = {}
    """The Kubernetes namespaces of the tasks' pods, by patterns of paths below the task directory, such as `team-a/*`. The
    first pattern that matches a task's file applies; a task without a match has no namespace."""
    budget: Literal["enforce", "report"] | None = None
    """How budgets hold where the cost of a run is unknown: `report` is the default of tasks without `budget`, and with
    `enforce` no task may write `budget: report`."""
    ceilings: Ceilings = field(default_factory=Ceilings)
    """The most that a task may ask for."""
    fleet: Fleet = field(default_factory=Fleet)
    """Limits on all tasks together."""
    require: list[Required] = []
    """Keys that every task must have."""
    allow: Allow = field(default_factory=Allow)
    """The runtimes, models, images, hosts, secrets, connections and tools that tasks may use."""
    rules: dict[str, Level] = {}
    """The severities of rules, by code. Errors cannot be lowered."""
    new_month_usd: Money | None = None
    """The worst-case spend in any 30 days, in US dollars as text, from which `optio plan` marks a new or newly enabled task as
    a danger: `"100"` by default."""
    fail_on: list[str] = []
    """The effects, or weights of effects, on which `optio plan` fails: `[danger, money-up]`."""
