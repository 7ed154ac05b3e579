"""An effect as data, and what the modules that find effects are told."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from optio.model.effect import EffectKind, EffectWeight
from optio.model.registry import CompiledTask
from optio.model.route import Route

HORIZON = timedelta(days=30)
# What a task that is new may spend unless the policy says so: a daily run of a dollar with its last call is more.
NEW_MONTH_USD = Decimal(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One thing that a task does differently. `text` says it in a line; `before` and `after` are the values, where there are
    some; `lines` say more; `route` is the key that does it."""

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
    """What is foreseen: from when on, the tasks of the newer side by the path of the webhook that starts them, and the ids of
    those that had another path before. A task that is new may spend so much in 30 days before it is a danger."""

    now: datetime
    hooks: Mapping[str, CompiledTask] = field(default_factory=dict)
    moved: Collection[str] = ()
    new_month_usd: Decimal = NEW_MONTH_USD

    @property
    def until(self) -> datetime:
        """Where the simulation ends."""
        return self.now + HORIZON
