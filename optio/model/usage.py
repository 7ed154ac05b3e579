"""The usage of an attempt: tokens by sort, cost, and the origin of the cost. Runtimes measure it, and prices turn tokens into
cost. Runs are in `model.run`, which a check of task files does not load."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

import msgspec
from msgspec import Struct


class Usage(Struct, frozen=True, kw_only=True, rename="camel"):
    """Tokens by sort. `output` includes `reasoning`; `fresh` is input that was neither read from the cache (`cached`) nor
    written to it (`cache_write`)."""

    fresh: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    def beyond(self, part: "Usage") -> "Usage":
        """Return what this usage has and a part of it has not; no number is below zero."""
        return Usage(**{name: max(0, getattr(self, name) - getattr(part, name)) for name in self.__struct_fields__})

    @property
    def total(self) -> int:
        """Return all tokens, each counted once: reasoning tokens are part of the output."""
        return self.fresh + self.cached + self.cache_write + self.output

    def to_json(self) -> dict[str, int]:
        """Return the tokens with camelCase keys, as the API and the store write them."""
        tokens: dict[str, int] = msgspec.to_builtins(self)
        return tokens

    @classmethod
    def from_json(cls, data: Mapping[str, int] | None) -> "Usage":
        """Rebuild a usage from `to_json`; None and missing keys count as zero."""
        return msgspec.convert(data or {}, cls)


class CostSource(StrEnum):
    """The origin of a cost figure, the most reliable first."""

    CLI = "cli"  # the agent reported it
    PRICES = "prices"  # computed from reported tokens and list prices
    ESTIMATE = "estimate"  # computed from an estimate of the tokens


_ORIGINS: Mapping[str, str] = {
    CostSource.CLI: "as its agent tells",
    CostSource.PRICES: "by list prices",
    CostSource.ESTIMATE: "by an estimate",
}


def cost_origin(source: str | None, *, is_metered: bool) -> str:
    """Return where the cost of an attempt comes from, for people; nothing for an unknown cost. The gateway's figure is from
    prices too, and the gateway holds the budget."""
    return "" if source is None else "by the gateway" if is_metered else _ORIGINS[source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """The resources that an attempt has used so far. `turns` and `cost` (US dollars) are None where the agent does not report
    them."""

    usage: Usage = field(default_factory=Usage)
    turns: int | None = None
    tool_calls: int = 0
    cost: Decimal | None = None
    cost_source: CostSource | None = None
