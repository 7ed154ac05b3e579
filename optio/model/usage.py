"""The usage of an attempt: tokens by sort, cost, and the origin of the cost. Runtimes measure it, and prices turn tokens into
cost. Runs are in `model.run`, which a check of task files does not load."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens by sort. `output` includes `reasoning`; `fresh` is input that was neither read from the cache (`cached`) nor
    written to it (`cache_write`)."""

    fresh: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            fresh=self.fresh + other.fresh,
            cached=self.cached + other.cached,
            cache_write=self.cache_write + other.cache_write,
            output=self.output + other.output,
            reasoning=self.reasoning + other.reasoning,
        )

    def beyond(self, part: "Usage") -> "Usage":
        """Return what this usage has and a part of it has not; no number is below zero."""
        return Usage(
            fresh=max(0, self.fresh - part.fresh),
            cached=max(0, self.cached - part.cached),
            cache_write=max(0, self.cache_write - part.cache_write),
            output=max(0, self.output - part.output),
            reasoning=max(0, self.reasoning - part.reasoning),
        )

    @property
    def total(self) -> int:
        """Return all tokens, each counted once: reasoning tokens are part of the output."""
        return self.fresh + self.cached + self.cache_write + self.output

    def to_json(self) -> dict[str, int]:
        """Return the tokens with camelCase keys, as the API and the store write them."""
        return {
            "fresh": self.fresh,
            "cached": self.cached,
            "cacheWrite": self.cache_write,
            "output": self.output,
            "reasoning": self.reasoning,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, int] | None) -> "Usage":
        """Rebuild a usage from `to_json`; None and missing keys count as zero."""
        data = data or {}
        return cls(
            fresh=data.get("fresh", 0),
            cached=data.get("cached", 0),
            cache_write=data.get("cacheWrite", 0),
            output=data.get("output", 0),
            reasoning=data.get("reasoning", 0),
        )


class CostSource(StrEnum):
    """The origin of a cost figure, the most reliable first."""

    CLI = "cli"  # the agent reported it
    PRICES = "prices"  # computed from reported tokens and list prices
    ESTIMATE = "estimate"  # computed from an estimate of the tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """The resources that an attempt has used so far. `turns` and `cost` (US dollars) are None where the agent does not report
    them."""

    usage: Usage = Usage()
    turns: int | None = None
    tool_calls: int = 0
    cost: Decimal | None = None
    cost_source: CostSource | None = None
