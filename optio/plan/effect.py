"""The data that the modules of this package exchange: an effect, and the forecast it is computed for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from optio.model.effect import EffectKind, EffectWeight
from optio.model.registry import CompiledTask
from optio.model.route import Route

HORIZON = timedelta(days=30)
# 30-day spend from which a new task is a danger, unless the policy sets it. A daily run of one dollar plus its last call is
# just above.
NEW_MONTH_USD = Decimal(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One difference in behaviour. `text` describes it in a line, `lines` in more; `before` and `after` are the values where it
    has any; `route` is the key that causes it; `diff` is a unified diff of long text."""

    kind: EffectKind
    text: str
    weight: EffectWeight = EffectWeight.NOTICE
    before: str | None = None
    after: str | None = None
    lines: tuple[str, ...] = ()
    route: Route = ()
    diff: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The context of a plan: when the simulated 30 days begin, the newer tasks by webhook path (`hooks`), the ids whose webhook
    path changes (`moved`), and the 30-day spend from which a new task is a danger."""

    now: datetime
    hooks: Mapping[str, CompiledTask] = field(default_factory=dict)
    moved: Collection[str] = ()
    new_month_usd: Decimal = NEW_MONTH_USD

    @property
    def until(self) -> datetime:
        """The end of the simulated time, `HORIZON` after `now`."""
        return self.now + HORIZON


def value_change(
    kind: EffectKind, noun: str, was: str, now: str, route: Route, weight: EffectWeight = EffectWeight.NOTICE
) -> Effect:
    """Return the effect of a value that differs, as `timeout: 10m -> 20m`."""
    return Effect(kind=kind, text=f"{noun}: {was} -> {now}", weight=weight, before=was, after=now, route=route)


def trigger_route(task: CompiledTask | None, kind: str) -> Route:
    """Return the route of the `config` of a task's schedule or webhook, or of `triggers` if there is none."""
    types = [] if task is None else [trigger.type for trigger in task.spec.triggers]
    return ("triggers", types.index(kind), "config") if kind in types else ("triggers",)
