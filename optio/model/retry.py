"""Retry policy: which failed attempt is tried again, and when."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from optio.model.money import ZERO_USD, dollars, is_spent
from optio.model.run import Outcome, Run

FIRST_DELAY = timedelta(seconds=5)
MAX_DELAY = timedelta(minutes=10)
# An agent that names a later time is not believed: the run would never be seen to end.
MAX_FLOOR = timedelta(days=1)
# A machine that loses every attempt must not spin for ever.
MAX_INFRASTRUCTURE_RETRIES = 5


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Queue the run again, not before `at`."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The run has failed for good; `why` completes the message for people. `reason` is the run's, if not the attempt's own."""

    why: str
    reason: str | None = None


def decide_retry(
    run: Run, outcome: Outcome, *, now: datetime, jitter: float, budget: Decimal | None = None, spent: Decimal = ZERO_USD
) -> RetryAt | GiveUp:
    """5 s * 2^n, at most 10 min, plus up to a quarter of it (`jitter` in 0..1); the agent's own Retry-After is a floor.

    What is no fault of the task's is repeated at once, and after that with the same delays. Nothing is repeated once the run's
    attempts, this one too, have `spent` its `budget`.
    """
    if not outcome.again:
        return GiveUp("a second try cannot help")
    if outcome.infrastructure and run.infrastructure_retries >= MAX_INFRASTRUCTURE_RETRIES:
        return GiveUp(f"lost {run.infrastructure_retries} times")
    if not outcome.infrastructure and run.retries >= run.max_retries:
        return GiveUp("no retries left" if run.max_retries else "the task allows no retries")
    if budget is not None and is_spent(budget, spent):
        return GiveUp(f"no retry: {dollars(spent)} of the run's budget of {dollars(budget)} is spent", reason="budget")
    if outcome.infrastructure:
        before = run.infrastructure_retries - 1
        return RetryAt(now if before < 0 else now + _delay(before, jitter))
    # In this order a floor that is no number counts as the longest.
    floor = max(0.0, min(MAX_FLOOR.total_seconds(), outcome.not_before_s))
    return RetryAt(now + max(_delay(run.retries, jitter), timedelta(seconds=floor)))


def _delay(before: int, jitter: float) -> timedelta:
    delay: timedelta = min(FIRST_DELAY * 2 ** min(before, 20), MAX_DELAY)
    return delay * (1 + jitter / 4)
