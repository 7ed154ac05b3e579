"""An effect as data, and what the modules that find effects are told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from optio.model.effect import Kind, Weight
from optio.model.registry import CompiledTask
from optio.model.route import Route

HORIZON = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One thing that a task does differently. `text` says it in a line; `before` and `after` are the values, where there are
    some; `lines` say more; `route` is the key that does it."""

    kind: Kind
    text: str
    weight: Weight = Weight.NOTICE
    before: str | None = None
    after: str | None = None
    lines: tuple[str, ...] = ()
    route: Route = ()
    diff: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is foreseen: from when on, and the tasks of the newer side by the path of the webhook that starts them."""

    now: datetime
    hooks: Mapping[str, CompiledTask] = field(default_factory=dict)

    @property
    def until(self) -> datetime:
        """Where the simulation ends."""
        return self.now + HORIZON
