"""Totals of runs over some days: how they ended, how long they took, and what they cost. Pure.

The store counts them for each task and day. Each doubling of a duration has four buckets of equal width: 64 s to 80 s is one. A
quantile is interpolated in its bucket, so it is off by a quarter at the very most, and usually by a few hundredths.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from optio.model.usage import CostSource, Usage

_SECOND_US = 1_000_000
# From 2^20 seconds on (12 days) all buckets have one width.
_MAX_DOUBLINGS = 20


def bucket_of(duration_us: int) -> int:
    """Return the bucket of a duration in microseconds: 1 below a second, then four for each doubling."""
    if duration_us < _SECOND_US:
        return 1
    doublings = min((duration_us // _SECOND_US).bit_length() - 1, _MAX_DOUBLINGS)
    return 4 * doublings - 2 + duration_us * 4 // (_SECOND_US << doublings)


def _lower_us(bucket: int) -> int:
    """Return the shortest duration in a bucket."""
    if bucket < 2:
        return 0
    doublings = min((bucket - 2) // 4, _MAX_DOUBLINGS)
    return (bucket + 2 - 4 * doublings) * (_SECOND_US << doublings) // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTotals:
    """Sums over ended runs (`completed`, `failed`, `cancelled`) and over ended attempts (the rest). `unpriced` counts attempts
    with an unknown cost, `costs` has US dollars by their source, `durations` the completed runs by bucket."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    unpriced: int = 0
    usage: Usage = field(default_factory=Usage)
    costs: Mapping[CostSource, Decimal] = field(default_factory=dict)
    durations: Mapping[int, int] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """Return the number of runs that have ended."""
        return self.completed + self.failed + self.cancelled

    @property
    def success(self) -> float | None:
        """Return the share of completed runs among those that completed or failed; None if there is none."""
        judged = self.completed + self.failed
        return self.completed / judged if judged else None

    @property
    def cost(self) -> Decimal:
        """Return the known costs of all sources in US dollars."""
        return sum(self.costs.values(), Decimal(0))

    @property
    def cached_share(self) -> float | None:
        """Return the share of the read tokens that came from the provider's cache; None if none was read."""
        input_tokens = self.usage.fresh + self.usage.cached + self.usage.cache_write
        return self.usage.cached / input_tokens if input_tokens else None

    def duration_s(self) -> float | None:
        """Return the median duration of completed runs in seconds, interpolated in its bucket; None without any."""
        rest = 0.5 * sum(self.durations.values())
        for bucket in sorted(self.durations):
            count = self.durations[bucket]
            if count and rest <= count:
                low, high = _lower_us(bucket), _lower_us(bucket + 1)
                return (low + (high - low) * rest / count) / _SECOND_US
            rest -= count
        return None
