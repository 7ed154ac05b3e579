"""Worst cases: what the starts that a task's file allows may cost at most.

What is counted is every attempt that starts within a length of time, at its whole budget, of the runs that a schedule or a
webhook starts within it. What is not: runs that people and programs start by hand; runs that have waited since before, in a
queue or for a task that was paused, or that are caught up, which count when they were due; attempts that are repeated because
a machine was lost (at most five of a run); and the one call of a model by which an agent may be over its budget when it is
stopped.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from optio.model.task import TaskSpec

DAY, MONTH = timedelta(days=1), timedelta(days=30)
NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """`runs` that triggers start within a length of time, `attempts` of them all, and US dollars: None where the file sets no
    bound. `limited` says that `startLimit` is what keeps it there."""

    runs: int
    attempts: int
    usd: Decimal | None
    limited: bool = False


def a_run(spec: TaskSpec) -> Decimal | None:
    """What one run may cost with all its retries; None without a budget. Programs of one's own count as agents do."""
    return None if spec.budget is None else spec.budget * (1 + spec.max_retries)


def worst(spec: TaskSpec, *, fires: int, deliveries: int, over: timedelta) -> Worst:
    """So many fires of its schedule and deliveries to its webhook within `over` come to this at most."""
    if not spec.enabled:
        fires = deliveries = 0
    if spec.schedule is None or not spec.schedule.enabled:
        fires = 0
    if spec.webhook is None or not spec.webhook.enabled:
        deliveries = 0
    runs = fires + deliveries
    attempts = runs * (1 + spec.max_retries)
    limited = False
    if spec.start_limit is not None:
        # Of a window that is counted anywhere, so many lie in the time, and a retry is a start like any other.
        most = spec.start_limit.count * -(-over // spec.start_limit.window)
        limited = most < attempts
        runs, attempts = min(runs, most), min(attempts, most)
    usd = NOTHING if not attempts else None if spec.budget is None else spec.budget * attempts
    return Worst(runs=runs, attempts=attempts, usd=usd, limited=limited)


def deliveries_within(rate_per_minute: int, over: timedelta) -> int:
    """How many a webhook takes at most: so many in any minute."""
    return rate_per_minute * -(-over // timedelta(minutes=1))
